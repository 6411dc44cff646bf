package xds

import (
	"maps"
	"slices"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/view"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// DeliveryState tells how far something has come with one proxy.
type DeliveryState string

// The states.
const (
	Acked    DeliveryState = "acked"
	Rejected DeliveryState = "rejected"
	Pending  DeliveryState = "pending"
	Joining  DeliveryState = "joining" // it is connected, and what it holds is not known yet
	Offline  DeliveryState = "offline" // it was connected not long ago
)

// Delivery is how far something has come with one proxy.
type Delivery struct {
	Proxy    // without its types
	State    DeliveryState
	Left     time.Time   // of one that is offline
	Waiting  []view.ID   // what it has not answered, or was not sent
	Rejected []Rejection // why it will not have it
}

// Progress is how far something has come with all proxies that it concerns.
type Progress struct {
	Acked   int        // proxies
	Proxies []Delivery // the others, or all if so asked; in no order
}

// Fleet is all proxies at one moment.
type Fleet struct {
	crowds map[*world.Class]*crowd
	left   []leaver
}

// crowd is the proxies of one class. Most rest, and need no look at their names.
type crowd struct {
	head    *world.Head
	resting []*stream
	busy    []busy
}

type busy struct {
	*stream
	snap *snapshot
}

// Look is the fleet as it is now. A stream is held up for a moment at most.
func (s *Server) Look() *Fleet {
	s.mu.Lock()
	all := slices.Collect(maps.Keys(s.streams))
	f := &Fleet{crowds: make(map[*world.Class]*crowd), left: s.left.list(time.Now())}
	s.mu.Unlock()
	for _, st := range all {
		c := f.crowds[st.class]
		if c == nil {
			c = &crowd{head: st.class.Head()}
			f.crowds[st.class] = c
		}
		if st.resting(c.head) {
			c.resting = append(c.resting, st)
		} else {
			c.busy = append(c.busy, busy{st, st.snapshot()})
		}
	}
	return f
}

func (st *stream) resting(head *world.Head) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.state.resting(head)
}

// Progress is how far revision rev has come: wanted says what of it a class must hold, nil where it is none of its concern. With all,
// the proxies that accepted it are named too.
func (f *Fleet) Progress(wanted func(*world.Class) *Wanted, rev int64, all bool) Progress {
	var p Progress
	for class, c := range f.crowds {
		w := wanted(class)
		if w == nil {
			continue
		}
		for _, st := range c.resting {
			d := Delivery{State: Acked}
			if c.head.Rev < rev {
				d.State = Pending
			}
			p.add(st.proxy, d, all)
		}
		for _, b := range c.busy {
			p.add(b.proxy, b.snap.delivery(w, rev), all)
		}
	}
	for _, l := range f.left {
		if wanted(l.class) != nil {
			p.Proxies = append(p.Proxies, Delivery{Proxy: l.Proxy, State: Offline, Left: l.at})
		}
	}
	return p
}

func (p *Progress) add(who func() Proxy, d Delivery, all bool) {
	if d.State == Acked {
		p.Acked++
		if !all {
			return
		}
	}
	d.Proxy = who()
	p.Proxies = append(p.Proxies, d)
}

// delivery is how far rev has come, of which the proxy must hold w.
func (s *snapshot) delivery(w *Wanted, rev int64) Delivery {
	switch {
	case s.head.Rev < rev:
		return Delivery{State: Pending}
	case !introduced(&s.subs, s.gates):
		return Delivery{State: Joining}
	}
	v := s.converged(w)
	d := Delivery{State: Acked, Waiting: v.waiting, Rejected: v.rejected}
	switch {
	case len(v.rejected) > 0:
		d.State = Rejected
	case len(v.waiting) > 0:
		d.State = Pending
	}
	return d
}

// How long a proxy that has gone is spoken of, and how many are. Its class lives as long.
const (
	leftFor  = 10 * time.Minute
	leftMost = 4096
)

// leaver is a proxy that has gone, as it was.
type leaver struct {
	Proxy
	class *world.Class
	at    time.Time
}

type leaverKey struct {
	node  string
	class *world.Class
}

// departed are those who left not long ago.
type departed struct {
	all    map[leaverKey]leaver
	pruned time.Time
}

// add books that a proxy has gone. Where very many have, it is not spoken of.
func (d *departed) add(st *stream, now time.Time) {
	if d.all == nil {
		d.all = make(map[leaverKey]leaver)
	}
	if len(d.all) >= leftMost {
		d.prune(now)
	}
	if len(d.all) < leftMost {
		d.all[leaverKey{st.id.node, st.class}] = leaver{st.proxy(), st.class, now}
	}
}

func (d *departed) back(st *stream) { delete(d.all, leaverKey{st.id.node, st.class}) }

// prune forgets those who left long ago, once a second at most.
func (d *departed) prune(now time.Time) {
	if now.Sub(d.pruned) >= time.Second {
		d.pruned = now
		maps.DeleteFunc(d.all, func(_ leaverKey, l leaver) bool { return now.Sub(l.at) >= leftFor })
	}
}

// list is those who are still to be spoken of.
func (d *departed) list(now time.Time) []leaver {
	d.prune(now)
	return slices.Collect(maps.Values(d.all))
}
