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
	for _, svc := range withNamedServices(services, c.all) {
		c.service(&svc)
	}
	return c.found
}

// checker judges sets of policies, each once.
type checker struct {
	all     []*Compiled // least specific first
	written []bool      // by index in all
	callers []Caller
	covered [][]int // by index in all: the callers that a policy with a source covers; nil for one without
	byTo    toIndex
	judged  map[string]bool // sets of policies
	seen    map[string]bool // what matches a service
	found   []Violation
}

// toIndex finds the policies that may match a service without looking at all of them.
type toIndex struct {
	named     map[manifest.Key][]int
	namespace map[string][]int // "*" and selectors, Every included
}

func newChecker(callers []Caller, all []*Compiled, written map[manifest.Key]bool) *checker {
	c := &checker{all: slices.Clone(all), judged: make(map[string]bool), seen: make(map[string]bool)}
	slices.SortFunc(c.all, func(a, b *Compiled) int {
		if a.Less(b) {
			return -1
		}
		return 1
	})
	c.callers = withNamed(callers, c.all)
	c.written = make([]bool, len(c.all))
	c.covered = make([][]int, len(c.all))
	c.byTo = toIndex{make(map[manifest.Key][]int), make(map[string][]int)}
	for i, p := range c.all {
		c.written[i] = written == nil || written[p.Policy.Key()]
		if p.Policy.Spec.From != nil || p.rank.consumer {
			c.covered[i] = c.coveredBy(p)
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
	p := &parties{namespaces: []string{""}, known: make(map[string]bool)}
	see := func(namespace string) {
		if namespace != Every && !slices.Contains(p.namespaces, namespace) {
			p.namespaces = append(p.namespaces, namespace)
		}
	}
	for _, who := range catalogued {
		see(who.Namespace)
		p.known[who.String()+"|"] = true
		p.list = append(p.list, who)
	}
	for _, c := range all {
		see(c.Policy.Metadata.Namespace)
		see(c.toNamespace)
	}
	return p
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

// withNamedServices adds the services that only policies know, and any other of each namespace.
func withNamedServices(services []Service, all []*Compiled) []Service {
	catalogued := make([]Caller, len(services))
	for i, s := range services {
		catalogued[i] = Caller{s.Key, s.Labels}
	}
	p := newParties(catalogued, all)
	for _, c := range all {
		name := c.Policy.Spec.To.Service
		if name == Every {
			name = ""
		}
		p.add(c.toNamespace, name, c.Policy.Spec.To.Selector)
	}
	list := slices.Clone(services)
	for _, who := range p.list[len(services):] {
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
