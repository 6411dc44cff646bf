package xds

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// reference is a proxy in plain maps: what Envoy does with what it is sent, and the rules that no server may break.
type reference struct {
	rng      *rand.Rand
	world    *worldly                       // nil: it speaks delta
	wanted   [view.NumTypes]map[string]bool // nil: not asked for yet; empty: everything, or nothing
	held     [view.NumTypes]map[string]*view.Resource
	warming  map[string]*view.Resource // clusters that wait for an assignment
	checking map[string]bool           // those that have it, and wait for the health of their hosts
	reported map[string]*view.Resource // clusters of accepted responses: what a reconnect tells
	empty    map[string]bool           // clusters that went live without hosts
	withheld []request                 // answers to CDS while anything warms
	paused   bool                      // the CDS request of a reconnect waits likewise
	dirty    bool                      // held names may call for other subscriptions
	out      []request
	got      int // resources
	faults   []string
}

func newReference(rng *rand.Rand, world bool) *reference {
	c := &reference{rng: rng, warming: map[string]*view.Resource{}, checking: map[string]bool{}, empty: map[string]bool{}, reported: map[string]*view.Resource{}}
	for t := range view.NumTypes {
		c.held[t] = map[string]*view.Resource{}
	}
	if world {
		c.world = newWorldly()
	}
	c.open(view.RTDS, map[string]bool{"limits-0": true, "limits-1": true, "of-nobody": true})
	c.open(view.CDS, map[string]bool{})
	return c
}

func (c *reference) fault(format string, args ...any) {
	c.faults = append(c.faults, fmt.Sprintf(format, args...))
}

func (c *reference) open(t view.Type, names map[string]bool) {
	c.wanted[t] = names
	c.say(request{typ: t, subscribe: slices.Sorted(maps.Keys(names)), known: c.known(t)})
}

// say puts a request on its way.
func (c *reference) say(q request) { c.out = append(c.out, c.form(q)) }

func (c *reference) known(t view.Type) map[string]string {
	held := c.held[t]
	if t == view.CDS {
		held = c.reported
	}
	known := map[string]string{}
	for n, r := range held {
		known[n] = r.Version
	}
	return known
}

func (c *reference) wants(id view.ID) bool {
	return c.wanted[id.Type] != nil && (wildcardByDefault(id.Type) || c.wanted[id.Type][id.Name])
}

// reconnect drops the stream. Every type is asked for at once, but CDS only when nothing warms.
func (c *reference) reconnect() {
	if c.dirty {
		c.settle() // a proxy acts on a response at once; an unsubscription that crosses a response would be no server's fault
	}
	c.out, c.withheld, c.paused = nil, nil, false
	clear(c.empty) // the versions that it tells are right, so no server can know
	c.forget()
	for t := range view.NumTypes {
		switch {
		case c.wanted[t] == nil:
		case t == view.CDS && len(c.warming) > 0:
			c.paused = true
		default:
			c.open(t, c.wanted[t])
		}
	}
}

// accepted reports whether a response that was accepted brought id; the good part of a rejected one is nothing a server knows of.
func (c *reference) accepted(id view.ID) bool {
	if id.Type == view.CDS {
		r := c.reported[id.Name]
		return r != nil && !c.hidden(r)
	}
	return c.held[id.Type][id.Name] != nil
}

func bad(r *view.Resource) bool { return strings.Contains(string(r.Any()), "bad") }

