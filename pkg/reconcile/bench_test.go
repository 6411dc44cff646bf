package reconcile

import (
	"fmt"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// BenchmarkSweep is what a second costs a replica with 10,000 leased endpoints, of which one is stale and the others are heard.
func BenchmarkSweep(b *testing.B) {
	c := world.Changes{Endpoints: map[world.EndpointKey]*catalog.Endpoint{}, Lives: map[world.EndpointKey]*world.Life{}}
	for i := range 10000 {
		k := world.EndpointKey{Service: manifest.Key{Namespace: "shop", Name: fmt.Sprintf("s%d", i%1000)}, ID: fmt.Sprintf("e%d", i)}
		c.Endpoints[k] = &catalog.Endpoint{Service: k.Service, ID: k.ID, Lease: lease}
		c.Lives[k] = &world.Life{Lease: int64(i + 1)}
		if i == 0 {
			c.Lives[k] = &world.Life{Mark: &world.Mark{Since: time.Now(), Of: 10, Fleet: 10000}}
		}
	}
	w := (&world.World{}).With(1, c)
	for b.Loop() {
		if marks(w, time.Now(), time.Time{}) != nil || removals(w, time.Now()) != nil {
			b.Fatal("there is something to write")
		}
	}
}
