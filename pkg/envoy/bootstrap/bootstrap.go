// Package bootstrap writes the file that a proxy is started with: who it is and where its control plane is. All else arrives over xDS.
package bootstrap

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"text/template"
	"unicode"
	"unicode/utf8"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// Options are the answers that a bootstrap is made of.
type Options struct {
	XDS       []string // host:port of every replica of the control plane, at least one; a name or an IP address
	Namespace string   // of the service beside which the proxy runs
	Service   string   // the service beside which the proxy runs
	NodeID    string   // unique among the proxies
	Profile   string   // of an Envoy: sidecar, or clusters-only where the listeners and routes are its owner's
	Admin     string   // ip:port of the admin interface; default 127.0.0.1:9901, of an agent 127.0.0.1:9902
	Outbound  string   // ip:port that the application calls; default 127.0.0.1:15001
	Edge      bool     // who calls through it is outside: what it says of its deadline is dropped
	Ejections bool     // of an Envoy, 1.37 or later: it tells the control plane how many hosts it has ejected
	StateDir  string   // of an agent; "" for its own default
	NoState   bool     // of an agent: it keeps none
	Advertise string   // ip:port at which an agent registers its application; "": it does not
}

// Defaults of the addresses.
const (
	DefaultAdmin      = "127.0.0.1:9901"
	DefaultAgentAdmin = "127.0.0.1:9902"
	DefaultOutbound   = "127.0.0.1:15001"
)

// layers is the number of runtime layers that the compiler spreads limits over.
const layers = 8

//go:embed envoy.yaml.tmpl
var envoyTemplate string

type endpoint struct{ Host, Port string }

// Agent is a breakwater-agent's settings file: the same text for the same options. StateDir and Advertise are left out where they are
// "". The error says which options are wrong.
func Agent(o Options) ([]byte, error) {
	o.Profile = "sidecar"
	if o.Admin == "" {
		o.Admin = DefaultAgentAdmin
	}
	if o.Outbound == "" {
		o.Outbound = DefaultOutbound
	}
	if _, _, err := o.check(); err != nil {
		return nil, err
	}
	if !netip.MustParseAddrPort(o.Admin).Addr().IsLoopback() {
		return nil, fmt.Errorf("listen-admin %q: an agent's is on loopback only, as nothing guards it", o.Admin)
	}
	if fault := CheckNodeID(o.NodeID); fault != "" {
		return nil, fmt.Errorf("node-id: %s", fault)
	}
	if err := o.checkAdvertised(); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	out.WriteString("# breakwater-agent --config FILE. The names are those of the flags.\nxds:\n")
	for _, address := range o.XDS {
		fmt.Fprintf(&out, "- %s\n", strconv.Quote(address))
	}
	for _, s := range [...]struct{ name, value string }{
		{"namespace", o.Namespace}, {"service", o.Service}, {"node-id", o.NodeID}, {"listen-admin", o.Admin},
		{"listen-outbound", o.Outbound}, {"state-dir", o.StateDir}, {"advertise", o.Advertise},
	} {
		if s.value != "" {
			fmt.Fprintf(&out, "%s: %s\n", s.name, strconv.Quote(s.value))
		}
	}
	if o.NoState && o.StateDir == "" {
		out.WriteString("state-dir: \"\"\n")
	}
	if o.Edge {
		out.WriteString("edge: true\n")
	}
	return out.Bytes(), nil
}

// checkAdvertised checks the endpoint that an agent would register: its id is the node id.
func (o *Options) checkAdvertised() error {
	if o.Advertise == "" {
		return nil
	}
	p, err := netip.ParseAddrPort(o.Advertise)
	if err != nil || p.Port() == 0 {
		return fmt.Errorf("advertise %q is no IP:PORT", o.Advertise)
	}
	port := uint32(p.Port())
	var faults []error
	for _, f := range catalog.ValidateEndpoint(&catalog.Endpoint{ID: o.NodeID, Spec: catalog.EndpointSpec{Address: p.Addr().String(), Port: &port}}, nil) {
		option := "advertise"
		if strings.HasPrefix(f.Field, "metadata.name") {
			option = "node-id"
		}
		faults = append(faults, fmt.Errorf("%s: %s", option, f.Message))
	}
	return errors.Join(faults...)
}

// maxNodeID is how many bytes a node id may have.
const maxNodeID = 253

// CheckNodeID says what is wrong with the node id of an agent; "" when nothing is.
func CheckNodeID(id string) string {
	bad := func(r rune) bool { return r == '/' || r == '\\' || unicode.IsSpace(r) || unicode.IsControl(r) }
	switch {
	case len(id) > maxNodeID:
		return fmt.Sprintf("must have at most %d bytes, has %d", maxNodeID, len(id))
	case !utf8.ValidString(id) || strings.ContainsFunc(id, bad):
		return fmt.Sprintf("%q must have no spaces, slashes or control characters", id)
	}
	return ""
}

