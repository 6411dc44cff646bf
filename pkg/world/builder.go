package world

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/envoy"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// Builder keeps every class's head equal to what the world asks for. It builds a resource once for each service, tier and set of
// applying policies, and touches only what a change touches. It belongs to one goroutine.
type Builder struct {
	Past  Past      // of policies; nil: none has any. To be set before the first use
	Seen  time.Time // when the change was seen that the next Update takes in, for the heads that it makes
	Knows int       // the last vintage that it can build; to be set before the first use
	// Reshape, which tests may set, stands for what another release makes of a service.
	Reshape func(envoy.Target, *envoy.Compiled)

	world    *World
	services map[manifest.Key]*serviceState
	classes  map[ClassKey]*classState
	problems map[manifest.Key]error // services whose last build failed: what was built before stays in force
	strays   map[manifest.Key]error // services of whose endpoints no assignment can be made: likewise
	clashes  map[manifest.Key]error // tcp services whose local port another one has, for some caller

	namesakes map[manifest.Key]error // services whose clusterName another one has

	quarantined map[manifest.Key][]Quarantined          // by service
	pasts       map[*policy.Compiled][]*policy.Compiled // of quarantined policies
	unknown     map[*policy.Compiled]bool               // quarantined policies whose past could not be read

	log   Log
	batch *Batch // the step that is being built, if it will be in the log
	seats []bool // taken, of classes

	moves map[*view.View][]move // of this step, by the view that they begin at
	peers map[ClassKey]*Class   // the last class that was built, by its key without the service

	layers [envoy.Layers]layer // each as it was built last: most classes have the same
}

// serviceState is what the builder knows of one service in the present world.
type serviceState struct {
	service     *catalog.Service // with the backends that exist
	called      policy.Service
	policies    []*policy.Compiled // whose target covers it, least specific first
	assignments assignments        // of it and its subsets
	built       map[variant]*built // by tier, role and mask
	aliases     map[alias]*view.Resource
}

// variant is what tells the ways apart in which a service is built.
type variant struct {
	target  envoy.Target
	backend bool
	spare   bool
	mask    string // of the policies whose target covers it, those that apply
}

// built is a service as the proxies of one tier see it whose calls one set of policies applies to.
type built struct {
	envoy.Compiled
	policies, guardrails []manifest.Key
	port                 uint32 // of Local
}

// clusters are those that have endpoints.
func (b *built) clusters() []*view.Resource {
	return append([]*view.Resource{b.Cluster}, b.Subsets...)
}

func sameNames(a, b []*view.Resource) bool {
	return slices.EqualFunc(a, b, func(x, y *view.Resource) bool { return x.Name == y.Name })
}

// classState is what a class holds, by service.
type classState struct {
	class   *Class
	target  envoy.Target
	caller  policy.Caller
	roles   map[manifest.Key]role
	holds   map[manifest.Key]*built
	local   map[manifest.Key]bool // tcp services that have a listener of their own, or had
	aliases map[manifest.Key][]string
	layers  [envoy.Layers]map[manifest.Key]bool // services with keys in each runtime layer
}

// NewBuilder is a builder of an empty world.
func NewBuilder() *Builder {
	return &Builder{
		Knows:    envoy.Vintage,
		world:    &World{},
		services: map[manifest.Key]*serviceState{},
		classes:  map[ClassKey]*classState{},
		problems: map[manifest.Key]error{},
		strays:   map[manifest.Key]error{},
		clashes:  map[manifest.Key]error{},

		namesakes: map[manifest.Key]error{},

		quarantined: map[manifest.Key][]Quarantined{},
		pasts:       map[*policy.Compiled][]*policy.Compiled{},
		unknown:     map[*policy.Compiled]bool{},

		peers: map[ClassKey]*Class{},
	}
}

// World is the world that the heads were built from.
func (b *Builder) World() *World { return b.world }

