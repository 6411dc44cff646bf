package world

import (
	"slices"

	"github.com/breakwater-mesh/breakwater/pkg/envoy"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// move is what became of a view by some changes. Views that are one stay one: the classes that hold one take a move together.
type move struct {
	changes []view.Change
	to      *view.View
}

// move is the view of a type that cs holds after changes.
func (b *Builder) move(cs *classState, t view.Type, changes []view.Change) *view.View {
	from := cs.class.Head().Views[t]
	if len(changes) == 0 {
		return from
	}
	if from == nil {
		return from.Toward(b.peerHead(cs).Views[t], changes)
	}
	for _, m := range b.moves[from] {
		if slices.Equal(m.changes, changes) {
			return m.to
		}
	}
	to := from.With(changes)
	if b.moves != nil {
		b.moves[from] = append(b.moves[from], move{changes, to})
	}
	return to
}

// peerHead is the head of a class that may hold the same as cs, which is built anew.
func (b *Builder) peerHead(cs *classState) *Head {
	if peer := b.peers[cs.class.Key.peers()]; peer != nil {
		return peer.Head()
	}
	return &Head{}
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
