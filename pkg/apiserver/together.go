package apiserver

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/store"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// together refuses services and endpoints that are valid alone, but of which no proxy could be given all.
func (w *writer) together(ctx context.Context, p *plan) error {
	for _, s := range p.steps {
		var err error
		switch {
		case s.action == api.Unchanged || s.removes():
		case s.kind == endpointKind:
			if err = w.succeed(ctx, p, s); err != nil {
				return err
			}
			err = s.fits(p.world.Endpoints(s.key))
		case s.service != nil && p.portTaken(s) != nil:
			err = p.portTaken(s)
		case s.service != nil && p.clusterTaken(s) != nil:
			err = p.clusterTaken(s)
		case s.service != nil && s.oldService != nil && !sameAddresses(&s.service.Spec, &s.oldService.Spec):
			err = w.serviceFits(ctx, s)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// portTaken refuses a tcp service whose local port another one of its namespace has: their callers are the same.
func (p *plan) portTaken(s *step) error {
	port := s.service.Spec.LocalPort
	if port == nil {
		return nil
	}
	for _, other := range p.world.Services() {
		if theirs := other.Spec.LocalPort; other.Key() != s.key && other.Metadata.Namespace == s.key.Namespace && theirs != nil && *theirs == *port {
			return conflict(api.PortConflict, "a local port is one service's", api.Conflict{
				Kind: catalog.Kind, Namespace: other.Metadata.Namespace, Name: other.Metadata.Name, Field: "spec.localPort",
				Message: fmt.Sprintf("Service %s has localPort %d already", other.Key(), *port),
			})
		}
	}
	return nil
}

// clusterTaken refuses a service whose cluster is called as another's in proxies with routes of their own: which of them a route means
// nobody could say.
func (p *plan) clusterTaken(s *step) error {
	names := catalog.ClusterNames(s.service)
	for _, other := range p.world.Services() {
		theirs := catalog.ClusterNames(other)
		name := slices.IndexFunc(names, func(name string) bool { return slices.Contains(theirs, name) })
		if other.Key() != s.key && name >= 0 {
			return conflict(api.ClusterConflict, "the name of a cluster is one service's", api.Conflict{
				Kind: catalog.Kind, Namespace: other.Metadata.Namespace, Name: other.Metadata.Name, Field: "spec.clusterName",
				Message: fmt.Sprintf("the cluster of Service %s is called %s already", other.Key(), names[name]),
			})
		}
	}
	return nil
}

func sameAddresses(a, b *catalog.ServiceSpec) bool {
	return reflect.DeepEqual(a.Port, b.Port) && reflect.DeepEqual(a.Endpoints, b.Endpoints) && reflect.DeepEqual(a.Discovery, b.Discovery)
}

// fits holds a registered endpoint against its service and the others.
func (s *step) fits(all []catalog.Endpoint) error {
	if catalog.Port(s.endpoint, &s.oldService.Spec) == 0 {
		return invalidField("port", "is required: the service names no port")
	}
	if n := len(all) + len(s.oldService.Spec.Endpoints); n > catalog.MaxEndpoints && s.action == api.Created {
		return invalidField("", fmt.Sprintf("Service %s has %d endpoints already, the most there may be", s.key, n-1))
	}
	d := catalog.Together(s.oldService, all)
	for _, twin := range d.Twins {
		if twin.ID == s.id || twin.Other == "endpoint "+s.id {
			return conflict(api.EndpointConflict, "one address and port is one endpoint", s.twinConflict(twin))
		}
	}
	for _, where := range d.Heavy {
		if where == localityOf(s.endpoint) {
			return invalidField("weight", overweight(where))
		}
	}
	return nil
}

// serviceFits holds a service against the endpoints that are registered with it. They are read from the store: this replica may not
// have seen the youngest.
func (w *writer) serviceFits(ctx context.Context, s *step) error {
	snap, err := w.kv.List(ctx, store.EndpointKey(s.key.Namespace, s.key.Name, ""))
	if err != nil {
		return err
	}
	var registered []catalog.Endpoint
	for _, entry := range snap.Entries {
		key, ok := store.ParseConfigKey(entry.Key)
		if !ok {
			continue
		}
		e, err := world.DecodeEndpoint(world.EndpointKey{Service: s.key, ID: key.ID}, entry.Value)
		if err != nil {
			return fmt.Errorf("read %s: %w", entry.Key, err)
		}
		registered = append(registered, *e)
	}
	d := catalog.Together(s.service, registered)
	var faults []manifest.FieldError
	if n := len(registered); n > 0 && catalog.DNSOf(s.service) != nil {
		faults = append(faults, s.place.fault("spec.discovery.dns", fmt.Sprintf("is not beside registered endpoints, of which there are %d, such as %s: delete them first", n, registered[0].ID)))
	}
	if n := len(d.Portless); n > 0 {
		text := fmt.Sprintf("is required: the registered endpoint %s has no port of its own", d.Portless[0])
		if n > 1 {
			text = fmt.Sprintf("is required: %d registered endpoints have no port of their own, such as %s", n, d.Portless[0])
		}
		faults = append(faults, s.place.fault("spec.port", text))
	}
	for _, where := range d.Heavy {
		faults = append(faults, s.place.fault("spec.endpoints", overweight(where)))
	}
	if n := len(registered) + len(s.service.Spec.Endpoints); n > catalog.MaxEndpoints {
		faults = append(faults, s.place.fault("spec.endpoints", fmt.Sprintf("make %d together with the registered endpoints; at most %d are accepted", n, catalog.MaxEndpoints)))
	}
	if len(faults) > 0 {
		return invalid(faults...)
	}
	var clashes []api.Conflict
	for _, twin := range d.Twins {
		clashes = append(clashes, s.twinConflict(twin))
	}
	if len(clashes) > 0 {
		return conflict(api.EndpointConflict, "one address and port is one endpoint", clashes...)
	}
	return nil
}

// twinConflict names the endpoint that stands in the way of s.
func (s *step) twinConflict(twin catalog.Twin) api.Conflict {
	theirs, ours := "endpoint "+twin.ID, twin.Other
	if s.kind == endpointKind && twin.ID == s.id {
		theirs, ours = ours, theirs
	}
	name := s.key.Name
	if id, registered := strings.CutPrefix(theirs, "endpoint "); registered {
		name += "/" + id
	}
	return api.Conflict{
		Kind: endpointKind, Namespace: s.key.Namespace, Name: name, Field: "address",
		Message: fmt.Sprintf("%s of Service %s is at %s, where %s would be", theirs, s.key, twin.At, ours),
	}
}

func localityOf(e *catalog.EndpointSpec) catalog.Locality {
	if e.Locality == nil {
		return catalog.Locality{}
	}
	return *e.Locality
}

func overweight(where catalog.Locality) string {
	if where == (catalog.Locality{}) {
		return "the weights of the endpoints without a locality add up to more than 4294967295"
	}
	return fmt.Sprintf("the weights of the endpoints in %s/%s/%s add up to more than 4294967295", where.Region, where.Zone, where.SubZone)
}
