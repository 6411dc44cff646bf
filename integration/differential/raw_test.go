package differential_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3" // listeners pack it
	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"
)

// resources are what a raw scenario asks of its listener, its route and its cluster: YAML of the fields that are not as they are by
// default, merged into the defaults field by field. A list replaces a list, and null takes a field away. $NAME is the scenario's name, which
// the listener, the virtual host and the cluster bear too; $SIDE is left or right; $DNS is the port of a name server; $HOST0, $PORT0 and so on are its hosts.
type resources struct {
	listener  string // of the Listener
	hcm       string // of the HttpConnectionManager
	tcp       string // of the TcpProxy, which is there in place of a connection manager where this is set
	config    string // of the RouteConfiguration
	host      string // of the VirtualHost
	routes    string // the list of routes, in place of one that leads "/" to the cluster
	route     string // of that route
	action    string // of its RouteAction
	cluster   string // of the Cluster
	endpoints string // the list of localities, in place of one with all hosts
	options   string // of the cluster's HttpProtocolOptions
	more      string // a list of further resources, each with its "@type"
	runtime   string // runtime keys

	by  string // how the routes come: "" inline, "rds" or "scoped"
	eds bool   // the hosts come by EDS
}

// over is base with what r says in addition.
func (r resources) over(base resources) resources {
	join := func(to *string, more string) {
		if more != "" {
			*to += "\n---\n" + more
		}
	}
	for _, f := range []struct {
		to   *string
		more string
	}{
		{&base.listener, r.listener}, {&base.hcm, r.hcm}, {&base.tcp, r.tcp}, {&base.config, r.config}, {&base.host, r.host}, {&base.routes, r.routes},
		{&base.route, r.route}, {&base.action, r.action}, {&base.cluster, r.cluster}, {&base.endpoints, r.endpoints}, {&base.options, r.options},
		{&base.more, r.more}, {&base.runtime, r.runtime},
	} {
		join(f.to, f.more)
	}
	if r.by != "" {
		base.by = r.by
	}
	base.eds = base.eds || r.eds
	return base
}

const typePrefix = "type.googleapis.com/"

// site is where the resources of a trial go: one side's port, and its access log, which the agent has no field for.
type site struct {
	name  string
	side  string
	port  int
	hosts []string
	dns   string // the address of a name server
	log   string // a file; "" none
}

