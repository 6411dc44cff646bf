package integration_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// held is what a proxy holds or should hold: "CDS shop/payments" -> a version, or the content where Envoy tells no version of it.
type held map[string]string

// differences are the entries in which got is not want, in words.
func differences(got, want held) []string {
	var all []string
	for _, id := range slices.Sorted(maps.Keys(want)) {
		if got[id] != want[id] {
			all = append(all, fmt.Sprintf("%s = %q, want %q", id, got[id], want[id]))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[id]; !ok {
			all = append(all, fmt.Sprintf("%s = %q, want none", id, got[id]))
		}
	}
	return all
}

// wanted asks the control plane, as a proxy that holds nothing yet, for what the Envoy of shop/caller must hold.
func (m *mesh) wanted(caller, outbound string) (held, error) {
	conn, err := grpc.NewClient(m.cp.XDS, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return nil, err
	}
	o := &observer{stream: stream, got: held{}, missing: map[string]bool{}, node: sidecarNode("observer", caller, outbound)}
	return o.observe()
}

// sidecarNode is what the Envoy of shop/caller says of itself.
func sidecarNode(id, caller, outbound string) *corev3.Node {
	return &corev3.Node{
		Id: id, Cluster: caller + ".shop", UserAgentName: "envoy",
		UserAgentVersionType: &corev3.Node_UserAgentBuildVersion{UserAgentBuildVersion: &corev3.BuildVersion{Version: &typev3.SemanticVersion{MajorNumber: 1, MinorNumber: 40}}},
		Metadata: &structpb.Struct{Fields: map[string]*structpb.Value{
			"breakwater.profile":  structpb.NewStringValue("sidecar"),
			"breakwater.runtime":  structpb.NewStringValue("8"),
			"breakwater.outbound": structpb.NewStringValue(outbound),
		}},
	}
}

// observer is a proxy that only looks.
type observer struct {
	stream  discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	node    *corev3.Node
	got     held
	missing map[string]bool // asked for and not answered yet
}

func (o *observer) observe() (held, error) {
	var layers []string
	for i := range 8 {
		layers = append(layers, fmt.Sprintf("limits-%d", i))
	}
	if err := errors.Join(o.ask(view.RTDS, layers...), o.ask(view.CDS), o.ask(view.LDS), o.ask(view.SRDS)); err != nil {
		return nil, err
	}
	for len(o.missing) > 0 {
		r, err := o.stream.Recv()
		if err != nil {
			return nil, fmt.Errorf("waiting for %q: %w", slices.Sorted(maps.Keys(o.missing)), err)
		}
		if err := o.take(r); err != nil {
			return nil, err
		}
	}
	return o.got, nil
}

// ask subscribes to names, or to all there is.
func (o *observer) ask(t view.Type, names ...string) error {
	for _, name := range names {
		o.missing[view.ID{Type: t, Name: name}.String()] = true
	}
	if len(names) == 0 {
		o.missing[t.String()] = true
	}
	return o.stream.Send(&discoveryv3.DeltaDiscoveryRequest{Node: o.node, TypeUrl: t.URL(), ResourceNamesSubscribe: names})
}

// take acks r, notes it, and asks for what it names.
func (o *observer) take(r *discoveryv3.DeltaDiscoveryResponse) error {
	if err := o.stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce()}); err != nil {
		return err
	}
	t, ok := view.FromURL(r.GetTypeUrl())
	if !ok {
		return fmt.Errorf("a response of type %s", r.GetTypeUrl())
	}
	delete(o.missing, t.String())
	named := map[string]bool{}
	for _, resource := range r.GetResources() {
		delete(o.missing, view.ID{Type: t, Name: resource.GetName()}.String())
		names, err := o.note(t, resource)
		if err != nil {
			return err
		}
		for _, name := range names {
			named[name] = true
		}
	}
	next := map[view.Type]view.Type{view.CDS: view.EDS, view.SRDS: view.RDS, view.LDS: view.RDS}[t]
	var fresh []string
	for _, name := range slices.Sorted(maps.Keys(named)) {
		id := view.ID{Type: next, Name: name}.String()
		if _, known := o.got[id]; !known && !o.missing[id] {
			fresh = append(fresh, name)
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	return o.ask(next, fresh...)
}

// note books one resource and returns the names of what it refers to.
func (o *observer) note(t view.Type, r *discoveryv3.Resource) ([]string, error) {
	id := view.ID{Type: t, Name: r.GetName()}.String()
	switch t {
	case view.CDS:
		var c clusterv3.Cluster
		o.got[id] = r.GetVersion()
		if err := r.GetResource().UnmarshalTo(&c); err != nil || c.GetType() != clusterv3.Cluster_EDS {
			return nil, err // a composite has no endpoints of its own
		}
		return []string{r.GetName()}, nil
	case view.LDS:
		var l listenerv3.Listener
		if err := r.GetResource().UnmarshalTo(&l); err != nil {
			return nil, err
		}
		var err error
		if o.got[id], err = contentOf(&l); err != nil {
			return nil, err
		}
		return namedRoutes(&l)
	case view.SRDS:
		var s routev3.ScopedRouteConfiguration
		err := r.GetResource().UnmarshalTo(&s)
		o.got[id] = s.GetRouteConfigurationName()
		return []string{s.GetRouteConfigurationName()}, err
	case view.EDS:
		var a endpointv3.ClusterLoadAssignment
		err := r.GetResource().UnmarshalTo(&a)
		var hosts []string
		for _, locality := range a.GetEndpoints() {
			for _, e := range locality.GetLbEndpoints() {
				address := e.GetEndpoint().GetAddress().GetSocketAddress()
				hosts = append(hosts, fmt.Sprintf("%s:%d", address.GetAddress(), address.GetPortValue()))
			}
		}
		o.got[id] = joined(hosts)
		return nil, err
	case view.RTDS:
		var l runtimev3.Runtime
		err := r.GetResource().UnmarshalTo(&l)
		for key, value := range l.GetLayer().GetFields() {
			o.got["RTDS "+key] = fmt.Sprint(value.AsInterface())
		}
		return nil, err
	}
	o.got[id] = r.GetVersion()
	return nil, nil
}

// contentOf stands for what a listener says. Envoy tells no usable version of one: an update in place keeps that of the listener it updates.
func contentOf(l *listenerv3.Listener) (string, error) {
	text, err := protojson.Marshal(l)
	return fmt.Sprintf("%x", sha256.Sum256(text))[:16], err
}

// namedRoutes are the routes that a listener names itself.
func namedRoutes(l *listenerv3.Listener) (names []string, err error) {
	for _, chain := range l.GetFilterChains() {
		for _, f := range chain.GetFilters() {
			var m hcmv3.HttpConnectionManager
			if !f.GetTypedConfig().MessageIs(&m) {
				continue
			}
			if err := f.GetTypedConfig().UnmarshalTo(&m); err != nil {
				return nil, err
			}
			if name := m.GetRds().GetRouteConfigName(); name != "" {
				names = append(names, name)
			}
		}
	}
	return names, nil
}

func joined(hosts []string) string {
	slices.Sort(hosts)
	return strings.Join(hosts, " ")
}

// holds is what Envoy says it holds, and how many clusters and listeners it keeps aside.
func (s *sidecar) holds() (held, error) {
	body, err := s.ConfigDump()
	if err != nil {
		return nil, err
	}
	var dump envoyDump
	if err := json.Unmarshal(body, &dump); err != nil {
		return nil, err
	}
	got, assigned := held{}, map[string]bool{}
	for _, c := range dump.Configs {
		if err := c.into(got); err != nil {
			return nil, err
		}
		for _, e := range c.Clusters {
			assigned["EDS "+e.Cluster.Name] = e.Cluster.Type == "EDS"
		}
	}
	maps.DeleteFunc(got, func(id, _ string) bool { // other clusters have their hosts from elsewhere, and are listed all the same
		return strings.HasPrefix(id, "EDS ") && !assigned[id]
	})
	got.forgetDrained()
	return got, s.runtimeInto(got)
}

// forgetDrained drops the listeners of faults that are no more, which Envoy keeps for minutes, with their routes, until they are drained.
func (h held) forgetDrained() {
	for id := range h {
		name, draining := strings.CutPrefix(id, "draining LDS ")
		if !draining || !strings.Contains(name, "~fault") {
			continue
		}
		delete(h, id)
		if _, again := h["LDS "+name]; !again {
			delete(h, "RDS "+name)
		}
	}
}

// envoyDump is the part of Envoy's /config_dump that is compared.
type envoyDump struct {
	Configs []dumpSection `json:"configs"`
}

type dumpSection struct {
	Clusters  []dumped `json:"dynamic_active_clusters"`
	Warming   []dumped `json:"dynamic_warming_clusters"`
	Routes    []dumped `json:"dynamic_route_configs"`
	Listeners []struct {
		Name     string  `json:"name"`
		Active   *dumped `json:"active_state"`
		Warming  *dumped `json:"warming_state"`
		Draining *dumped `json:"draining_state"`
	} `json:"dynamic_listeners"`
	Scopes []struct {
		Configs []struct {
			Name  string `json:"name"`
			Route string `json:"route_configuration_name"`
		} `json:"scoped_route_configs"`
	} `json:"dynamic_scoped_route_configs"`
	Endpoints []struct {
		Config struct {
			Cluster    string `json:"cluster_name"`
			Localities []struct {
				Hosts []struct {
					Endpoint struct {
						Address struct {
							Socket struct {
								Address string `json:"address"`
								Port    int    `json:"port_value"`
							} `json:"socket_address"`
						} `json:"address"`
					} `json:"endpoint"`
				} `json:"lb_endpoints"`
			} `json:"endpoints"`
		} `json:"endpoint_config"`
	} `json:"dynamic_endpoint_configs"`
}

func (c dumpSection) into(got held) error {
	for _, e := range c.Clusters {
		got["CDS "+e.Cluster.Name] = e.Version
	}
	for _, e := range c.Warming {
		got["warming CDS "+e.Cluster.Name] = e.Version
	}
	for _, e := range c.Routes {
		got["RDS "+e.Route.Name] = e.Version
	}
	for _, l := range c.Listeners {
		for state, e := range map[string]*dumped{"": l.Active, "warming ": l.Warming, "draining ": l.Draining} {
			if e == nil {
				continue
			}
			content, err := e.listener()
			if err != nil {
				return fmt.Errorf("%slistener %s: %w", state, l.Name, err)
			}
			got[state+"LDS "+l.Name] = content
		}
	}
	for _, set := range c.Scopes {
		for _, scope := range set.Configs {
			got["SRDS "+scope.Name] = scope.Route
		}
	}
	for _, e := range c.Endpoints {
		var hosts []string
		for _, locality := range e.Config.Localities {
			for _, host := range locality.Hosts {
				socket := host.Endpoint.Address.Socket
				hosts = append(hosts, fmt.Sprintf("%s:%d", socket.Address, socket.Port))
			}
		}
		got["EDS "+e.Config.Cluster] = joined(hosts)
	}
	return nil
}

// runtimeInto adds the keys of Envoy's runtime that a layer of ours sets.
func (s *sidecar) runtimeInto(got held) error {
	resp, err := http.Get("http://" + s.Admin + "/runtime")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	var doc struct {
		Layers  []string `json:"layers"`
		Entries map[string]struct {
			Values []string `json:"layer_values"`
		} `json:"entries"`
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return err
	}
	for key, e := range doc.Entries {
		for i, value := range e.Values {
			if value != "" && strings.HasPrefix(doc.Layers[i], "limits-") {
				got["RTDS "+key] = value
			}
		}
	}
	return nil
}

// converges waits until Envoy holds exactly what the control plane gives to a proxy that asks for the first time.
func (m *mesh) converges(s *sidecar, caller string) {
	m.t.Helper()
	var want held
	eventually(m.t, func() error {
		var err error
		if want, err = m.wanted(caller, s.Outbound); err != nil {
			return err
		}
		got, err := s.holds()
		if err != nil {
			return err
		}
		if d := differences(got, want); len(d) > 0 {
			return fmt.Errorf("envoy differs from what the control plane wants:\n%s", strings.Join(d, "\n"))
		}
		return nil
	})
	if len(want) < 20 {
		m.t.Errorf("only %d things were compared: %v", len(want), want)
	}
}

// TestDifferences is here because a comparison that sees nothing would pass every test.
func TestDifferences(t *testing.T) {
	got := differences(held{"a": "1", "b": "2", "c": "3"}, held{"a": "1", "b": "x", "d": "4"})
	want := []string{`b = "2", want "x"`, `d = "", want "4"`, `c = "3", want none`}
	if !slices.Equal(got, want) {
		t.Errorf("differences are %q, want %q", got, want)
	}
}

// dumped is one resource in Envoy's dump.
type dumped struct {
	Version string `json:"version_info"`
	Cluster struct {
		Name string `json:"name"`
		Type string `json:"type"`
	} `json:"cluster"`
	Route struct {
		Name string `json:"name"`
	} `json:"route_config"`
	Listener json.RawMessage `json:"listener"`
}

// listener stands for what the listener says, as contentOf.
func (d dumped) listener() (string, error) {
	var packed anypb.Any
	if err := protojson.Unmarshal(d.Listener, &packed); err != nil {
		return "", err
	}
	var l listenerv3.Listener
	if err := packed.UnmarshalTo(&l); err != nil {
		return "", err
	}
	return contentOf(&l)
}
