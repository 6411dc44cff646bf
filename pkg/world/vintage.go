package world

import (
	"encoding/json"
	"fmt"

	"github.com/breakwater-mesh/breakwater/pkg/envoy"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// Vintage is the form of the compiler's output that all replicas make at this revision, at least 1.
func (w *World) Vintage() int { return max(1, w.vintage) }

// storedVintage is what lies under store.VintageKey.
type storedVintage struct {
	Schema  int `json:"schema"`
	Vintage int `json:"vintage"`
}

// EncodeVintage is the stored vintage.
func EncodeVintage(v int) ([]byte, error) { return json.Marshal(storedVintage{manifest.Schema, v}) }

// DecodeVintage reads the stored vintage.
func DecodeVintage(value []byte) (int, error) {
	var s storedVintage
	if err := json.Unmarshal(value, &s); err != nil {
		return 0, fmt.Errorf("decode stored vintage: %w", err)
	}
	if s.Schema < 1 || s.Vintage < 1 {
		return 0, fmt.Errorf("decode stored vintage: no schema version, or the vintage is %d", s.Vintage)
	}
	return s.Vintage, nil
}

// target is what the proxies of a class can take, in the vintage of the world; or in the last one that this release knows: then it must not
// answer proxies that come new.
func (b *Builder) target(key ClassKey) envoy.Target {
	t := key.target()
	t.Vintage = min(b.world.Vintage(), b.Knows)
	return t
}

// revintage touches everything where the vintage has changed, and reports whether it has.
func (t *touched) revintage(old, now *World) bool {
	if old.Vintage() == now.Vintage() {
		return false
	}
	for key := range now.services {
		t.services[key], t.endpoints[key] = true, true
	}
	t.catalogue = true
	return true
}

// renew builds a class from nothing, and publishes what is not as it was.
func (b *Builder) renew(cs *classState) {
	old, fresh := cs.class.Head(), b.emptyClass(cs.class.Key)
	b.fill(fresh)
	head := fresh.class.Head()
	fresh.class = cs.class
	b.classes[cs.class.Key] = fresh
	b.batch.note(cs.class, old, head)
	cs.class.Publish(head)
}
