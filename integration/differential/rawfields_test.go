package differential_test

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// TestEveryRawFieldIsChanged: what a raw scenario sets, and what is not known to change nothing, some mutant sets otherwise or takes away.
func TestEveryRawFieldIsChanged(t *testing.T) {
	harmless, err := os.ReadFile("../../pkg/dataplane/testdata/harmless.list")
	if err != nil {
		t.Fatal(err)
	}
	used, changed, needed := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, sc := range allScenarios() {
		if sc.raw == nil {
			continue
		}
		s := site{name: sc.name, port: 1, hosts: slices.Repeat([]string{"127.0.0.1:1"}, max(1, sc.hosts+sc.refusing+sc.silent))}
		base := sc.raw.build(s)
		for _, byName := range base {
			for _, m := range byName {
				fieldsIn(m.ProtoReflect(), used)
			}
		}
		for _, mutant := range sc.mutants {
			other := mutant.over(*sc.raw).build(s)
			for url, byName := range base {
				for name, m := range byName {
					if twin := other[url][name]; twin != nil {
						fieldsOtherwise(m.ProtoReflect(), twin.ProtoReflect(), changed)
					}
				}
			}
		}
	}
	known := strings.Fields(string(harmless))
	for _, field := range slices.Sorted(maps.Keys(used)) {
		if changed[field] || slices.Contains(known, field) || strings.HasPrefix(field, "google.") || strings.HasPrefix(field, "xds.") {
			continue
		}
		reason := ""
		for prefix := range rawNotChanged {
			if strings.HasPrefix(field, prefix) {
				reason, needed[prefix] = rawNotChanged[prefix], true
			}
		}
		if reason == "" {
			t.Errorf("no mutant changes %s: add one, or say in rawNotChanged why there is none", field)
		}
	}
	for prefix := range rawNotChanged {
		if !needed[prefix] {
			t.Errorf("mutants change all of %s: take it out of rawNotChanged", prefix)
		}
	}
}

// fieldsIn notes the fields that are set in m, by message.
func fieldsIn(m protoreflect.Message, set map[string]bool) {
	if inner := unpacked(m); inner != nil {
		fieldsIn(inner, set)
		return
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		set[string(f.FullName())] = true
		for _, below := range messagesIn(f, v) {
			fieldsIn(below, set)
		}
		return true
	})
}

// fieldsOtherwise notes the fields that differ. Who loses the whole loses its parts.
func fieldsOtherwise(a, b protoreflect.Message, set map[string]bool) {
	if x, y := unpacked(a), unpacked(b); x != nil && y != nil && x.Descriptor() == y.Descriptor() {
		fieldsOtherwise(x, y, set)
		return
	}
	if a.Descriptor() != b.Descriptor() || unpacked(a) != nil {
		fieldsIn(a, set)
		fieldsIn(b, set)
		return
	}
	for i := range a.Descriptor().Fields().Len() {
		f := a.Descriptor().Fields().Get(i)
		v, w := a.Get(f), b.Get(f)
		if a.Has(f) == b.Has(f) && v.Equal(w) {
			continue
		}
		set[string(f.FullName())] = true
		below, other := messagesIn(f, v), messagesIn(f, w)
		for j := range max(len(below), len(other)) {
			switch {
			case j >= len(below):
				fieldsIn(other[j], set)
			case j >= len(other):
				fieldsIn(below[j], set)
			default:
				fieldsOtherwise(below[j], other[j], set)
			}
		}
	}
}

// messagesIn are the messages of a value, in an order that two of one shape share.
func messagesIn(f protoreflect.FieldDescriptor, v protoreflect.Value) []protoreflect.Message {
	var all []protoreflect.Message
	switch {
	case f.IsMap() && f.MapValue().Message() != nil:
		byKey := map[string]protoreflect.Message{}
		v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
			byKey[k.String()] = v.Message()
			return true
		})
		for _, key := range slices.Sorted(maps.Keys(byKey)) {
			all = append(all, byKey[key])
		}
	case f.IsMap() || f.Message() == nil:
	case f.IsList():
		for i := range v.List().Len() {
			all = append(all, v.List().Get(i).Message())
		}
	case v.Message().IsValid():
		all = append(all, v.Message())
	}
	return all
}

// unpacked is what is in an Any, nil where m is none.
func unpacked(m protoreflect.Message) protoreflect.Message {
	packed, ok := m.Interface().(*anypb.Any)
	if !ok {
		return nil
	}
	inner, err := packed.UnmarshalNew()
	if err != nil {
		return nil
	}
	return proto.Message(inner).ProtoReflect()
}

