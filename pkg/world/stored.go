package world

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// What the store holds under the keys of hosts and endpoints. Policies and services are stored as manifest.Encode writes them.

type storedHost struct {
	Schema  int    `json:"schema"`
	Service string `json:"service"` // namespace/name
}

type storedEndpoint struct {
	Schema int                  `json:"schema"`
	Spec   catalog.EndpointSpec `json:"spec"`
}

// EncodeHost is the stored claim of a host by its owner.
func EncodeHost(owner manifest.Key) ([]byte, error) {
	return json.Marshal(storedHost{manifest.Schema, owner.String()})
}

// DecodeHost reads the owner of a host.
func DecodeHost(value []byte) (manifest.Key, error) {
	var s storedHost
	if err := json.Unmarshal(value, &s); err != nil {
		return manifest.Key{}, fmt.Errorf("decode stored host: %w", err)
	}
	namespace, name, ok := strings.Cut(s.Service, "/")
	if s.Schema < 1 || !ok {
		return manifest.Key{}, errors.New("decode stored host: no schema version or no owner")
	}
	return manifest.Key{Namespace: namespace, Name: name}, nil
}

// EncodeEndpoint is the stored form of a registered endpoint. Its service and id are its key.
func EncodeEndpoint(e *catalog.Endpoint) ([]byte, error) {
	return json.Marshal(storedEndpoint{manifest.Schema, e.Spec})
}

// DecodeEndpoint reads the registered endpoint of that key.
func DecodeEndpoint(key EndpointKey, value []byte) (*catalog.Endpoint, error) {
	var s storedEndpoint
	if err := json.Unmarshal(value, &s); err != nil {
		return nil, fmt.Errorf("decode stored endpoint: %w", err)
	}
	if s.Schema < 1 {
		return nil, errors.New("decode stored endpoint: no schema version")
	}
	return &catalog.Endpoint{Service: key.Service, ID: key.ID, Spec: s.Spec}, nil
}
