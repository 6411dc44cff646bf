package xdsclient

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// thousand is 1,000 clusters with ten hosts each.
func thousand(b *testing.B) dataplane.Resources {
	b.Helper()
	var changes []dataplane.Change
	add := func(t view.Type, n named) {
		body, err := proto.Marshal(n.message)
		if err != nil {
			b.Fatal(err)
		}
		id := view.ID{Type: t, Name: n.name}
		res, faults := dataplane.Decode(id, n.version, body)
		if res == nil {
			b.Fatal(faults)
		}
		changes = append(changes, dataplane.Change{ID: id, Now: res})
	}
	for i := range 1000 {
		name := fmt.Sprintf("shop/s%d", i)
		add(view.CDS, clusterOf(name, time.Second))
		add(view.EDS, hostsOf(name, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10))
	}
	return dataplane.Resources{}.With(changes)
}

// BenchmarkLoad is a start from disk: read, check, compile to a table.
func BenchmarkLoad(b *testing.B) {
	c := NewCache(b.TempDir(), orders1)
	if err := c.Save(thousand(b), time.Now()); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		saved, err := c.Load()
		if err != nil {
			b.Fatal(err)
		}
		if table, faults := dataplane.Compile(saved.Resources, nil); table == nil {
			b.Fatal(faults)
		}
	}
}

func BenchmarkSave(b *testing.B) {
	c, r := NewCache(b.TempDir(), orders1), thousand(b)
	for b.Loop() {
		if err := c.Save(r, time.Now()); err != nil {
			b.Fatal(err)
		}
	}
}
