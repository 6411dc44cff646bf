package xds

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/view"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// Proxy is one connected proxy, as the book has it.
type Proxy struct {
	ID        string // node.id; two streams may share it
	Namespace string
	Service   string // the caller
	Dialect   string
	Version   string // of the proxy, such as "1.40.0"
	Profile   string
	Address   string
	Connected time.Time
	Types     []TypeState // those that the proxy asked for

	Ejected map[string]int // hosts that it says it has ejected, by cluster; nil: it does not say. Not to be changed
}

// TypeState is what a proxy holds of one type.
type TypeState struct {
	Type       view.Type
	Wildcard   bool
	Subscribed int // names; of a wildcard, how many there are
	Acked      int // of those, how many it holds in the present version
	Pending    int // of those, and of removals, how many are neither accepted nor rejected yet
	Rejected   []Rejection
}

// Rejection is what a proxy said of one version of a resource.
type Rejection struct {
	ID      view.ID
	Version string
	Text    string
	Since   time.Time
}

// DeliveryState tells how far a revision has come with one proxy.
type DeliveryState string

// The states.
const (
	Acked    DeliveryState = "acked"
	Rejected DeliveryState = "rejected"
	Pending  DeliveryState = "pending"
)

// Delivery is how far some resources have come with one proxy.
type Delivery struct {
	Proxy     string // node.id
	Namespace string
	Service   string // the caller
	Address   string
	State     DeliveryState
	Rejected  []Rejection // what it rejected of them
}

// Proxies is the book, by namespace, service and id. It is a copy: a stream is held up for a moment at most.
func (s *Server) Proxies() []Proxy {
	all := s.list()
	said := s.said(all)
	book := make([]Proxy, 0, len(all))
	for i, st := range all {
		p := Proxy{
			ID: st.id.node, Namespace: st.id.key.Namespace, Service: st.id.key.Service, Dialect: st.id.key.Dialect,
			Version: st.id.version, Profile: st.id.key.Profile, Address: st.address, Connected: st.connected, Ejected: said[i],
		}
		snap := st.snapshot()
		for t := range view.NumTypes {
			if snap.subs[t].open {
				p.Types = append(p.Types, snap.typeState(t))
			}
		}
		book = append(book, p)
	}
	return book
}

// Delivery is, for each connected proxy of class, how far the named resources have come: accepted in the version of the class's
// head, which must have reached rev. A name that a proxy does not want counts as accepted.
func (s *Server) Delivery(class *world.Class, names []view.ID, rev int64) []Delivery {
	var out []Delivery
	for _, st := range s.list() {
		if st.class != class {
			continue
		}
		d := Delivery{Proxy: st.id.node, Namespace: st.id.key.Namespace, Service: st.id.key.Service, Address: st.address}
		d.State, d.Rejected = st.snapshot().delivered(names, rev)
		out = append(out, d)
	}
	return out
}

// Classes counts the connected proxies of each class.
func (s *Server) Classes() map[world.ClassKey]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	count := make(map[world.ClassKey]int)
	for st := range s.streams {
		count[st.id.key]++
	}
	return count
}

func (s *Server) list() []*stream {
	s.mu.Lock()
	all := slices.Collect(maps.Keys(s.streams))
	s.mu.Unlock()
	slices.SortFunc(all, func(a, b *stream) int {
		return cmp.Or(
			strings.Compare(a.id.key.Namespace, b.id.key.Namespace), strings.Compare(a.id.key.Service, b.id.key.Service),
			strings.Compare(a.id.node, b.id.node), a.connected.Compare(b.connected))
	})
	return all
}

// snapshot is a stream's state at one moment: the views are immutable, only the exceptions are copied.
type snapshot struct {
	head *world.Head
	subs [view.NumTypes]sub
}

func (st *stream) snapshot() *snapshot {
	snap := &snapshot{}
	st.mu.Lock()
	defer st.mu.Unlock()
	snap.head = st.class.Head()
	for t := range snap.subs {
		sub := st.state.subs[t]
		sub.force, sub.rejected, sub.held = maps.Clone(sub.force), maps.Clone(sub.rejected), nil
		sub.flights = slices.Clone(sub.flights)
		for i := range sub.flights {
			sub.flights[i].items = slices.Clone(sub.flights[i].items)
		}
		snap.subs[t] = sub
	}
	return snap
}

func (s *snapshot) typeState(t view.Type) TypeState {
	sub, head := &s.subs[t], s.head.Views[t]
	out := TypeState{Type: t, Wildcard: sub.wild, Subscribed: sub.names.Len()}
	if sub.wild {
		out.Subscribed = head.Len()
	}
	out.Acked = out.Subscribed
	view.Diff(sub.acked, head, func(old, now *view.Resource) {
		name := nameOf(old, now)
		if !sub.has(name) {
			return
		}
		if now != nil {
			out.Acked--
		}
		if now == nil || !sub.rejectedNow(now) {
			out.Pending++
		}
	})
	if sub.names != nil && !sub.wild {
		view.Diff(sub.names, head, func(old, now *view.Resource) {
			if now == nil {
				out.Acked-- // it does not exist
			}
		})
	}
	for _, name := range slices.Sorted(maps.Keys(sub.rejected)) {
		out.Rejected = append(out.Rejected, sub.rejection(t, name))
	}
	return out
}

func (s *sub) rejection(t view.Type, name string) Rejection {
	r := s.rejected[name]
	return Rejection{ID: view.ID{Type: t, Name: name}, Version: r.version, Text: r.text, Since: r.since}
}

// delivered compares what the proxy accepted with the head, name by name: revisions that were skipped or taken back need no care.
func (s *snapshot) delivered(names []view.ID, rev int64) (DeliveryState, []Rejection) {
	if s.head.Rev < rev {
		return Pending, nil
	}
	state := Acked
	var rejected []Rejection
	for _, id := range names {
		sub := &s.subs[id.Type]
		now := s.head.Views[id.Type].Get(id.Name)
		switch {
		case now != nil && sub.open && sub.rejectedNow(now):
			rejected = append(rejected, sub.rejection(id.Type, id.Name))
		case s.settled(id, now):
		default:
			state = Pending
		}
	}
	if len(rejected) > 0 {
		state = Rejected
	}
	return state, rejected
}

// settled reports whether the proxy accepted id as it is now, or does not want it.
func (s *snapshot) settled(id view.ID, now *view.Resource) bool {
	sub := &s.subs[id.Type]
	if !sub.open || !sub.has(id.Name) {
		return now == nil || !s.wanted(id)
	}
	if _, forced := sub.force[id.Name]; forced || sub.flying(id.Name) {
		return false
	}
	acked := sub.acked.Get(id.Name)
	if now == nil {
		return acked == nil || id.Type == view.RTDS
	}
	return acked != nil && acked.Version == now.Version
}

// wanted reports whether a proxy that has not asked for id yet will: it asks for these types by itself, or something it was sent
// names id.
func (s *snapshot) wanted(id view.ID) bool {
	if wildcardByDefault(id.Type) {
		return !s.subs[id.Type].open
	}
	if id.Type == view.EDS && s.subs[view.CDS].sent.Get(id.Name) != nil {
		return true
	}
	for _, t := range [...]view.Type{view.LDS, view.SRDS, view.RDS} {
		found := false
		s.subs[t].each(func(r *view.Resource) { found = found || slices.Contains(r.Needs, id) })
		if found {
			return true
		}
	}
	return false
}
