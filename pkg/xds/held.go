package xds

import (
	"slices"

	"github.com/breakwater-mesh/breakwater/pkg/view"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// Held is one resource that a proxy should have, or still has.
type Held struct {
	ID       view.ID
	Wanted   *view.Resource // as it should be; nil: it should go, or it does not exist
	Acked    *view.Resource // as the proxy has accepted it; nil: it has not. Of one that came with the proxy the version alone is known
	State    DeliveryState
	Sent     bool       // of one that is pending: it is under way, or its answer was lost
	Rejected *Rejection // of Wanted, or why it does not come
}

// Holdings are what the proxy of that node id should have and has, by type and name, and its class. Of several streams with the id it is
// the one that began last. False: no such proxy is connected.
func (s *Server) Holdings(node string) (list []Held, class *world.Class, ok bool) {
	s.mu.Lock()
	streams := slices.Clone(s.ids[node])
	s.mu.Unlock()
	if len(streams) == 0 {
		return nil, nil, false
	}
	st := last(streams)
	return st.snapshot().holdings(), st.class, true
}

// Known reports whether the content of r is known, and not its version alone.
func Known(r *view.Resource) bool { return r != nil && !unknown(r) }

func (s *snapshot) holdings() []Held {
	var list []Held
	for t := range view.NumTypes {
		sub := &s.subs[t]
		if !sub.open {
			continue
		}
		names := make(map[string]bool)
		add := func(_, r *view.Resource) {
			if sub.has(r.Name) {
				names[r.Name] = true
			}
		}
		for _, v := range []*view.View{s.head.Views[t], sub.sent, sub.acked, sub.names} {
			view.Diff(nil, v, add)
		}
		for name := range names {
			list = append(list, s.held(view.ID{Type: t, Name: name}))
		}
	}
	slices.SortFunc(list, func(a, b Held) int { return a.ID.Compare(b.ID) })
	return list
}

func (s *snapshot) held(id view.ID) Held {
	h := Held{ID: id, Wanted: s.head.Views[id.Type].Get(id.Name), Acked: s.subs[id.Type].acked.Get(id.Name), State: Acked}
	if s.settled(id, h.Wanted) {
		return h
	}
	h.State = Pending
	sub := &s.subs[id.Type]
	sent := sub.sent.Get(id.Name)
	h.Sent = sub.flying(id.Name) || sent != nil && h.Wanted != nil && sent.Version == h.Wanted.Version
	if r, refused := s.refused(id, h.Wanted); refused {
		h.State, h.Rejected = Rejected, &r
	}
	return h
}
