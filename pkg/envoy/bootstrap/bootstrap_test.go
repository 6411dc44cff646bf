package bootstrap

import (
	"bytes"
	"maps"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

func options() Options {
	return Options{XDS: []string{"127.0.0.1:18000", "10.0.0.2:18000"}, Namespace: "shop", Service: "orders", NodeID: "orders-1"}
}

func TestEnvoyBootstrap(t *testing.T) {
	text, err := Envoy(options())
	if err != nil {
		t.Fatal(err)
	}
	again, err := Envoy(options())
	if err != nil || !bytes.Equal(text, again) {
		t.Errorf("another text from the same options: %v", err)
	}
	var doc struct {
		Node struct {
			ID, Cluster string
			Metadata    map[string]string
		}
		LayeredRuntime struct {
			Layers []struct{ Name string }
		} `yaml:"layered_runtime"`
		StaticResources struct {
			Clusters []struct{ Name, Type string }
		} `yaml:"static_resources"`
	}
	if err := yaml.Unmarshal(text, &doc); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	if doc.Node.ID != "orders-1" || doc.Node.Cluster != "orders.shop" {
		t.Errorf("node is %+v", doc.Node)
	}
	for key, want := range map[string]string{"breakwater.profile": "sidecar", "breakwater.runtime": "8", "breakwater.outbound": DefaultOutbound} {
		if got := doc.Node.Metadata[key]; got != want {
			t.Errorf("%s = %q, want %q", key, got, want)
		}
	}
	if got := len(doc.LayeredRuntime.Layers); got != 10 {
		t.Errorf("%d runtime layers, want 10", got)
	}
	if got := doc.StaticResources.Clusters; len(got) != 1 || got[0].Type != "STATIC" {
		t.Errorf("clusters are %v, want one of type STATIC", got)
	}
	for _, want := range []string{"127.0.0.1", "10.0.0.2"} {
		if !strings.Contains(string(text), `address: "`+want+`", port_value: 18000`) {
			t.Errorf("control plane %s is missing in\n%s", want, text)
		}
	}
}

func TestBootstrapAtTheEdge(t *testing.T) {
	o := options()
	o.Edge, o.Admin, o.Outbound = true, "", ""
	if text, err := Envoy(o); err != nil || !strings.Contains(string(text), "\n    breakwater.edge: \"true\"\n") {
		t.Errorf("an Envoy at the edge does not say so: %v\n%s", err, text)
	}
	if text, err := Agent(o); err != nil || !strings.Contains(string(text), "\nedge: true\n") {
		t.Errorf("an agent at the edge does not say so: %v\n%s", err, text)
	}
}

func TestBootstrapThatReportsEjections(t *testing.T) {
	o := options()
	without, err := Envoy(o)
	if err != nil || bytes.Contains(without, []byte("stats_sinks")) {
		t.Errorf("a report that nobody asked for: %v\n%s", err, without)
	}
	o.Ejections = true
	text, err := Envoy(o)
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Sinks []struct {
			Config struct {
				Detectors []struct {
					Config struct{ Attributes map[string]string } `yaml:"typed_config"`
				} `yaml:"resource_detectors"`
			} `yaml:"typed_config"`
		} `yaml:"stats_sinks"`
	}
	if err := yaml.Unmarshal(text, &doc); err != nil || len(doc.Sinks) != 1 || len(doc.Sinks[0].Config.Detectors) != 1 {
		t.Fatalf("%v: %+v, want one sink that says who the proxy is, in\n%s", err, doc, text)
	}
	want := map[string]string{"service.instance.id": "orders-1", "service.namespace": "shop", "service.name": "orders"}
	if got := doc.Sinks[0].Config.Detectors[0].Config.Attributes; !maps.Equal(got, want) {
		t.Errorf("the proxy is %v, want %v", got, want)
	}
}

func TestEnvoyBootstrapByName(t *testing.T) {
	o := options()
	o.XDS = []string{"breakwater.local:18000"}
	text, err := Envoy(o)
	if err != nil || !strings.Contains(string(text), "type: STRICT_DNS") {
		t.Errorf("a name is not looked up: %v\n%s", err, text)
	}
}

func TestEnvoyBootstrapRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil func(*Options)
		want  string
	}{
		"no namespace":     {func(o *Options) { o.Namespace = "" }, "namespace is required"},
		"no service":       {func(o *Options) { o.Service = "" }, "service is required"},
		"no node id":       {func(o *Options) { o.NodeID = "" }, "node-id is required"},
		"no control plane": {func(o *Options) { o.XDS = nil }, "xds is required: HOST:PORT of the control plane"},
		"no port":          {func(o *Options) { o.XDS = []string{"10.0.0.1"} }, `xds "10.0.0.1" is no HOST:PORT`},
		"bad port":         {func(o *Options) { o.XDS = []string{"a:99999"} }, `xds "a:99999" is no HOST:PORT`},
		"url":              {func(o *Options) { o.XDS = []string{"http://a:1"} }, `xds "http://a:1" is no HOST:PORT`},
		"dotted service":   {func(o *Options) { o.Service = "orders.shop" }, `service "orders.shop" must consist of a-z, 0-9 and '-' only`},
		"yaml in a name":   {func(o *Options) { o.XDS = []string{"a\"}\nb:1"} }, `xds "a\"}\nb:1" is no HOST:PORT`},
		"profile":          {func(o *Options) { o.Profile = "gateway" }, `profile "gateway" is not supported: sidecar and clusters-only are`},
		"edge of another":  {func(o *Options) { o.Edge, o.Profile = true, "clusters-only" }, "edge is for proxies whose listeners are ours, and with profile clusters-only they are the owner's"},
		"admin":            {func(o *Options) { o.Admin = "9901" }, `listen-admin "9901" is no IP:PORT`},
		"outbound":         {func(o *Options) { o.Outbound = "localhost:1" }, `listen-outbound "localhost:1" is no IP:PORT`},
	} {
		o := options()
		tt.spoil(&o)
		if text, err := Envoy(o); err == nil || err.Error() != tt.want || text != nil {
			t.Errorf("%s: got %v, want %s", name, err, tt.want)
		}
	}
}

func TestAgentSettings(t *testing.T) {
	o := options()
	o.Admin, o.Outbound, o.StateDir, o.Advertise = "", "", "/var/lib/x", "10.0.0.7:9000"
	without := o
	without.StateDir, without.NoState = "", true
	if text, err := Agent(without); err != nil || !strings.Contains(string(text), "\nstate-dir: \"\"\n") {
		t.Errorf("without a state directory: %v\n%s", err, text)
	}
	for want, id := range map[string]string{"node-id: ": "Bad_Id", "node-id: \"a b\" must have no spaces": "a b"} {
		bad := o
		bad.NodeID = id
		if _, err := Agent(bad); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("the id %s: %v, want %s", id, err, want)
		}
	}
	text, err := Agent(o)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := yaml.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{
		"namespace": o.Namespace, "service": o.Service, "node-id": o.NodeID, "listen-outbound": DefaultOutbound, "listen-admin": DefaultAgentAdmin, "state-dir": o.StateDir, "advertise": o.Advertise,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	if list, ok := got["xds"].([]any); !ok || len(list) != len(o.XDS) || list[0] != o.XDS[0] {
		t.Errorf("xds is %v, want %v", got["xds"], o.XDS)
	}
	for want, spoil := range map[string]func(*Options){
		"service is required":                func(o *Options) { o.Service = "" },
		`advertise "9000" is no IP:PORT`:     func(o *Options) { o.Advertise = "9000" },
		`listen-admin "10.0.0.1:9902": an a`: func(o *Options) { o.Admin = "10.0.0.1:9902" },
	} {
		o := o
		spoil(&o)
		if text, err := Agent(o); err == nil || !strings.HasPrefix(err.Error(), want) || text != nil {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestGRPCBootstrap(t *testing.T) {
	o := Options{XDS: []string{"127.0.0.1:18000", "b:18000"}, Namespace: "shop", Service: "orders", NodeID: "orders-1"}
	text, err := GRPC(o)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{
  "node": {
    "cluster": "orders.shop",
    "id": "orders-1"
  },
  "xds_servers": [
    {
      "server_uri": "127.0.0.1:18000",
      "channel_creds": [
        {
          "type": "insecure"
        }
      ],
      "server_features": [
        "xds_v3"
      ]
    },
    {
      "server_uri": "b:18000",
      "channel_creds": [
        {
          "type": "insecure"
        }
      ],
      "server_features": [
        "xds_v3"
      ]
    }
  ]
}
`
	if string(text) != want {
		t.Errorf("got %s", text)
	}
	o.NodeID = ""
	if _, err := GRPC(o); err == nil {
		t.Error("a bootstrap without a node id is written")
	}
}
