package envoy

import (
	"fmt"
	"hash/fnv"
	"strings"

	"google.golang.org/protobuf/types/known/structpb"

	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// Layers is the number of runtime layers: an edit makes Envoy read one of them anew, not all.
const Layers = 8

// RuntimeKey is one key of a runtime layer. It is comparable.
type RuntimeKey struct {
	Key   string
	Value uint32
}

// retries reports whether k limits retries.
func (k RuntimeKey) retries() bool {
	return strings.HasSuffix(k.Key, ".max_retries") || strings.Contains(k.Key, ".retry_budget.")
}

// LayerName is the name of a runtime layer, from 0.
func LayerName(layer int) string { return fmt.Sprintf("limits-%d", layer) }

// LayerNames are the names of all layers, in order.
func LayerNames() []string {
	names := make([]string, Layers)
	for i := range names {
		names[i] = LayerName(i)
	}
	return names
}

// LayerOf is the layer that holds the keys of a service, from 0: those of its own cluster, and of the clusters of its subsets.
func LayerOf(service string) int {
	h := fnv.New32a()
	h.Write([]byte(service))
	return int(h.Sum32() % Layers)
}

// Layer is a runtime layer, from 0, that holds keys. An empty one is valid, and must be sent: Envoy waits for its layers before it
// listens.
func Layer(layer int, keys []RuntimeKey) (*view.Resource, error) {
	if layer < 0 || layer >= Layers {
		return nil, fmt.Errorf("there is no runtime layer %d", layer)
	}
	fields := make(map[string]*structpb.Value, len(keys))
	for _, k := range keys {
		if _, twice := fields[k.Key]; twice {
			return nil, fmt.Errorf("runtime key %s is given twice", k.Key)
		}
		fields[k.Key] = structpb.NewNumberValue(float64(k.Value))
	}
	name := LayerName(layer)
	return resource(view.RTDS, name, &runtimev3.Runtime{Name: name, Layer: &structpb.Struct{Fields: fields}})
}