// receive is the whole of what a proxy does with one response.
func (c *reference) receive(m *response) {
	c.got += len(m.set)
	var wrong []string
	for _, r := range m.set {
		if r.Type != m.typ || slices.Contains(m.gone, r.Name) {
			c.fault("%v is set in a response of %s that removes %v", r.ID(), m.typ, m.gone)
		}
		if bad(r) {
			wrong = append(wrong, r.Name)
		}
	}
	gone := c.gone(m)
	reply := request{typ: m.typ, nonce: m.nonce}
	if len(wrong) > 0 {
		reply.rejected, reply.text = true, c.complaint(wrong, m)
	}
	if len(wrong) == 0 || c.rng.IntN(2) == 0 { // of a rejected response, nothing or the good part is applied
		for _, r := range m.set {
			if !bad(r) {
				c.apply(r, len(wrong) == 0)
			}
		}
		for _, name := range gone {
			c.remove(m.typ, name)
		}
	}
	for _, name := range m.gone {
		c.remove(m.typ, name)
	}
	if m.typ == view.EDS && len(wrong) > 0 {
		for name := range c.warming {
			if !c.checking[name] {
				c.empty[name] = true // without hosts until its assignment comes again
			}
			c.warm(name)
		}
	}
	if m.typ == view.CDS {
		c.withheld = append(c.withheld, c.form(reply))
	} else {
		c.say(reply)
	}
	c.dirty = true
}

func (c *reference) complaint(wrong []string, m *response) string {
	switch c.rng.IntN(4) {
	case 0:
		return "invalid: " + strings.Join(wrong, ", ")
	case 1:
		return "first of all " + wrong[0] + "."
	case 2:
		return "bad in " + wrong[0] + " which names " + m.set[c.rng.IntN(len(m.set))].Name
	}
	return "malformed IP address: 1.2.3"
}

func (c *reference) apply(r *view.Resource, accepted bool) {
	if !c.wants(r.ID()) {
		return // no longer wanted
	}
	switch r.Type {
	case view.CDS:
		if accepted {
			c.reported[r.Name] = r
			c.renew(r)
		}
		if old := c.held[view.CDS][r.Name]; old != nil && old.Version == r.Version && c.warming[r.Name] == nil {
			return // an identical cluster is skipped
		}
		if len(r.Needs) > 0 {
			c.lead(r)
			return
		}
		c.warming[r.Name] = r
		delete(c.checking, r.Name)
		return
	case view.EDS:
		if !accepted {
			break
		}
		if w := c.warming[r.Name]; w != nil && !w.Prompt {
			c.checking[r.Name] = true
		} else {
			c.warm(r.Name)
		}
		delete(c.empty, r.Name)
	case view.RDS:
		for _, need := range r.Needs {
			if c.held[view.CDS][need.Name] == nil {
				c.fault("%v names %v, which the proxy does not have", r.ID(), need)
			}
		}
	case view.SRDS:
		c.moved(r)
	}
	c.held[r.Type][r.Name] = r
	c.renew(r)
}

// lead takes a cluster that leads to others: it has no assignment, and serves at once.
func (c *reference) lead(r *view.Resource) {
	for _, need := range r.Needs {
		if c.held[view.CDS][need.Name] == nil {
			c.fault("%v leads to %v, which the proxy does not have", r.ID(), need)
		}
	}
	c.held[view.CDS][r.Name] = r
}

// moved checks that an alias never moves to a route configuration that is not there.
func (c *reference) moved(r *view.Resource) {
	old := c.held[view.SRDS][r.Name]
	if old == nil || c.held[view.RDS][old.Needs[0].Name] == nil || c.hidden(old) {
		return
	}
	if c.held[view.RDS][r.Needs[0].Name] == nil {
		c.fault("scope %s moves to %v, which the proxy does not have", r.Name, r.Needs[0])
	}
}

func (c *reference) warm(name string) {
	if r := c.warming[name]; r != nil {
		c.held[view.CDS][name] = r
		delete(c.warming, name)
		delete(c.checking, name)
	}
}

func (c *reference) remove(t view.Type, name string) {
	switch t {
	case view.EDS:
		c.warm(name) // it goes live, empty; one that has an assignment keeps it
		return
	case view.RDS:
		if c.held[view.RDS][name] == nil && c.wanted[view.RDS][name] {
			c.fault("route configuration %s is answered by its removal: a listener would warm for ever", name)
		}
		return // ignored
	case view.CDS:
		for _, scope := range c.held[view.SRDS] {
			rc := c.held[view.RDS][scope.Needs[0].Name]
			if rc != nil && !c.hidden(rc) && c.leads(rc, view.ID{Type: view.CDS, Name: name}) {
				c.fault("cluster %s goes while %v names it", name, rc.ID())
			}
		}
		delete(c.warming, name)
		delete(c.checking, name)
		delete(c.reported, name)
	}
	delete(c.held[t], name)
}