// Problems are the services whose last build failed, with the reason.
func (b *Builder) Problems() map[manifest.Key]error {
	all := maps.Clone(b.problems)
	for _, more := range []map[manifest.Key]error{b.strays, b.clashes, b.namesakes} {
		for key, err := range more {
			all[key] = errors.Join(all[key], err)
		}
	}
	return all
}

// Update moves every class from the present world to next, which came about by c, and publishes the new heads.
func (b *Builder) Update(next *World, c Changes) {
	t := touch(b.world, next, c)
	renewed := t.revintage(b.world, next)
	if t.catalogue {
		b.clashes = map[manifest.Key]error{} // each class says anew what it meets
	}
	b.open(next)
	b.world, b.moves = next, map[*view.View][]move{}
	b.forget(c)
	b.refreshServices(t)
	t.order = sortedKeys(t.services) // the same changes in one order make one move of all classes
	for _, cs := range b.classes {
		if renewed {
			b.renew(cs)
		} else {
			b.updateClass(cs, t)
		}
	}
	b.moves = nil
	b.close()
}

// Join returns the class of that key, building it if no proxy has asked for it before.
func (b *Builder) Join(key ClassKey) *Class {
	if cs, ok := b.classes[key]; ok {
		return cs.class
	}
	cs := b.emptyClass(key)
	cs.class.seat, cs.class.born = b.seat(), b.world.Rev
	b.classes[key] = cs
	b.fill(cs)
	b.peers[key.peers()] = cs.class
	return cs.class
}

// fill builds everything that a new class holds.
func (b *Builder) fill(cs *classState) {
	changes := classChanges{framed: true}
	b.syncServices(cs, b.world.roles(cs.caller.Key), &changes)
	b.listen(cs, &changes)
	if cs.target.Layered() {
		changes.layers = allLayers()
	}
	b.publish(cs, changes)
}

// emptyClass is a class that holds nothing yet.
func (b *Builder) emptyClass(key ClassKey) *classState {
	cs := &classState{class: NewClass(key, &Head{}), target: b.target(key), holds: map[manifest.Key]*built{}, local: map[manifest.Key]bool{}, aliases: map[manifest.Key][]string{}}
	for i := range cs.layers {
		cs.layers[i] = map[manifest.Key]bool{}
	}
	cs.caller = b.world.Caller(cs.callerKey())
	return cs
}

// Drop forgets a class that no proxy belongs to any more.
func (b *Builder) Drop(key ClassKey) {
	if cs, ok := b.classes[key]; ok {
		b.seats[cs.class.seat] = false
		delete(b.classes, key)
		if peers := key.peers(); b.peers[peers] == cs.class {
			delete(b.peers, peers)
		}
	}
}

func (cs *classState) callerKey() manifest.Key {
	return manifest.Key{Namespace: cs.class.Key.Namespace, Name: cs.class.Key.Service}
}

// refreshServices brings the states of touched services up to the present world and forgets what was built for them.
func (b *Builder) refreshServices(t touched) {
	for key := range t.services {
		delete(b.quarantined, key)
		if s, ok := b.world.Service(key); ok {
			called := calledService(s)
			routed, fault := b.world.called(b.world.routed(s))
			if delete(b.namesakes, key); fault != nil {
				b.namesakes[key] = fault
			}
			state := &serviceState{service: routed, called: called, policies: b.world.Matching(called), built: map[variant]*built{}, aliases: map[alias]*view.Resource{}}
			if old, ok := b.services[key]; ok {
				state.assignments, state.aliases = old.assignments, old.aliases
			}
			b.services[key] = state
		} else {
			delete(b.services, key)
			delete(b.problems, key)
			delete(b.strays, key)
			delete(b.namesakes, key)
		}
	}
	for key := range t.endpoints {
		if state, ok := b.services[key]; ok {
			b.assign(state)
		}
	}
}

