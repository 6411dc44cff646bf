package xds

import "github.com/breakwater-mesh/breakwater/pkg/view"

// An Envoy answers for no cluster while any one warms, be it another. What it does with the assignment of a new one tells before that how far it
// has come: it asks for the assignment once it has the cluster, and one that checks nobody's health serves when the assignment is accepted.
// sub.births are such clusters, and whether they serve.

// born notes that the proxy asked for assignments.
func (s *state) born(names []string) {
	sub := &s.subs[view.CDS]
	if !s.gates || !sub.loaded || len(sub.flights) == 0 {
		return
	}
	for _, name := range names {
		if sub.acked.Get(name) != nil || sub.births[name] || !sub.flying(name) {
			continue
		}
		if sub.births == nil {
			sub.births = make(map[string]bool)
		}
		sub.births[name] = false
	}
}

// grown notes that the proxy accepted the assignments of f.
func (s *state) grown(f flight) {
	sub := &s.subs[view.CDS]
	if len(sub.births) == 0 {
		return
	}
	for _, it := range f.list() {
		if _, born := sub.births[it.name]; born && it.res != nil && !it.void && sub.prompt(it.name, f.number) {
			sub.births[it.name] = true
		}
	}
}

// prompt reports whether an assignment in response number n makes a cluster serve, whichever version of it the proxy has by then.
func (s *sub) prompt(name string, n uint64) bool {
	if r := s.sent.Get(name); r == nil || !r.Prompt {
		return false
	}
	for f := range s.flights {
		if s.flights[f].number > n && mentions(s.flights[f:f+1], name) {
			return false // that version waits for another one
		}
	}
	return true
}
