package corpus

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/breakwater-mesh/breakwater/internal/testkit/draw"
	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

var (
	namespaces = []string{"shop", "bank"}
	labels     = []map[string]string{{"tier": "inner"}, {"team": "money"}, {"tier": "inner", "team": "money"}, nil}
)

// perNamespace is how many services of HTTP and gRPC a namespace has, beside the callers.
const perNamespace = 16

func (m *maker) services() {
	for _, namespace := range namespaces {
		for i := range perNamespace {
			m.add(m.service(manifest.Key{Namespace: namespace, Name: fmt.Sprint("s", i)}))
		}
	}
	var all []string
	for _, s := range m.Services {
		all = append(all, s.Key().String())
	}
	for _, c := range m.Callers {
		calls := all
		if c.Port != 0 {
			calls = append(slices.Clone(all), m.tcp(c).String())
		}
		s := plain(c.Key)
		s.Spec.DependsOn, s.Metadata.Labels = &calls, draw.Of(m.chance, labels...)
		m.add(s)
	}
}

// tcp adds the tcp service that c calls.
func (m *maker) tcp(c Caller) manifest.Key {
	s := plain(manifest.Key{Namespace: c.Namespace, Name: c.Name + "-tcp"})
	s.Spec.Protocol, s.Spec.LocalPort, s.Spec.Endpoints = catalog.TCP, &c.Port, m.endpoints()
	m.add(s)
	return s.Key()
}

func (m *maker) add(s *catalog.Service) {
	if errs := catalog.Validate(s); len(errs) > 0 {
		stop("not a service: %v", errs)
	}
	m.Services = append(m.Services, s)
	m.called = append(m.called, policy.Service{Key: s.Key(), Labels: s.Metadata.Labels, Protocol: string(catalog.ProtocolOf(s))})
	m.callers = append(m.callers, policy.Caller{Key: s.Key(), Labels: s.Metadata.Labels})
}

func plain(key manifest.Key) *catalog.Service {
	return &catalog.Service{APIVersion: manifest.APIVersion, Kind: catalog.Kind, Metadata: manifest.Meta{Namespace: key.Namespace, Name: key.Name}}
}

// service is one that is called by requests. What it has beside what is drawn here, its fields' tags say.
func (m *maker) service(key manifest.Key) *catalog.Service {
	s := plain(key)
	s.Metadata.Labels = draw.Of(m.chance, labels...)
	s.Spec.Protocol, s.Spec.TLS = draw.Of(m.chance, "", catalog.HTTP, catalog.HTTP2, catalog.GRPC), m.tls()
	rest := without(draw.Fields("", reflect.ValueOf(&s.Spec).Elem()),
		"protocol", "port", "hosts", "endpoints", "subsets", "routes", "tls", "clusterName", "localPort", "dependsOn")
	m.set(rest, 20)
	for _, err := range catalog.Validate(s) {
		draw.Clear(reflect.ValueOf(&s.Spec).Elem(), strings.TrimPrefix(err.Field, "spec."))
	}
	if draw.Percent(m.chance, 25) {
		s.Spec.ClusterName = key.Namespace + "_" + key.Name
	}
	if draw.Percent(m.chance, 25) {
		s.Spec.Hosts = []string{fmt.Sprintf("%s.%s.example.com", key.Name, key.Namespace)}
	}
	try(s, func(spec *catalog.ServiceSpec) { spec.Endpoints = m.endpoints() })
	try(s, func(spec *catalog.ServiceSpec) {
		spec.Subsets = draw.Of(m.chance, nil, map[string]map[string]string{"v1": {"version": "v1"}, "v2": {"version": "v2"}})
	})
	for i := range m.chance.IntN(4) {
		try(s, func(spec *catalog.ServiceSpec) { spec.Routes = append(spec.Routes, m.route(fmt.Sprint("r", i))) })
	}
	return s
}

// try changes s, unless that makes it invalid.
func try(s *catalog.Service, change func(*catalog.ServiceSpec)) {
	before := s.Spec
	if change(&s.Spec); len(catalog.Validate(s)) > 0 {
		s.Spec = before
	}
}

func (m *maker) endpoints() []catalog.EndpointSpec {
	var list []catalog.EndpointSpec
	for i := range m.chance.IntN(5) {
		list = append(list, catalog.EndpointSpec{
			Address: fmt.Sprintf("127.0.0.%d", i+1), Port: new(uint32(1)), // nobody listens there
			Weight:   draw.Of(m.chance, nil, new(uint32(1)), new(uint32(3))),
			Locality: draw.Of(m.chance, nil, &catalog.Locality{Region: "eu"}, &catalog.Locality{Region: "eu", Zone: "a", SubZone: "r1"}),
			Labels:   draw.Of(m.chance, nil, map[string]string{"version": "v1"}, map[string]string{"version": "v2", "canary": "true"}),
			Health:   draw.Of(m.chance, "", catalog.Healthy, catalog.Unhealthy, catalog.Draining, catalog.Degraded),
		})
	}
	return list
}

func (m *maker) tls() *catalog.TLS {
	if m.TLS == (catalog.TLS{}) {
		return nil
	}
	mutual, simple := m.TLS, m.TLS
	mutual.Mode, mutual.SNI = catalog.TLSMutual, "named.example.com"
	simple.Mode, simple.CertFile, simple.KeyFile = catalog.TLSSimple, "", ""
	return draw.Of(m.chance, nil, nil, nil, &catalog.TLS{Mode: catalog.TLSNone}, &simple, &mutual)
}

func (m *maker) route(name string) catalog.Route {
	backends := []catalog.Backend{{Weight: new(uint32(2))}, {Subset: "v1"}, {Subset: "v2", Weight: new(uint32(0))}, {Service: "bank/s4", Weight: new(uint32(3))}, {Service: "shop/s5", Weight: new(uint32(1_000_000))}}
	return catalog.Route{
		Name: name, Match: m.match(), Priority: draw.Of(m.chance, "", catalog.PriorityDefault, catalog.PriorityHigh), Backends: some(m, backends, 3),
	}
}

func (m *maker) match() *catalog.RouteMatch {
	if draw.Percent(m.chance, 10) {
		return nil
	}
	paths := []*catalog.PathMatch{nil, {Exact: new("/a")}, {Prefix: new("/")}, {Prefix: new("/a/")}, {Regex: new("/a/[0-9]+")}}
	headers := []catalog.RequestMatcher{{Name: "x-a", Exact: new("")}, {Name: "x-b", Prefix: new("b")}, {Name: "x-c", Regex: new("c+")}, {Name: "x-d", Present: new(false)}}
	return &catalog.RouteMatch{Path: draw.Of(m.chance, paths...), Headers: some(m, headers, 2), Methods: some(m, []string{"GET", "POST", "PUT"}, 2)}
}

// some are at most so many of the values, each once.
func some[T any](m *maker, values []T, most int) []T {
	m.chance.Shuffle(len(values), func(i, j int) { values[i], values[j] = values[j], values[i] })
	return values[:m.chance.IntN(most+1)]
}