// assign makes the assignments of a service. Where an endpoint can't be built, what was built before stays in force, and at a start
// the others go without it.
func (b *Builder) assign(state *serviceState) {
	key := state.service.Key()
	endpoints := b.world.Serving(key)
	delete(b.strays, key)
	var fresh assignments
	err := Safely(func() (err error) { fresh, err = assignmentsOf(state.service, endpoints); return err })
	broken := err != nil
	if broken {
		b.strays[key] = fmt.Errorf("endpoints of %s: %w", key, err)
		if fresh, err = assignmentsOf(state.service, sound(state.service, endpoints)); err != nil {
			return
		}
	}
	fresh.keep(state.assignments, broken)
	state.assignments = fresh
}

// sound are the endpoints of svc that can be built.
func sound(svc *catalog.Service, endpoints []catalog.Endpoint) []catalog.Endpoint {
	var list []catalog.Endpoint
	for _, e := range endpoints {
		if _, err := envoy.Assignment(svc, []catalog.Endpoint{e}); err == nil {
			list = append(list, e)
		}
	}
	return list
}

// frame is what every class holds: the listener, with the filters that some of the services that are called need there.
func (b *Builder) frame(cs *classState, c *classChanges) {
	var own []envoy.Filter
	for _, key := range slices.SortedFunc(maps.Keys(cs.holds), manifest.Key.Compare) {
		if cs.roles[key].called {
			own = append(own, cs.holds[key].Filters...)
		}
	}
	var list []*view.Resource
	err := Safely(func() (err error) { list, err = cs.target.Frame(cs.class.Key.Outbound, own...); return err })
	if err != nil {
		// The address was checked when the proxy joined; without a listener the proxy stays dark, which its book shows.
		b.problems[cs.callerKey()] = fmt.Errorf("listener on %s: %w", cs.class.Key.Outbound, err)
		return
	}
	c.putAll(list)
}

func (b *Builder) updateClass(cs *classState, t touched) {
	var c classChanges
	self := t.callers[cs.caller.Key]
	if self {
		cs.caller = b.world.Caller(cs.caller.Key)
	}
	if t.catalogue || self {
		b.syncServices(cs, b.world.roles(cs.caller.Key), &c)
	}
	rebuilt := t.order
	if self { // its labels may have moved it in or out of a policy's from
		rebuilt = slices.Collect(maps.Keys(cs.holds))
	}
	for _, key := range rebuilt {
		if _, ok := cs.holds[key]; ok {
			b.setService(cs, key, &c)
		}
	}
	for key := range t.endpoints {
		if held, ok := cs.holds[key]; ok {
			c.assign(held, b.services[key].assignments)
		}
	}
	if t.catalogue || self {
		b.listen(cs, &c)
	}
	b.publish(cs, c)
}

// listen gives each tcp service its listener. Of those that want one port the first by name has it: a proxy refuses a second one.
func (b *Builder) listen(cs *classState, c *classChanges) {
	taken := map[string]string{cs.class.Key.Outbound: "the proxy itself"}
	for _, key := range sortedKeys(cs.local) {
		held := cs.holds[key]
		if held == nil || held.Local == nil || !cs.roles[key].called {
			delete(cs.local, key)
			c.remove(view.LDS, key.String())
			continue
		}
		at := fmt.Sprintf("127.0.0.1:%d", held.port)
		if by, clash := taken[at]; clash {
			b.clashes[key] = fmt.Errorf("service %s: proxies of %s can't listen at its local port: %s has %s", key, cs.caller.Key, by, at)
			c.remove(view.LDS, key.String())
			continue
		}
		taken[at] = key.String()
		c.put(held.Local)
	}
}

// syncServices makes cs hold exactly the services that have a role for it.
func (b *Builder) syncServices(cs *classState, roles map[manifest.Key]role, c *classChanges) {
	before := cs.roles
	cs.roles = roles
	for key, now := range roles {
		if _, held := cs.holds[key]; held && before[key] == now {
			continue
		}
		b.ensureState(key)
		b.setService(cs, key, c)
	}
	for key := range cs.holds {
		if _, keep := roles[key]; !keep {
			cs.dropService(key, c)
		}
	}
}

