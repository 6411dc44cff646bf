package world

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

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
	Lease  manifest.Duration    `json:"lease,omitempty"`
}

// storedLife is what lies under a live key. While the key has a lease nothing but the schema is in it.
type storedLife struct {
	Schema int       `json:"schema"`
	Since  time.Time `json:"since,omitzero"`
	Of     int       `json:"of,omitempty"`
	Fleet  int       `json:"fleet,omitempty"`
}

// Generation is one generation of an object, as its history keeps it.
type Generation struct {
	Schema     int             `json:"schema"`
	Generation int64           `json:"generation"`
	Deleted    bool            `json:"deleted,omitempty"` // a tombstone: the next object of the name counts on from here
	At         time.Time       `json:"at"`
	By         string          `json:"by"`
	Why        string          `json:"why,omitempty"`
	Object     json.RawMessage `json:"object,omitempty"` // as it was after the edit
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
	s := storedEndpoint{Schema: manifest.Schema, Spec: e.Spec}
	if e.Lease > 0 {
		s.Lease = manifest.DurationOf(e.Lease)
	}
	return json.Marshal(s)
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
	e := &catalog.Endpoint{Service: key.Service, ID: key.ID, Spec: s.Spec}
	if s.Lease != "" {
		if fault := s.Lease.Check(false); fault != "" {
			return nil, fmt.Errorf("decode stored endpoint: lease %s", fault)
		}
		e.Lease = s.Lease.D()
	}
	return e, nil
}

// EncodeLife is the stored form of a sign of life, which goes under a key with a lease.
func EncodeLife() ([]byte, error) { return json.Marshal(storedLife{Schema: manifest.Schema}) }

// EncodeMark is the stored form of m, which goes under a key without a lease.
func EncodeMark(m Mark) ([]byte, error) {
	return json.Marshal(storedLife{manifest.Schema, m.Since.UTC(), m.Of, m.Fleet})
}

// DecodeMark reads what lies, since revision, under a live key without a lease.
func DecodeMark(value []byte, revision int64) (*Mark, error) {
	var s storedLife
	if err := json.Unmarshal(value, &s); err != nil {
		return nil, fmt.Errorf("decode stored mark: %w", err)
	}
	if s.Schema < 1 || s.Since.IsZero() {
		return nil, errors.New("decode stored mark: no schema version, or no time")
	}
	return &Mark{Since: s.Since, Of: s.Of, Fleet: s.Fleet, Revision: revision}, nil
}