// Envoy is an Envoy's bootstrap as YAML: the same text for the same options. The error says which options are wrong.
func Envoy(e Options) ([]byte, error) {
	if e.Profile == "" {
		e.Profile = "sidecar"
	}
	if e.Admin == "" {
		e.Admin = DefaultAdmin
	}
	if e.Outbound == "" {
		e.Outbound = DefaultOutbound
	}
	endpoints, names, err := e.check()
	if err != nil {
		return nil, err
	}
	t, err := template.New("envoy").Funcs(template.FuncMap{"quote": strconv.Quote}).Parse(envoyTemplate)
	if err != nil {
		return nil, err
	}
	admin := netip.MustParseAddrPort(e.Admin)
	discovery := "STATIC"
	if names {
		discovery = "STRICT_DNS"
	}
	var out bytes.Buffer
	err = t.Execute(&out, map[string]any{
		"Node": e, "Cluster": e.Service + "." + e.Namespace, "AdminIP": admin.Addr().String(), "AdminPort": admin.Port(),
		"Routes": e.Profile == "sidecar", "Layers": layers, "Endpoints": endpoints, "Discovery": discovery,
	})
	return out.Bytes(), err
}

// check returns the control plane's addresses and whether any of them is a name.
func (e Options) check() (endpoints []endpoint, names bool, err error) {
	var faults []error
	for _, name := range [...]struct{ flag, value string }{{"namespace", e.Namespace}, {"service", e.Service}} {
		if fault := manifest.CheckName(name.value); fault != "" {
			faults = append(faults, fmt.Errorf("%s %s", name.flag, fault))
		}
	}
	if e.NodeID == "" {
		faults = append(faults, errors.New("node-id is required"))
	}
	if e.Profile != "sidecar" && e.Profile != "clusters-only" {
		faults = append(faults, fmt.Errorf("profile %q is not supported: sidecar and clusters-only are", e.Profile))
	}
	if e.Edge && e.Profile == "clusters-only" {
		faults = append(faults, errors.New("edge is for proxies whose listeners are ours, and with profile clusters-only they are the owner's"))
	}
	for _, a := range [...]struct{ flag, value string }{{"listen-admin", e.Admin}, {"listen-outbound", e.Outbound}} {
		if p, err := netip.ParseAddrPort(a.value); err != nil || p.Port() == 0 {
			faults = append(faults, fmt.Errorf("%s %q is no IP:PORT", a.flag, a.value))
		}
	}
	if len(e.XDS) == 0 {
		faults = append(faults, errors.New("xds is required: HOST:PORT of the control plane"))
	}
	for _, address := range e.XDS {
		host, port, err := split(address)
		if err != nil {
			faults = append(faults, fmt.Errorf("xds %q is no HOST:PORT", address))
			continue
		}
		if _, err := netip.ParseAddr(host); err != nil {
			names = true
		}
		endpoints = append(endpoints, endpoint{host, port})
	}
	return endpoints, names, errors.Join(faults...)
}

// split reads "host:port" or "[ipv6]:port".
func split(address string) (host, port string, err error) {
	if p, err := netip.ParseAddrPort(address); err == nil && p.Port() != 0 {
		return p.Addr().String(), strconv.Itoa(int(p.Port())), nil
	}
	host, port, ok := strings.Cut(address, ":")
	n, err := strconv.ParseUint(port, 10, 16)
	if !ok || err != nil || n == 0 || !manifest.DNSName(strings.ToLower(host)) {
		return "", "", errors.New("no address")
	}
	return host, port, nil
}

// GRPC is the bootstrap of a proxyless gRPC client as JSON, for the file that GRPC_XDS_BOOTSTRAP names: the same text for the same
// options. The addresses are of no use to it. The error says which options are wrong.
func GRPC(o Options) ([]byte, error) {
	o.Profile, o.Admin, o.Outbound = "sidecar", DefaultAdmin, DefaultOutbound
	if _, _, err := o.check(); err != nil {
		return nil, err
	}
	type server struct {
		URI         string              `json:"server_uri"`
		Credentials []map[string]string `json:"channel_creds"`
		Features    []string            `json:"server_features"`
	}
	var servers []server
	for _, address := range o.XDS {
		servers = append(servers, server{address, []map[string]string{{"type": "insecure"}}, []string{"xds_v3"}})
	}
	text, err := json.MarshalIndent(map[string]any{
		"xds_servers": servers,
		"node":        map[string]any{"id": o.NodeID, "cluster": o.Service + "." + o.Namespace},
	}, "", "  ")
	return append(text, '\n'), err
}
