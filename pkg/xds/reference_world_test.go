package xds

import (
	"maps"
	"slices"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// worldly is what a reference keeps for the sake of the state of the world.
type worldly struct {
	nonce  [view.NumTypes]string
	before map[view.ID]bool // what it has of an earlier stream: nothing tells a server of that
}

func newWorldly() *worldly { return &worldly{before: map[view.ID]bool{}} }

// form is q in the dialect of the proxy. Of a type of which it wants everything it never names anything.
func (c *reference) form(q request) request {
	if c.world == nil {
		return q
	}
	return request{typ: q.typ, wanted: slices.Sorted(maps.Keys(c.wanted[q.typ])), nonce: c.world.nonce[q.typ], rejected: q.rejected, text: q.text}
}

// gone are the resources that a response takes away as it does not hold them.
func (c *reference) gone(m *response) (names []string) {
	if c.world == nil {
		return nil
	}
	c.world.nonce[m.typ] = m.nonce
	if !whole(m.typ) {
		return nil
	}
	there := map[string]bool{}
	for _, r := range m.set {
		if there[r.Name] {
			c.fault("%v is there twice", r.ID())
		}
		there[r.Name] = true
	}
	names = slices.Collect(maps.Keys(c.held[m.typ]))
	if m.typ == view.CDS {
		names = slices.AppendSeq(names, maps.Keys(c.warming))
	}
	slices.Sort(names)
	return slices.DeleteFunc(slices.Compact(names), func(name string) bool { return there[name] })
}

// forget is about a stream that has ended.
func (c *reference) forget() {
	if c.world == nil {
		return
	}
	c.world.nonce = [view.NumTypes]string{}
	for t := range view.NumTypes {
		for name := range c.held[t] {
			c.world.before[view.ID{Type: t, Name: name}] = true
		}
	}
	for name := range c.reported { // even where it still warms
		c.world.before[view.ID{Type: view.CDS, Name: name}] = true
	}
}

// renew is about a resource that was taken on this stream.
func (c *reference) renew(r *view.Resource) {
	if c.world != nil {
		delete(c.world.before, r.ID())
	}
}

// hidden reports whether no server can know that the proxy has r.
func (c *reference) hidden(r *view.Resource) bool { return c.world != nil && c.world.before[r.ID()] }

// tire takes clusters live for which no assignment came in 15 s. In delta a server says that there is none.
func (c *reference) tire() {
	if c.world == nil || len(c.warming) == 0 {
		return
	}
	for name := range maps.Clone(c.warming) {
		c.warm(name)
		c.empty[name] = true
	}
	c.dirty = true
}
