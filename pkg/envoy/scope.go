package envoy

import (
	"fmt"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// Scope leads one alias, a host without its port, to the routes of a service. The alias must be a valid host.
func Scope(alias string, service manifest.Key) *view.Resource {
	name := service.String()
	r, err := resource(view.SRDS, alias, &routev3.ScopedRouteConfiguration{
		Name:                   alias,
		RouteConfigurationName: name,
		Key: &routev3.ScopedRouteConfiguration_Key{Fragments: []*routev3.ScopedRouteConfiguration_Key_Fragment{{
			Type: &routev3.ScopedRouteConfiguration_Key_Fragment_StringKey{StringKey: alias},
		}}},
	}, view.ID{Type: view.RDS, Name: name})
	if err != nil {
		panic(fmt.Sprintf("scope %q of %s: %v", alias, name, err)) // an empty name, which no manifest has
	}
	return r
}