// text puts the site's names into YAML.
func (s site) text(text string) string {
	_, dns, _ := net.SplitHostPort(s.dns)
	pairs := []string{"$DNS", cmp.Or(dns, "53"), "$NAME", s.name, "$SIDE", s.side, "$PORT$", strconv.Itoa(s.port)}
	for i, host := range slices.Backward(s.hosts) { // $HOST10 before $HOST1
		_, port, _ := net.SplitHostPort(host)
		pairs = append(pairs, fmt.Sprintf("$HOST%d", i), host, fmt.Sprintf("$PORT%d", i), port)
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// built are resources by type URL and name.
type built map[string]map[string]proto.Message

func (b built) add(name string, m proto.Message) {
	url := typePrefix + string(m.ProtoReflect().Descriptor().FullName())
	if b[url] == nil {
		b[url] = map[string]proto.Message{}
	}
	b[url][name] = m
}

// build makes the resources of a site. It panics where they are no Envoy resources: nothing could be tested.
func (r resources) build(s site) built {
	out := built{}
	routes := r.routeConfig(s)
	listener := merge(s.node(`{name: $NAME, address: {socket_address: {address: 127.0.0.1, port_value: $PORT$}}}`), s.node(r.listener))
	if r.tcp == "" {
		setFilter(listener, r.connectionManager(s, routes))
	} else {
		setFilter(listener, s.logged(merge(s.node(`{"@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", stat_prefix: $NAME, cluster: $NAME}`), s.node(r.tcp)), tcpLog))
	}
	out.add(s.name, decode(listener, new(listenerv3.Listener)))
	if r.by != "" {
		out.add(s.name, decode(routes, new(routev3.RouteConfiguration)))
	}
	if r.by == "scoped" {
		out.add(s.name, decode(s.node(`{name: $NAME, route_configuration_name: $NAME, key: {fragments: [{string_key: $NAME}]}}`), new(routev3.ScopedRouteConfiguration)))
	}
	r.addCluster(s, out)
	if r.more != "" {
		for _, item := range s.list(r.more) {
			addAny(out, item)
		}
	}
	return out
}

func (r resources) routeConfig(s site) map[string]any {
	route := merge(s.node(`{match: {prefix: "/"}, route: {cluster: $NAME}}`), s.node(r.route))
	if action, ok := route["route"].(map[string]any); ok {
		route["route"] = merge(action, s.node(r.action))
	}
	routes := []any{route}
	if r.routes != "" {
		routes = s.list(r.routes)
	}
	host := merge(s.node(`{name: $NAME, domains: ["*"]}`), s.node(r.host))
	host["routes"] = routes
	config := s.node(`{name: $NAME, validate_clusters: false}`)
	config["virtual_hosts"] = []any{host}
	return merge(config, s.node(r.config))
}

const ads = `{ads: {}, resource_api_version: V3}`

func (r resources) connectionManager(s site, routes map[string]any) map[string]any {
	hcm := s.node(`
"@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
stat_prefix: $NAME
internal_address_config: {cidr_ranges: [{address_prefix: 255.255.255.255, prefix_len: 32}]}
http_filters: [{name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]
`)
	switch r.by {
	case "rds":
		hcm["rds"] = s.node(`{route_config_name: $NAME, config_source: ` + ads + `}`)
	case "scoped":
		hcm["scoped_routes"] = s.node(`
name: scopes
rds_config_source: ` + ads + `
scoped_rds: {scoped_rds_config_source: ` + ads + `}
scope_key_builder: {fragments: [{header_value_extractor: {name: ":authority", element_separator: ":", index: 0}}]}
`)
	default:
		hcm["route_config"] = routes
	}
	return s.logged(merge(hcm, s.node(r.hcm)), httpLog)
}

// The access log of Envoy.
const (
	tcpLog = `{flags: "%RESPONSE_FLAGS%", in: "%BYTES_RECEIVED%", out: "%BYTES_SENT%", cluster: "%UPSTREAM_CLUSTER%", host: "%UPSTREAM_HOST%", details: "%CONNECTION_TERMINATION_DETAILS%"}`

	httpLog = `{method: "%REQ(:METHOD)%", path: "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%", authority: "%REQ(X-ENVOY-ORIGINAL-HOST?:AUTHORITY)%", protocol: "%PROTOCOL%", status: "%RESPONSE_CODE%", ` +
		`flags: "%RESPONSE_FLAGS%", details: "%RESPONSE_CODE_DETAILS%", in: "%BYTES_RECEIVED%", out: "%BYTES_SENT%", cluster: "%UPSTREAM_CLUSTER%", ` +
		`host: "%UPSTREAM_HOST%", route: "%ROUTE_NAME%", attempts: "%UPSTREAM_REQUEST_ATTEMPT_COUNT%", grpc: "%GRPC_STATUS_NUMBER%"}`
)

// logged gives a filter an access log, where the site has one.
func (s site) logged(filter map[string]any, format string) map[string]any {
	if s.log == "" {
		return filter
	}
	filter["access_log"] = []any{map[string]any{"name": "file", "typed_config": map[string]any{
		"@type": typePrefix + "envoy.extensions.access_loggers.file.v3.FileAccessLog", "path": s.log,
		"log_format": map[string]any{"json_format": s.node(format)},
	}}}
	return filter
}

func setFilter(listener, filter map[string]any) {
	if _, ok := listener["filter_chains"]; !ok {
		listener["filter_chains"] = []any{map[string]any{"filters": []any{map[string]any{"name": "filter", "typed_config": filter}}}}
	}
}

func (r resources) addCluster(s site, out built) {
	localities := `[{locality: {region: here}, lb_endpoints: [`
	for i := range s.hosts {
		localities += fmt.Sprintf(`{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: $PORT%d}}}},`, i)
	}
	localities += `]}]`
	if r.endpoints != "" {
		localities = r.endpoints
	}
	assignment := map[string]any{"cluster_name": s.name, "endpoints": s.list(localities)}
	cluster := s.node(`{name: $NAME, type: STATIC, connect_timeout: 1s}`)
	if r.eds {
		cluster["type"], cluster["eds_cluster_config"] = "EDS", s.node(`{eds_config: `+ads+`}`)
		out.add(s.name, decode(assignment, new(endpointv3.ClusterLoadAssignment)))
	} else {
		cluster["load_assignment"] = assignment
	}
	const options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
	if r.options != "" {
		base := s.node(`{"@type": ` + typePrefix + options + `, explicit_http_config: {http_protocol_options: {}}}`)
		cluster["typed_extension_protocol_options"] = map[string]any{options: merge(base, s.node(r.options))}
	}
	out.add(s.name, decode(merge(cluster, s.node(r.cluster)), new(clusterv3.Cluster)))
}

func addAny(out built, item any) {
	m, err := anypb.New(decodeAny(item))
	if err != nil {
		panic(err)
	}
	inner, err := m.UnmarshalNew()
	if err != nil {
		panic(err)
	}
	switch named := inner.(type) {
	case interface{ GetName() string }:
		out.add(named.GetName(), inner)
	case interface{ GetClusterName() string }:
		out.add(named.GetClusterName(), inner)
	}
}

func decodeAny(item any) proto.Message {
	m, err := decode(item, new(anypb.Any)).UnmarshalNew()
	if err != nil {
		panic(err)
	}
	return m
}

func decode[M proto.Message](node any, m M) M {
	text, err := json.Marshal(node)
	if err != nil {
		panic(err)
	}
	if err := protojson.Unmarshal(text, m); err != nil {
		panic(fmt.Sprintf("%v in\n%s", err, text))
	}
	return m
}

// node reads fields; of several documents the later are merged into the earlier.
func (s site) node(text string) map[string]any {
	node := map[string]any{}
	for doc := range strings.SplitSeq(s.text(text), "\n---\n") {
		node = merge(node, read[map[string]any](doc))
	}
	return node
}

// list reads a list; of several documents the last holds.
func (s site) list(text string) []any {
	docs := strings.Split(s.text(text), "\n---\n")
	return read[[]any](docs[len(docs)-1])
}

func read[T any](text string) (v T) {
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		panic(fmt.Sprintf("%v in\n%s", err, text))
	}
	return v
}

// merge is base with what more has in addition, map by map. A null of more takes away: to protojson it is nothing.
func merge(base, more map[string]any) map[string]any {
	out := maps.Clone(base)
	if out == nil {
		out = map[string]any{}
	}
	for name, value := range more {
		below, ok := value.(map[string]any)
		old, was := out[name].(map[string]any)
		switch {
		case ok && was:
			out[name] = merge(old, below)
		default:
			out[name] = value
		}
	}
	return out
}

// layer is an RTDS resource of keys.
func layer(name string, keys map[string]any) proto.Message {
	return decode(map[string]any{"name": name, "layer": keys}, new(runtimev3.Runtime))
}
