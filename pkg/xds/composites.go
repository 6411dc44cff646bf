package xds

import (
	"slices"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// taken is when a proxy answered for clusters that lead to others.
type taken struct {
	at    time.Time
	names []string
}

// settling reports whether what comes after a cluster that leads to others must wait, because the proxy may still be taking that one in. The
// workers of an Envoy do so some time after its main thread has answered, and read what that thread has of the cluster: one that changes
// or goes before ends the process (ADR 44). after is nil where it goes.
func (s *state) settling(name string, after *view.Resource, now time.Time) bool {
	sub := &s.subs[view.CDS]
	old := sub.sent.Get(name)
	if old == nil || after != nil && old.Version == after.Version {
		return false
	}
	for f := range sub.flights {
		if fl := &sub.flights[f]; now.Sub(fl.at) < s.limits.hold && fl.leads(name) {
			return true
		}
	}
	for _, t := range sub.lately {
		if now.Sub(t.at) < s.limits.linger && slices.Contains(t.names, name) {
			return true
		}
	}
	return s.resumed && now.Sub(s.opened) < s.limits.linger && (leads(old) || leads(after)) // another stream may have changed it a moment ago
}

// settles are the moments at which settling may say something else.
func (s *state) settles() (ends []time.Time) {
	sub := &s.subs[view.CDS]
	for _, t := range sub.lately {
		ends = append(ends, t.at.Add(s.limits.linger))
	}
	for _, f := range sub.flights {
		if slices.ContainsFunc(f.items, func(it item) bool { return leads(it.res) }) {
			ends = append(ends, f.at.Add(s.limits.hold))
		}
	}
	if s.resumed {
		ends = append(ends, s.opened.Add(s.limits.linger))
	}
	return ends
}

// leads reports whether f sets name, and that leads to others. No leg does.
func (f *flight) leads(name string) bool {
	for _, it := range f.items {
		if it.name == name && leads(it.res) {
			return true
		}
	}
	return false
}

// leads reports whether r is a cluster that leads to others, as far as is known.
func leads(r *view.Resource) bool { return r != nil && !assigned(r) }

// takes notes that the proxy answered for items.
func (s *sub) takes(items []item, now time.Time) {
	var names []string
	for _, it := range items {
		if leads(it.res) {
			names = append(names, it.name)
		}
	}
	if names != nil {
		s.lately = append(s.lately, taken{now, names})
	}
}

// outlive drops what was taken longer than d ago.
func (s *sub) outlive(d time.Duration, now time.Time) {
	for len(s.lately) > 0 && now.Sub(s.lately[0].at) >= d {
		s.lately = s.lately[1:]
	}
	if len(s.lately) == 0 {
		s.lately = nil
	}
}
