package policy

import (
	"encoding/binary"
	"slices"
	"strings"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// Violation is a merge that came out invalid.
type Violation struct {
	Problem
	Service manifest.Key // one of those it concerns; without a name: any other of its namespace, zero: any other at all
	Caller  manifest.Key // likewise
	// Refused: the write is at fault, since all whose values clash belong to the namespace of a written policy or to the root.
	// Otherwise the section falls back, and the condition is the only sign.
	Refused bool
	// Written are the written policies that take part in the result.
	Written []*Compiled
}

// Check merges what applies to every service and caller that a policy of written (nil: any) covers, and lists what comes out
// invalid. Services and callers are those of the catalogue; those that policies merely name, and any other, are added. Callers
// to whom the same policies apply are judged once.
func Check(services []Service, callers []Caller, all []*Compiled, written map[manifest.Key]bool) []Violation {
	found := check(services, callers, all, written)
	return append(found, check(services, callers, observing(all), written)...)
}

func check(services []Service, callers []Caller, all []*Compiled, written map[manifest.Key]bool) []Violation {
	if len(all) == 0 {
		return nil
	}
	c := newChecker(callers, all, written)
	for _, svc := range withNamedServices(services, c.all, c.aimedAt) {
		if c.concerns(&svc) {
			c.service(&svc)
		}
	}
	return c.found
}

// checker judges sets of policies, each once.
type checker struct {
	all        []*Compiled // least specific first
	written    []bool      // by index in all
	catalogued []Caller
	callers    []Caller    // once one was needed, with those that policies name
	covered    [][]int     // by index in all, once it was needed: the callers that a policy with a source covers; nil for one without
	judges     []*Compiled // those that are written
	byTo       toIndex
	judged     map[string]bool // sets of policies
	seen       map[string]bool // what matches a service
	found      []Violation
}

// toIndex finds the policies that may match a service without looking at all of them.
type toIndex struct {
	named     map[manifest.Key][]int
	namespace map[string][]int // "*" and selectors, Every included
}

func newChecker(callers []Caller, all []*Compiled, written map[manifest.Key]bool) *checker {
	c := &checker{all: slices.Clone(all), catalogued: callers, judged: make(map[string]bool), seen: make(map[string]bool)}
	slices.SortFunc(c.all, (*Compiled).Compare)
	c.written = make([]bool, len(c.all))
	c.covered = make([][]int, len(c.all))
	c.byTo = toIndex{make(map[manifest.Key][]int), make(map[string][]int)}
	for i, p := range c.all {
		if c.written[i] = written == nil || written[p.Policy.Key()]; c.written[i] {
			c.judges = append(c.judges, p)
		}
		if p.rank.to >= toService {
			key := manifest.Key{Namespace: p.toNamespace, Name: p.Policy.Spec.To.Service}
			c.byTo.named[key] = append(c.byTo.named[key], i)
		} else {
			c.byTo.namespace[p.toNamespace] = append(c.byTo.namespace[p.toNamespace], i)
		}
	}
	return c
}

// parties are the services or callers to judge. Someone without a name is any other of its namespace with these labels.
type parties struct {
	namespaces []string // all there are, and none
	known      map[string]bool
	list       []Caller
}

func newParties(catalogued []Caller, all []*Compiled) *parties {
	p := &parties{namespaces: []string{""}, known: make(map[string]bool, len(catalogued))}
	for _, who := range catalogued {
		p.see(who.Namespace)
		p.known[who.String()+"|"] = true
		p.list = append(p.list, who)
	}
	for _, c := range all {
		p.see(c.Policy.Metadata.Namespace)
		p.see(c.toNamespace)
	}
	return p
}

func (p *parties) see(namespace string) {
	if namespace != Every && !slices.Contains(p.namespaces, namespace) {
		p.namespaces = append(p.namespaces, namespace)
	}
}

// add adds whom a policy names or describes; namespace may be Every.
func (p *parties) add(namespace, name string, labels map[string]string) {
	namespaces := []string{namespace}
	if namespace == Every {
		namespaces = p.namespaces
	}
	for _, ns := range namespaces {
		who := Caller{Key: manifest.Key{Namespace: ns, Name: name}, Labels: labels}
		if key := who.String() + "|" + labelText(labels); !p.known[key] {
			p.known[key] = true
			p.list = append(p.list, who)
		}
	}
}

// withNamed adds the callers that only policies know, and for every namespace with a consumer's policy any other caller of it.
func withNamed(callers []Caller, all []*Compiled) []Caller {
	p := newParties(callers, all)
	for _, c := range all {
		if from := c.Policy.Spec.From; from != nil {
			p.add(c.fromNamespace, from.Service, from.Selector)
		}
		if c.rank.consumer {
			p.add(c.Policy.Metadata.Namespace, "", nil)
		}
	}
	return p.list
}

// withNamedServices are those of the services that are wanted, with those that only policies know, and any other of each namespace.
func withNamedServices(services []Service, all []*Compiled, wanted func(*Service) bool) []Service {
	var list []Service
	var catalogued []Caller
	for _, s := range services {
		if wanted(&s) {
			list, catalogued = append(list, s), append(catalogued, Caller{s.Key, s.Labels})
		}
	}
	p := newParties(catalogued, all)
	for _, s := range services {
		p.see(s.Namespace)
	}
	for _, c := range all {
		name := c.Policy.Spec.To.Service
		if name == Every {
			name = ""
		}
		p.add(c.toNamespace, name, c.Policy.Spec.To.Selector)
	}
	for _, who := range p.list[len(list):] {
		list = append(list, Service{Key: who.Key, Labels: who.Labels})
	}
	return withNamedParts(list, all)
}

// withNamedParts adds the parts of services that policies name.
func withNamedParts(services []Service, all []*Compiled) []Service {
	named := make(map[manifest.Key][]part)
	for _, c := range all {
		key := manifest.Key{Namespace: c.toNamespace, Name: c.Policy.Spec.To.Service}
		if c.part != (part{}) && !slices.Contains(named[key], c.part) {
			named[key] = append(named[key], c.part)
		}
	}
	for _, svc := range slices.Clone(services) {
		for _, p := range named[svc.Key] {
			svc.part = p
			services = append(services, svc)
		}
	}
	return services
}

// aimedAt reports whether a written policy covers svc or a part of it.
func (c *checker) aimedAt(svc *Service) bool {
	return slices.ContainsFunc(c.judges, func(p *Compiled) bool { return p.aims(svc) })
}

// concerns reports whether a written policy covers what of svc is looked at.
func (c *checker) concerns(svc *Service) bool {
	return slices.ContainsFunc(c.judges, func(p *Compiled) bool { return p.matches(svc) })
}

// cover finds the callers of a policy.
func (c *checker) cover(i int) {
	p := c.all[i]
	if c.covered[i] != nil || p.Policy.Spec.From == nil && !p.rank.consumer {
		return
	}
	if c.callers == nil {
		c.callers = withNamed(c.catalogued, c.all)
	}
	c.covered[i] = c.coveredBy(p)
}

func (c *checker) coveredBy(p *Compiled) []int {
	list := []int{}
	for i := range c.callers {
		if p.covers(&c.callers[i]) {
			list = append(list, i)
		}
	}
	return list
}

// service judges every set of policies that some caller meets at svc.
func (c *checker) service(svc *Service) {
	matching := c.matching(svc)
	key := setKey(matching)
	if c.seen[key] {
		return
	}
	c.seen[key] = true
	if !slices.ContainsFunc(matching, func(i int) bool { return c.written[i] }) {
		return
	}
	for _, i := range matching {
		c.cover(i)
	}
	c.judge(svc, Caller{}, slices.DeleteFunc(slices.Clone(matching), func(i int) bool { return c.covered[i] != nil }))
	applied := make(map[int][]int) // by caller, for those with a policy of their own
	for _, i := range matching {
		for _, caller := range c.covered[i] {
			applied[caller] = nil
		}
	}
	for _, i := range matching {
		if c.covered[i] == nil {
			for caller := range applied {
				applied[caller] = append(applied[caller], i)
			}
			continue
		}
		for _, caller := range c.covered[i] {
			applied[caller] = append(applied[caller], i)
		}
	}
	if len(applied) == 0 {
		return
	}
	for caller := range c.callers {
		if list := applied[caller]; list != nil {
			c.judge(svc, c.callers[caller], list)
		}
	}
}

// matching are the policies whose target covers svc, in order.
func (c *checker) matching(svc *Service) []int {
	var list []int
	for _, i := range slices.Concat(c.byTo.namespace[Every], c.byTo.namespace[svc.Namespace], c.byTo.named[svc.Key]) {
		if c.all[i].matches(svc) {
			list = append(list, i)
		}
	}
	slices.Sort(list)
	return list
}

func setKey(set []int) string {
	key := make([]byte, 0, 4*len(set))
	for _, i := range set {
		key = binary.BigEndian.AppendUint32(key, uint32(i))
	}
	return string(key)
}

// judge merges a set of policies, unless it has been judged before: what is valid does not depend on the service.
func (c *checker) judge(svc *Service, caller Caller, set []int) {
	if !slices.ContainsFunc(set, func(i int) bool { return c.written[i] }) {
		return
	}
	key := setKey(set)
	if c.judged[key] {
		return
	}
	c.judged[key] = true
	applied := make([]*Compiled, len(set))
	var written []*Compiled
	for n, i := range set {
		applied[n] = c.all[i]
		if c.written[i] {
			written = append(written, c.all[i])
		}
	}
	for _, p := range merge(svc, applied).problems {
		if p.Reason == InvalidMerge {
			c.found = append(c.found, Violation{Problem: p, Service: svc.Key, Caller: caller.Key, Refused: refused(p, written), Written: written})
		}
	}
}

// refused reports whether one of the written policies answers for the clash: it has a say in that section, and everyone whose
// values clash is of its namespace or the root's.
func refused(p Problem, written []*Compiled) bool {
	section, _, _ := strings.Cut(p.Field, ".")
	return slices.ContainsFunc(written, func(w *Compiled) bool {
		return w.speaksOf(sectionIndex(section)) && !slices.ContainsFunc(p.parties, func(party *Compiled) bool {
			ns := party.Policy.Metadata.Namespace
			return ns != w.Policy.Metadata.Namespace && ns != manifest.SystemNamespace
		})
	})
}

// speaksOf reports whether c sets or clears anything in a section.
func (c *Compiled) speaksOf(section int) bool {
	_, clears := c.clearing(section)
	return clears || slices.ContainsFunc(c.sets, func(s setting) bool { return units[s.unit].section == section })
}

// Warning is what a valid policy should know.
type Warning struct {
	Field   string `json:"field"` // as in the manifest, such as spec.retry
	Message string `json:"message"`
}

// Warnings are what a valid policy should be told of itself. How exactly proxies enforce it is another matter.
func Warnings(p *Policy) []Warning {
	if p.Spec.Sections == (Sections{}) {
		return []Warning{{"spec", "sets nothing: write at least one section"}}
	}
	return nil
}
