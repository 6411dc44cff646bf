package envoy

import (
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

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
	keys = slices.Clone(keys)
	sortKeys(keys)
	for i, k := range keys {
		if i > 0 && keys[i-1].Key == k.Key {
			return nil, fmt.Errorf("runtime key %s is given twice", k.Key)
		}
	}
	name := LayerName(layer)
	return view.New(view.RTDS, name, marshalLayer(name, keys), nil), nil
}

// marshalLayer is what the deterministic marshalling of a runtimev3.Runtime makes, whose layer is a Struct of numbers, by key: without making
// one, since each class has layers of its own.
func marshalLayer(name string, keys []RuntimeKey) []byte {
	field := func(to []byte, number protowire.Number, value []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(to, number, protowire.BytesType), value)
	}
	size := 0
	for _, k := range keys {
		size += len(k.Key) + 20
	}
	fields := make([]byte, 0, size)
	var entry, number []byte
	for _, k := range keys {
		number = protowire.AppendTag(number[:0], 2, protowire.Fixed64Type) // Value.number_value
		number = protowire.AppendFixed64(number, math.Float64bits(float64(k.Value)))
		entry = protowire.AppendTag(entry[:0], 1, protowire.BytesType)
		entry = field(protowire.AppendString(entry, k.Key), 2, number)
		fields = field(fields, 1, entry) // Struct.fields
	}
	return field(field(make([]byte, 0, len(name)+len(fields)+20), 1, []byte(name)), 2, fields)
}
