package catalog

import (
	"cmp"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// DefaultRoute is the name of the route that every service ends with: it takes what no other route takes.
const DefaultRoute = "default"

// Priority is which of a cluster's limits a call counts against.
type Priority string

// The priorities.
const (
	PriorityDefault Priority = "default"
	PriorityHigh    Priority = "high"
)

// Route takes some of the calls to a service. Of a service's routes the first that matches counts.
type Route struct {
	Name     string      `json:"name" doc:"By which policies name it; default is the one that takes what no other does." effect:"in place" bwdefault:"required"`
	Match    *RouteMatch `json:"match,omitempty" doc:"Which calls it takes; all that is written must hold." effect:"in place" bwdefault:"every call"`
	Priority Priority    `json:"priority,omitempty" doc:"Which limits its calls count against: limits, or limits.high." enum:"default,high" effect:"in place" bwdefault:"default (Envoy)"`
	Backends []Backend   `json:"backends,omitempty" doc:"Where its calls go, by weight." effect:"in place" bwdefault:"every endpoint of the service"`
}

// RouteMatch says which calls a route takes.
type RouteMatch struct {
	Path    *PathMatch       `json:"path,omitempty" doc:"The path, without its query." effect:"in place" bwdefault:"any path"`
	Methods []string         `json:"methods,omitempty" doc:"One of these methods." effect:"in place" bwdefault:"any method"`
	Headers []RequestMatcher `json:"headers,omitempty" doc:"All of these headers." effect:"in place" bwdefault:"any headers"`
}

// PathMatch is exactly one of its fields.
type PathMatch struct {
	Exact  *string `json:"exact,omitempty" doc:"The whole path." effect:"in place" bwdefault:"by prefix or regex"`
	Prefix *string `json:"prefix,omitempty" doc:"How the path begins, letter by letter: /a is the beginning of /about too." effect:"in place" bwdefault:"by exact or regex"`
	Regex  *string `json:"regex,omitempty" doc:"An RE2 expression for the whole path." effect:"in place" bwdefault:"by exact or prefix"`
}

// RequestMatcher matches a header of a request. Exactly one of its fields beside the name is set.
type RequestMatcher struct {
	Name    string  `json:"name" doc:"The header, in lower case." effect:"in place" bwdefault:"required"`
	Exact   *string `json:"exact,omitempty" doc:"The whole value." effect:"in place" bwdefault:"by another field"`
	Prefix  *string `json:"prefix,omitempty" doc:"How the value begins." effect:"in place" bwdefault:"by another field"`
	Regex   *string `json:"regex,omitempty" doc:"An RE2 expression for the whole value." effect:"in place" bwdefault:"by another field"`
	Present *bool   `json:"present,omitempty" doc:"Whether the header must be there." effect:"in place" bwdefault:"by another field"`
}

// Backend is where a share of a route's calls goes.
type Backend struct {
	Service string  `json:"service,omitempty" doc:"The service, as name or namespace/name; proxies that receive the route's service receive its endpoints too." effect:"in place" bwdefault:"the route's own service"`
	Subset  string  `json:"subset,omitempty" doc:"One of that service's subsets." effect:"in place" bwdefault:"every endpoint"`
	Weight  *uint32 `json:"weight,omitempty" doc:"Its share of the calls, relative to the others; 0 is none." maximum:"1000000" effect:"in place" bwdefault:"1 (Breakwater)"`
}

// Key is the service that b, a backend of svc, leads to.
func (b Backend) Key(svc *Service) manifest.Key {
	if b.Service == "" {
		return svc.Key()
	}
	return ParseRef(b.Service, svc.Metadata.Namespace)
}

// Share is the weight of b, its default filled in.
func (b Backend) Share() uint32 {
	if b.Weight == nil {
		return 1
	}
	return *b.Weight
}

// PriorityOf is the priority of r, its default filled in.
func PriorityOf(r *Route) Priority { return cmp.Or(r.Priority, PriorityDefault) }

// Everything reports whether r takes every call that reaches it.
func (r *Route) Everything() bool {
	m := r.Match
	return m == nil || len(m.Methods) == 0 && len(m.Headers) == 0 &&
		(m.Path == nil || m.Path.Prefix != nil && *m.Path.Prefix == "/")
}

// HasRoute reports whether policies can name that route of svc. A tcp service has none.
func HasRoute(svc *Service, name string) bool {
	if ProtocolOf(svc) == TCP {
		return false
	}
	for i := range svc.Spec.Routes {
		if svc.Spec.Routes[i].Name == name {
			return true
		}
	}
	return name == DefaultRoute
}

// Backends are the other services that routes of svc lead to, each once, in their order.
func Backends(svc *Service) []manifest.Key {
	if len(svc.Spec.Routes) == 0 {
		return nil
	}
	var keys []manifest.Key
	seen := map[manifest.Key]bool{svc.Key(): true}
	for i := range svc.Spec.Routes {
		for _, b := range svc.Spec.Routes[i].Backends {
			if key := b.Key(svc); !seen[key] {
				seen[key] = true
				keys = append(keys, key)
			}
		}
	}
	return keys
}

// Selects reports whether an endpoint with these labels belongs to a subset that asks for those.
func Selects(subset, labels map[string]string) bool {
	for k, v := range subset {
		if have, ok := labels[k]; !ok || have != v {
			return false
		}
	}
	return true
}
