package world

import (
	"fmt"
	"slices"
	"strings"

	"github.com/breakwater-mesh/breakwater/pkg/envoy"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// move is what one batch does to one class.
type move struct {
	deltas []*delta
	layers layers // to be made anew
	framed bool   // the listener is to be made anew
	listen bool   // so are those of tcp services

	own []view.Change // what became of the latter
}

// add takes in what becomes of one service; nil for nothing.
func (s *move) add(d *delta) {
	if d == nil {
		return
	}
	s.deltas = append(s.deltas, d)
	s.layers |= d.layers
	s.framed = s.framed || d.framed
	s.listen = s.listen || d.listens
}

// changes are all of one type. The caller may append to the slice, and change nothing in it.
func (s *move) changes(t view.Type) (list []view.Change) {
	if len(s.deltas) == 1 {
		return slices.Clip(s.deltas[0].changes[t])
	}
	for _, d := range s.deltas {
		list = append(list, d.changes[t]...)
	}
	return list
}

// moved drops the removal of every name that the same batch also puts: an alias that went from one service to another.
func moved(changes []view.Change) []view.Change {
	removes := func(c view.Change) bool { return c.Now == nil }
	if !slices.ContainsFunc(changes, removes) {
		return changes
	}
	put := make(map[string]bool)
	for _, c := range changes {
		put[c.Name] = put[c.Name] || c.Now != nil
	}
	return slices.DeleteFunc(slices.Clone(changes), func(c view.Change) bool { return c.Now == nil && put[c.Name] })
}

// departure is where a class stands, and enough of a move to find those that may be the same.
type departure struct {
	views       [view.NumTypes]*view.View
	first, last *delta
	deltas      int
}

// taken is a move that a class has taken, and where it led. Views that are one stay one: the classes that hold them, and take the same move,
// come to the same head.
type taken struct {
	deltas []*delta // nil where the departure says it all
	head   *Head
}

// publish takes the move, and wakes the streams of cs if anything differs.
func (b *Builder) publish(cs *classState, s *move) {
	old := cs.class.Head()
	head := old
	if len(s.deltas)+len(s.own) > 0 {
		head = b.after(cs, s)
	}
	if head.Views == old.Views {
		cs.class.advance(&Head{Rev: b.world.Rev, Views: old.Views, Seen: old.Seen})
		return
	}
	b.batch.note(cs.class, old, head)
	cs.class.Publish(head)
}

// after is where the move leads cs: where it led another class from the same head. The layers and the listener follow from the head and the
// services; not so the ports of tcp services, of which one may wait for another's.
func (b *Builder) after(cs *classState, s *move) *Head {
	if len(s.own) > 0 {
		return b.head(cs, s)
	}
	n := len(s.deltas)
	from := departure{cs.class.Head().Views, s.deltas[0], s.deltas[n-1], n}
	if t := b.taken[from]; t.head != nil && (n == 1 || slices.Equal(t.deltas, s.deltas)) {
		return t.head
	}
	t := taken{head: b.head(cs, s)}
	if n > 1 {
		t.deltas = slices.Clone(s.deltas)
	}
	b.taken[from] = t
	return t.head
}

// head is where the move leads cs.
func (b *Builder) head(cs *classState, s *move) *Head {
	old := cs.class.Head()
	head := &Head{Rev: b.world.Rev, Seen: b.Seen}
	for t := range view.NumTypes {
		changes := s.changes(t)
		switch t {
		case view.RTDS:
			changes = b.remakeLayers(cs, s.layers, changes)
		case view.LDS:
			changes = append(changes, s.own...)
			if s.framed {
				changes = b.frame(cs, changes)
			}
		}
		head.Views[t] = b.view(cs, old.Views[t], t, moved(changes))
	}
	return head
}

// view is the view of a type after changes. One that is made from nothing shares what it can with that of a class that may hold the same.
func (b *Builder) view(cs *classState, from *view.View, t view.Type, changes []view.Change) *view.View {
	if from != nil {
		return from.With(changes)
	}
	return from.Toward(b.peerHead(cs).Views[t], changes)
}

// peerHead is the head of a class that may hold the same as cs, which is built anew.
func (b *Builder) peerHead(cs *classState) *Head {
	if peer := b.peers[cs.class.Key.peers()]; peer != nil {
		return peer.class.Head()
	}
	return &Head{}
}

// remakeLayers adds the runtime layers of cs that are to be made.
func (b *Builder) remakeLayers(cs *classState, some layers, changes []view.Change) []view.Change {
	for n := range envoy.Layers {
		if !some.has(n) {
			continue
		}
		var r *view.Resource
		err := Safely(func() (err error) { r, err = b.layer(n, cs.limitsOf(n)); return err })
		if err != nil {
			b.problems[cs.caller.Key] = fmt.Errorf("runtime layer %d: %w", n, err)
			continue
		}
		changes = append(changes, view.Put(r))
	}
	return changes
}

// layer is a runtime layer that was built of these keys.
type layer struct {
	keys []envoy.RuntimeKey
	res  *view.Resource
}

// layer is the n-th runtime layer, of keys.
func (b *Builder) layer(n int, keys []envoy.RuntimeKey) (*view.Resource, error) {
	if last := b.layers[n]; last.res != nil && slices.Equal(last.keys, keys) {
		return last.res, nil
	}
	r, err := envoy.Layer(n, keys)
	if err == nil {
		b.layers[n] = layer{keys, r}
	}
	return r, err
}

// limitsOf are the keys of a runtime layer, in order.
func (cs *classState) limitsOf(layer int) []envoy.RuntimeKey {
	var in []*holding
	for _, held := range cs.holds {
		if held.layer == layer && len(held.Limits) > 0 {
			in = append(in, held)
		}
	}
	slices.SortFunc(in, func(a, b *holding) int { return strings.Compare(a.Limits[0].Key, b.Limits[0].Key) })
	var keys []envoy.RuntimeKey
	for _, held := range in {
		keys = append(keys, held.Limits...)
	}
	// Of few services the keys of the one are not all before those of the next: this costs little more than a look at each.
	slices.SortFunc(keys, func(a, b envoy.RuntimeKey) int { return strings.Compare(a.Key, b.Key) })
	return keys
}

// frame adds what every class holds: the listener, with the filters that some of the services that are called need there.
func (b *Builder) frame(cs *classState, changes []view.Change) []view.Change {
	var own []envoy.Filter
	for _, key := range cs.heldWith(func(h *holding) bool { return h.as.called && len(h.Filters) > 0 }) {
		own = append(own, cs.holds[key].Filters...)
	}
	var list []*view.Resource
	err := Safely(func() (err error) { list, err = cs.from.target.Frame(cs.class.Key.Outbound, own...); return err })
	if err != nil {
		// The address was checked when the proxy joined; without a listener the proxy stays dark, which its book shows.
		b.problems[cs.caller.Key] = fmt.Errorf("listener on %s: %w", cs.class.Key.Outbound, err)
	}
	for _, r := range list {
		changes = append(changes, view.Put(r))
	}
	return changes
}

// relisten gives each tcp service its listener. Of those that want one port the first by name has it: a proxy refuses a second one.
func (b *Builder) relisten(cs *classState) (changes []view.Change) {
	taken := map[string]string{cs.class.Key.Outbound: "the proxy itself"}
	for _, key := range cs.heldWith((*holding).listens) {
		held := cs.holds[key]
		at := fmt.Sprintf("127.0.0.1:%d", held.port)
		if by, clash := taken[at]; clash {
			b.clashes[key] = fmt.Errorf("service %s: proxies of %s can't listen at its local port: %s has %s", key, cs.caller.Key, by, at)
			changes = append(changes, view.Change{Name: held.Local.Name})
			continue
		}
		taken[at] = key.String()
		changes = append(changes, view.Put(held.Local))
	}
	return changes
}
