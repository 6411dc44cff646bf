// Package view holds xDS resources as immutable maps that know how they differ.
package view

import (
	"cmp"
	"strconv"
	"strings"
)

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

const urlPrefix = "type.googleapis.com/"

// URL is the type_url of the resource's Any, or "" where t is no type.
func (t Type) URL() string {
	switch t {
	case RTDS:
		return urlPrefix + "envoy.service.runtime.v3.Runtime"
	case CDS:
		return urlPrefix + "envoy.config.cluster.v3.Cluster"
	case EDS:
		return urlPrefix + "envoy.config.endpoint.v3.ClusterLoadAssignment"
	case LDS:
		return urlPrefix + "envoy.config.listener.v3.Listener"
	case SRDS:
		return urlPrefix + "envoy.config.route.v3.ScopedRouteConfiguration"
	case RDS:
		return urlPrefix + "envoy.config.route.v3.RouteConfiguration"
	}
	return ""
}

// FromURL is the type that has this type_url; false where none has.
func FromURL(url string) (Type, bool) {
	for t := range NumTypes {
		if t.URL() == url {
			return t, true
		}
	}
	return NumTypes, false
}

// String is the short name of the type's discovery service, such as "CDS".
func (t Type) String() string {
	switch t {
	case RTDS:
		return "RTDS"
	case CDS:
		return "CDS"
	case EDS:
		return "EDS"
	case LDS:
		return "LDS"
	case SRDS:
		return "SRDS"
	case RDS:
		return "RDS"
	}
	return "Type(" + strconv.Itoa(int(t)) + ")"
}

// ID names a resource.
type ID struct {
	Type Type
	Name string
}

// Compare orders by type and name.
func (id ID) Compare(o ID) int {
	return cmp.Or(cmp.Compare(id.Type, o.Type), strings.Compare(id.Name, o.Name))
}

// String is the ID as an operator reads it, such as "CDS shop/payments".
func (id ID) String() string { return id.Type.String() + " " + id.Name }
