package view

import (
	"crypto/sha256"
	"encoding/hex"

	"google.golang.org/protobuf/encoding/protowire"
)

// Resource is one xDS resource, marshalled once and shared by classes and streams. It is immutable.
type Resource struct {
	Type    Type
	Prompt  bool // of a cluster: it serves as soon as it has its assignment
	Name    string
	Version string // 16 hex digits of the SHA-256 of the Any's bytes
	Wire    []byte // field 2 of DeltaDiscoveryResponse, with tag and length: name, version, then the Any last
	Sotw    []byte // tail of Wire: field 2 of DiscoveryResponse, holding the Any
	// Needs are the resources this one refers to. A cluster has none: its assignment follows it.
	Needs []ID
}

// Field numbers of envoy.service.discovery.v3.Resource, of google.protobuf.Any, and the one that DeltaDiscoveryResponse and
// DiscoveryResponse share.
const (
	fieldResources = 2

	fieldResourceVersion = 1
	fieldResourceAny     = 2
	fieldResourceName    = 3

	fieldAnyURL   = 1
	fieldAnyValue = 2
)

// New makes a Resource of message, the deterministically marshalled bytes of a message of type t. It copies message and keeps needs.
func New(t Type, name string, message []byte, needs []ID) *Resource {
	url := t.URL()
	body := make([]byte, 0, len(url)+len(message)+16)
	body = protowire.AppendTag(body, fieldAnyURL, protowire.BytesType)
	body = protowire.AppendString(body, url)
	body = protowire.AppendTag(body, fieldAnyValue, protowire.BytesType)
	body = protowire.AppendBytes(body, message)
	sum := sha256.Sum256(body)
	version := hex.EncodeToString(sum[:8])

	// The Any comes last, under the field number that it has in a DiscoveryResponse too: so both dialects share one copy.
	inner := protowire.SizeTag(fieldResourceName) + protowire.SizeBytes(len(name)) +
		protowire.SizeTag(fieldResourceVersion) + protowire.SizeBytes(len(version)) +
		protowire.SizeTag(fieldResourceAny) + protowire.SizeBytes(len(body))
	wire := make([]byte, 0, protowire.SizeTag(fieldResources)+protowire.SizeBytes(inner))
	wire = protowire.AppendTag(wire, fieldResources, protowire.BytesType)
	wire = protowire.AppendVarint(wire, uint64(inner))
	wire = protowire.AppendTag(wire, fieldResourceName, protowire.BytesType)
	wire = protowire.AppendString(wire, name)
	wire = protowire.AppendTag(wire, fieldResourceVersion, protowire.BytesType)
	wire = protowire.AppendString(wire, version)
	tail := len(wire)
	wire = protowire.AppendTag(wire, fieldResourceAny, protowire.BytesType)
	wire = protowire.AppendBytes(wire, body)
	return &Resource{Type: t, Name: name, Version: version, Wire: wire, Sotw: wire[tail:len(wire):len(wire)], Needs: needs}
}

// Any is the marshalled google.protobuf.Any of the resource. The caller must not change it.
func (r *Resource) Any() []byte {
	_, _, tag := protowire.ConsumeTag(r.Sotw)
	body, n := protowire.ConsumeBytes(r.Sotw[tag:])
	if n < 0 {
		return nil
	}
	return body
}

// ID is the type and name of the resource.
func (r *Resource) ID() ID { return ID{Type: r.Type, Name: r.Name} }