// ensureState builds the state of a service that no class has asked for before.
func (b *Builder) ensureState(key manifest.Key) {
	if _, ok := b.services[key]; !ok {
		b.refreshServices(touched{services: map[manifest.Key]bool{key: true}, endpoints: map[manifest.Key]bool{key: true}})
	}
}

// setService puts the present resources of a service into cs. A build that fails leaves what cs holds in force.
func (b *Builder) setService(cs *classState, key manifest.Key, c *classChanges) {
	state := b.services[key]
	now, err := b.build(state, cs)
	if err != nil {
		b.problems[key] = err
		if cs.holds[key] == nil {
			return
		}
		now = cs.holds[key]
	} else {
		delete(b.problems, key)
	}
	old := cs.holds[key]
	cs.holds[key] = now
	c.framed = c.framed || len(now.Filters) > 0 || old != nil && len(old.Filters) > 0
	c.putAll(now.clusters())
	c.putAll(now.Composites)
	c.putAll(now.Faults)
	if old == nil || !sameNames(old.clusters(), now.clusters()) {
		c.assign(now, state.assignments)
	}
	if old != nil {
		c.removeGone(old.Faults, now.Faults)
		c.removeClusters(old.clusters(), now.clusters())
		c.removeClusters(old.Composites, now.Composites)
	}
	cs.setRoutes(b.world, state, now, c)
	if old == nil || !slices.Equal(old.Limits, now.Limits) {
		cs.setLimits(key, now.Limits, c)
	}
}

// setRoutes leads the hosts of a service to its routes, unless it is only a backend or a fallback, which nobody calls by its name.
func (cs *classState) setRoutes(w *World, state *serviceState, now *built, c *classChanges) {
	key := state.service.Key()
	if now.Local != nil {
		cs.local[key] = true
	}
	if cs.roles[key].called && now.Route != nil {
		c.put(now.Route)
		cs.setScopes(state, w.aliases(state.service, cs.caller.Namespace), c)
		return
	}
	c.remove(view.RDS, key.String())
	cs.removeScopes(key, nil, c)
}

// build makes the resources of a service as cs sees it, once for each tier, role and set of policies. Those that make that fail are
// quarantined.
func (b *Builder) build(state *serviceState, cs *classState) (*built, error) {
	target := cs.target
	var applied []*policy.Compiled
	mask := make([]byte, len(state.policies))
	for i, p := range state.policies {
		mask[i] = '-'
		if p.Applies(state.called, cs.caller) {
			applied, mask[i] = append(applied, p), 'x'
		}
	}
	as := cs.roles[state.service.Key()]
	id := variant{target, as.backend, as.spare, string(mask)}
	if found, ok := state.built[id]; ok {
		return found, nil
	}
	shared := true
	now, err := b.compile(state, cs, applied)
	if err != nil {
		now, shared, err = b.contain(state, cs, applied, err)
	}
	if err != nil {
		return nil, fmt.Errorf("compile %s for %s: %w", state.service.Key(), cs.caller.Key, err)
	}
	if shared {
		state.built[id] = now
	}
	return now, nil
}

// compile makes the resources of a service as cs sees it under these policies.
func (b *Builder) compile(state *serviceState, cs *classState, applied []*policy.Compiled) (now *built, err error) {
	target, as, compile := cs.target, cs.roles[state.service.Key()], envoy.Service
	if as.backend {
		compile = envoy.Backend
	}
	err = Safely(func() error {
		taken := make([]*policy.Compiled, len(applied))
		for i, p := range applied {
			taken[i] = target.Taken(p)
		}
		effective := policy.Result(state.called, taken)
		b.world.dropMissing(effective)
		compiled, err := compile(target, state.service, effective)
		if err == nil && as.spare {
			err = compiled.Spare(target, state.service, effective)
		}
		if err == nil && b.Reshape != nil {
			b.Reshape(target, &compiled)
		}
		now = &built{Compiled: compiled, policies: effective.AllPolicies(), guardrails: effective.AllGuardrails()}
		return err
	})
	if p := state.service.Spec.LocalPort; p != nil && now != nil {
		now.port = *p
	}
	return now, err
}