// leads reports whether r names a cluster, or one that leads to it.
func (c *reference) leads(r *view.Resource, cluster view.ID) bool {
	return slices.ContainsFunc(r.Needs, func(need view.ID) bool {
		through := c.held[view.CDS][need.Name]
		return need == cluster || through != nil && slices.Contains(through.Needs, cluster)
	})
}

// settle does what a proxy does by itself: it answers CDS once nothing warms, and asks for what its resources name.
func (c *reference) settle() {
	for _, name := range slices.Sorted(maps.Keys(c.checking)) {
		if c.rng.IntN(3) == 0 {
			c.warm(name)
		}
	}
	c.dirty = len(c.checking) > 0
	names := map[string]bool{}
	for n, r := range c.held[view.CDS] {
		if len(r.Needs) == 0 {
			names[n] = true
		}
	}
	for n := range c.warming {
		names[n] = true
	}
	c.subscribe(view.EDS, names)
	if len(c.warming) == 0 {
		if len(c.withheld) > 0 && c.wanted[view.LDS] == nil {
			c.open(view.LDS, map[string]bool{})
		}
		c.out = append(c.out, c.withheld...)
		c.withheld = nil
		if c.paused {
			c.paused = false
			c.open(view.CDS, c.wanted[view.CDS])
		}
	}
	if len(c.held[view.LDS]) > 0 && c.wanted[view.SRDS] == nil {
		c.open(view.SRDS, map[string]bool{})
	}
	routes := map[string]bool{}
	for _, scope := range c.held[view.SRDS] {
		routes[scope.Needs[0].Name] = true
	}
	c.subscribe(view.RDS, routes)
}

func (c *reference) subscribe(t view.Type, names map[string]bool) {
	if c.wanted[t] == nil {
		if len(names) > 0 {
			c.open(t, names)
		}
		return
	}
	q := request{typ: t}
	for _, n := range slices.Sorted(maps.Keys(names)) {
		if !c.wanted[t][n] {
			q.subscribe = append(q.subscribe, n)
		}
	}
	for _, n := range slices.Sorted(maps.Keys(c.wanted[t])) {
		if !names[n] {
			q.unsubscribe = append(q.unsubscribe, n)
			delete(c.held[t], n)
		}
	}
	c.wanted[t] = names
	if len(q.subscribe)+len(q.unsubscribe) > 0 {
		c.say(q)
	}
}

// fidget subscribes again to a name that it has, or drops and takes it.
func (c *reference) fidget() {
	t := []view.Type{view.EDS, view.RDS, view.RTDS}[c.rng.IntN(3)]
	all := slices.Sorted(maps.Keys(c.wanted[t]))
	if len(all) == 0 {
		return
	}
	name := all[c.rng.IntN(len(all))]
	if t == view.EDS && c.rng.IntN(2) == 0 {
		delete(c.held[t], name)
		delete(c.wanted[t], name)
		c.say(request{typ: t, unsubscribe: []string{name}})
		c.wanted[t][name] = true
	}
	c.say(request{typ: t, subscribe: []string{name}})
}

// lose drops a route configuration and takes it again in one go. Envoy asks for such a one without a word of the drop, and has
// nothing until the answer comes.
func (c *reference) lose() {
	all := slices.Sorted(maps.Keys(c.wanted[view.RDS]))
	if len(all) == 0 {
		return
	}
	name := all[c.rng.IntN(len(all))]
	delete(c.held[view.RDS], name)
	c.say(request{typ: view.RDS, subscribe: []string{name}})
}
