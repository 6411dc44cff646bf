package xds

import (
	"slices"
	"strings"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// answer takes an ACK or a NACK. A nonce that is not under way is stale, and says nothing.
func (s *state) answer(q request, now time.Time) {
	sub := &s.subs[q.typ]
	i := slices.IndexFunc(sub.flights, func(f flight) bool { return f.nonce == q.nonce })
	if i < 0 {
		return
	}
	sub.heard = true
	f := sub.flights[i]
	if q.typ == view.EDS && !q.rejected {
		s.grown(f)
	}
	if !q.rejected && i == 0 && f.leg != nil && f.leg.before == sub.acked && len(sub.rejected)+len(sub.maybe) == 0 {
		sub.land(0)
		sub.acked = f.leg.after
		return
	}
	f.list()
	if q.typ == view.CDS && s.gates {
		sub.takes(f.items, now)
	}
	earlier := sub.flights[:i]
	if q.rejected {
		later := append([]flight(nil), sub.flights[i+1:]...)
		sub.land(i)
		s.reject(q, f, later, now)
		return
	}
	for _, it := range f.items {
		supersede(earlier, it.name)
	}
	sub.land(i)
	sub.accept(f.items)
}

// supersede voids what earlier responses said of name.
func supersede(earlier []flight, name string) {
	for f := range earlier {
		for i := range earlier[f].list() {
			if it := &earlier[f].items[i]; it.name == name {
				it.void = true
			}
		}
	}
}

// accept books items as held by the proxy, removals as done.
func (s *sub) accept(items []item) {
	var changes []view.Change
	for _, it := range items {
		if it.void {
			continue
		}
		changes = append(changes, view.Change{Name: it.name, Now: it.res})
		if !it.echo {
			delete(s.rejected, it.name)
			delete(s.maybe, it.name)
		}
	}
	s.acked = s.acked.Toward(s.sent, changes)
}

// reject finds out whom a rejection is about and has everything else said again: what a proxy applied of a rejected response is
// not known. An EDS rejection ends the warming of all clusters, so that each needs its assignment once more: since one EDS response
// is under way at a time, the assignment of a cluster that warms is either in the rejected one or still to be sent.
func (s *state) reject(q request, f flight, later []flight, now time.Time) {
	sub := &s.subs[q.typ]
	if s.world && !s.gates && sub.sort(f.items, q.text, now) {
		return
	}
	culprit := suspect(f.items, q.text)
	switch {
	case culprit >= 0:
		sub.limit = 0
		sub.blame(f.items[culprit], q.text, now)
	case len(f.items) > 1:
		sub.limit = (len(f.items) + 1) / 2
	}
	for i, it := range f.items {
		switch {
		case it.void || i == culprit:
		case it.res == nil:
			sub.accept(f.items[i : i+1]) // a removal is said once
		case sub.has(it.name):
			sub.retry(it, mentions(later, it.name))
		}
	}
}

// retry has it sent again, which was in a rejected response and is not to blame. Where a later one says its name, that does.
func (s *sub) retry(it item, later bool) {
	s.suppose(it.res)
	switch {
	case later:
	case it.anew:
		s.urge(it.name, answer)
	default:
		s.urge(it.name, again)
	}
}

// sort is reject for a gRPC client, which takes every good resource of a response that it rejects, and names the others. It reports
// whether any is named.
func (s *sub) sort(items []item, text string, now time.Time) bool {
	var good []item
	for _, it := range items {
		if it.res == nil || !names(text, it.name) {
			good = append(good, it)
		}
	}
	if len(good) == len(items) {
		return false
	}
	for _, it := range items {
		if it.res != nil && names(text, it.name) && !it.void {
			s.blame(it, text, now)
		}
	}
	s.accept(good)
	s.limit = 0
	return true
}

// blame books a rejection of exactly this version, which counts also where the name was subscribed anew meanwhile.
func (s *sub) blame(it item, text string, now time.Time) {
	if it.res == nil || !s.has(it.name) {
		return
	}
	if it.anew {
		s.miss(it)
	}
	if it.echo {
		return
	}
	if s.rejected == nil {
		s.rejected = make(map[string]rejection)
	}
	s.rejected[it.name] = rejection{version: it.res.Version, text: text, since: now}
}

// miss is about what the proxy asked for although it had it, and then rejected: it may have nothing at all of the name. What it accepted
// last is said again where that is known.
func (s *sub) miss(it item) {
	old := s.acked.Get(it.name)
	switch {
	case old == nil:
	case it.echo || unknown(old):
		s.suppose(old)
		s.acked = s.acked.With([]view.Change{{Name: it.name}})
	default:
		s.urge(it.name, answer)
	}
}

// suspect is the index of the one item that a rejection is surely about, or -1. What counts is what was sent, not what is still
// subscribed; a removal can't be invalid. A text that names several blames nobody: a dumped resource may name others.
func suspect(items []item, text string) int {
	found, named, set := -1, 0, 0
	only := -1
	for i, it := range items {
		if it.res == nil {
			continue
		}
		set, only = set+1, i
		if names(text, it.name) {
			named, found = named+1, i
		}
	}
	switch {
	case set == 1:
		return only
	case named == 1:
		return found
	}
	return -1
}

func mentions(flights []flight, name string) bool {
	for f := range flights {
		for _, it := range flights[f].list() {
			if it.name == name {
				return true
			}
		}
	}
	return false
}

// names reports whether text holds name as a whole: shop/pay is not in shop/payments.
func names(text, name string) bool {
	if name == "" {
		return false
	}
	for from := 0; ; {
		i := strings.Index(text[from:], name)
		if i < 0 {
			return false
		}
		start := from + i
		end := start + len(name)
		if !joins(text[:start], true) && !joins(text[end:], false) {
			return true
		}
		from = start + 1
	}
}

// joins reports whether the text beside a name is a part of a longer one. A dot is, where a letter comes after it.
func joins(beside string, before bool) bool {
	if beside == "" {
		return false
	}
	at := func(i int) byte {
		if before {
			i = len(beside) - 1 - i
		}
		return beside[i]
	}
	if at(0) == '.' {
		return len(beside) > 1 && letter(at(1))
	}
	return letter(at(0)) || strings.IndexByte("-_/|~", at(0)) >= 0
}

func letter(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}
