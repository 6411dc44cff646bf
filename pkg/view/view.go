// Package view holds xDS resources as immutable maps that know how they differ.
package view

// Type is a kind of xDS resource, in the order in which a proxy must receive them.
type Type uint8

// The types.
const (
	RTDS Type = iota
	CDS
	EDS
	LDS
	SRDS
	RDS
	NumTypes
)

// ID names a resource.
type ID struct {
	Type Type
	Name string
}

// Resource is one xDS resource, marshalled once and shared by classes and streams. It is immutable.
type Resource struct {
	Type    Type
	Name    string
	Version string // from a hash of Body's bytes
	Wire    []byte // field 2 of DeltaDiscoveryResponse, with tag and length: name, version, then the Any last
	Sotw    []byte // tail of Wire: field 2 of DiscoveryResponse, holding the Any
	// Needs are the resources this one refers to. A cluster has none: its assignment follows it.
	Needs []ID
}