func (cs *classState) dropService(key manifest.Key, c *classChanges) {
	c.remove(view.RDS, key.String())
	c.removeClusters(cs.holds[key].clusters(), nil)
	c.framed = c.framed || len(cs.holds[key].Filters) > 0
	c.removeClusters(cs.holds[key].Composites, nil)
	c.removeGone(cs.holds[key].Faults, nil)
	cs.removeScopes(key, nil, c)
	cs.setLimits(key, nil, c)
	delete(cs.holds, key)
	delete(cs.aliases, key)
}

// setScopes makes aliases the hosts that lead to a service. What leads there is made of names alone.
func (cs *classState) setScopes(state *serviceState, aliases []string, c *classChanges) {
	key := state.service.Key()
	if slices.Equal(cs.aliases[key], aliases) {
		return
	}
	for _, host := range aliases {
		c.put(state.alias(cs.target, host))
	}
	cs.removeScopes(key, aliases, c)
}

// alias is one host that leads to a service, for all classes that can take the same.
type alias struct {
	typ     view.Type
	vintage int
	host    string
}

func (s *serviceState) alias(target envoy.Target, host string) *view.Resource {
	as := alias{target.Aliases(), target.Vintage, host}
	r := s.aliases[as]
	if r == nil {
		r = target.Alias(host, s.service.Key())
		s.aliases[as] = r
	}
	return r
}

// removeScopes leaves a service only those hosts that are in keep.
func (cs *classState) removeScopes(key manifest.Key, keep []string, c *classChanges) {
	for _, host := range cs.aliases[key] {
		if !slices.Contains(keep, host) {
			c.remove(cs.target.Aliases(), host)
		}
	}
	cs.aliases[key] = keep
}

func (cs *classState) setLimits(key manifest.Key, limits []envoy.RuntimeKey, c *classChanges) {
	layer := envoy.LayerOf(key.String())
	if len(limits) == 0 && !cs.layers[layer][key] {
		return
	}
	if len(limits) == 0 {
		delete(cs.layers[layer], key)
	} else {
		cs.layers[layer][key] = true
	}
	if c.layers == nil {
		c.layers = map[int]bool{}
	}
	c.layers[layer] = true
}

func allLayers() map[int]bool {
	all := map[int]bool{}
	for i := range envoy.Layers {
		all[i] = true
	}
	return all
}

// publish applies c to the head of cs and wakes its streams, if anything differs.
func (b *Builder) publish(cs *classState, c classChanges) {
	for layer := range envoy.Layers {
		if !c.layers[layer] {
			continue
		}
		var r *view.Resource
		err := Safely(func() (err error) { r, err = b.layer(layer, cs.limitsOf(layer)); return err })
		if err != nil {
			b.problems[cs.callerKey()] = fmt.Errorf("runtime layer %d: %w", layer, err)
		} else {
			c.put(r)
		}
	}
	if c.framed {
		b.frame(cs, &c)
	}
	old := cs.class.Head()
	head := &Head{Rev: b.world.Rev, Views: old.Views, Seen: old.Seen}
	for t := range c.views {
		head.Views[t] = b.move(cs, view.Type(t), moved(c.views[t]))
	}
	if head.Views == old.Views {
		cs.class.advance(head)
		return
	}
	head.Seen = b.Seen
	b.batch.note(cs.class, old, head)
	cs.class.Publish(head)
}

func (cs *classState) limitsOf(layer int) []envoy.RuntimeKey {
	var keys []envoy.RuntimeKey
	for _, service := range sortedKeys(cs.layers[layer]) {
		keys = append(keys, cs.holds[service].Limits...)
	}
	slices.SortFunc(keys, func(a, b envoy.RuntimeKey) int { return strings.Compare(a.Key, b.Key) })
	return keys
}
