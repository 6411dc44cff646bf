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

// Proxies is the book, by namespace, service and id. It is a copy: a stream is held up for a moment at most.
func (s *Server) Proxies() []Proxy {
	all := s.list()
	said := s.said(all)
	book := make([]Proxy, 0, len(all))
	for i, st := range all {
		p := st.proxy()
		p.Ejected = said[i]
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

// proxy is who is at the other end; what it holds is not in it.
func (st *stream) proxy() Proxy {
	return Proxy{
		ID: st.id.node, Namespace: st.id.key.Namespace, Service: st.id.key.Service, Dialect: st.id.key.Dialect,
		Version: st.id.version, Profile: st.id.key.Profile, Address: st.address, Connected: st.connected,
	}
}

// Classes counts the connected proxies of each class.
func (s *Server) Classes() map[world.ClassKey]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.classes)
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