// rawNotChanged are what no mutant changes, by the beginning of the field's name, each with why.
var rawNotChanged = map[string]string{
	"envoy.config.listener.v3.Listener.":                                                 "names and addresses: a scenario is found by them",
	"envoy.config.core.v3.Address.":                                                      "likewise",
	"envoy.config.core.v3.EnvoyInternalAddress.":                                         "likewise",
	"envoy.config.endpoint.v3.Endpoint.address":                                          "likewise",
	"envoy.config.cluster.v3.Cluster.name":                                               "likewise",
	"envoy.extensions.clusters.":                                                         "clusters of other clusters are scenarios of their own",
	"envoy.config.core.v3.ConfigSource.":                                                 "there is one source",
	"envoy.config.route.v3.RouteConfiguration.name":                                      "resources refer to each other by it",
	"envoy.config.route.v3.ScopedRouteConfiguration.name":                                "likewise",
	"envoy.config.route.v3.ScopedRouteConfiguration.route_con":                           "likewise",
	"envoy.config.route.v3.VirtualHost.name":                                             "likewise",
	"envoy.config.route.v3.WeightedCluster.ClusterWeight.name":                           "the weights lead to one cluster or another",
	"envoy.extensions.filters.network.http_connection_manager.v3.Rds.":                   "where routes come from is a scenario for each way",
	"envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.": "likewise; and whose callers are internal is not enforced otherwise",
	"envoy.extensions.filters.network.http_connection_manager.v3.ScopedRoutes.":          "likewise; the agent takes one key",
	"envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.stat_prefix":                 "statistics of listeners are not compared",
	"envoy.config.core.v3.Locality.":                                                     "seen in scenarios of balancing by locality",
	"envoy.config.cluster.v3.CircuitBreakers.Thresholds.priority":                        "raw-high, where a route has the one or the other",
	"envoy.config.core.v3.TransportSocket.":                                              "how a cluster reaches an internal listener, or TLS: it works or nothing does",
	"envoy.config.cluster.v3.Cluster.transport_socket":                                   "likewise",
	"envoy.extensions.transport_sockets.":                                                "likewise",
	"envoy.extensions.upstreams.http.v3.HttpProtocolOptions.ExplicitHttpConfig.http2":    "hosts speak both; every raw-wire scenario is there for either",
	"envoy.config.core.v3.Runtime":                                                       "keys that no layer has; a layer that has them is refused",
	"envoy.type.v3.":                                                                     "parts of values that others change as a whole",

	// What follows has scenarios that differ in it, side by side, in place of mutants.
	"envoy.config.cluster.v3.Cluster.RingHashLbConfig.":                               "raw_balance_test.go",
	"envoy.config.cluster.v3.Cluster.RoundRobinLbConfig.":                             "raw_balance_test.go",
	"envoy.config.cluster.v3.Cluster.SlowStartConfig.":                                "raw_balance_test.go",
	"envoy.config.route.v3.RouteAction.HashPolicy.":                                   "raw_balance_test.go",
	"envoy.config.endpoint.v3.LocalityLbEndpoints.":                                   "raw_balance_test.go",
	"envoy.extensions.load_balancing_policies.":                                       "raw_balance_test.go",
	"envoy.config.core.v3.HealthCheck.":                                               "raw_checks_test.go",
	"envoy.extensions.filters.http.adaptive_concurrency.v3.":                          "raw_filters_test.go",
	"envoy.extensions.filters.http.admission_control.v3.":                             "raw_filters_test.go",
	"envoy.extensions.filters.http.local_ratelimit.v3.":                               "raw_filters_test.go",
	"envoy.extensions.filters.common.fault.v3.":                                       "raw_filters_test.go",
	"envoy.extensions.http.custom_response.":                                          "raw_filters_test.go",
	"envoy.extensions.filters.network.http_connection_manager.v3.LocalReplyConfig.":   "raw_filters_test.go",
	"envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter.disabled": "raw_filters_test.go",
	"envoy.config.core.v3.SubstitutionFormatString.":                                  "raw_filters_test.go",
	"envoy.config.route.v3.Route.response_headers_to_add":                             "raw_filters_test.go",
	"envoy.config.route.v3.RouteConfiguration.request_headers_to_add":                 "raw_filters_test.go",
	"envoy.config.route.v3.RedirectAction.prefix_rewrite":                             "raw_paths_test.go",
	"envoy.config.route.v3.RouteConfiguration.response_headers_to_remove":             "raw_paths_test.go",
}
