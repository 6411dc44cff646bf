package agent_test

import (
	"strings"
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/agent"
)

func TestValidateNamesWhatCanNotBe(t *testing.T) {
	xds := func(servers ...string) func(*agent.Config) { return func(c *agent.Config) { c.XDS = servers } }
	node := func(id string) func(*agent.Config) { return func(c *agent.Config) { c.NodeID = id } }
	for _, test := range []struct {
		want   string // part of the error; "": none
		change func(*agent.Config)
	}{
		{"", xds("a.example:18000", "[::1]:1")},
		{`--xds "": want HOST:PORT`, xds("a:1", "")},
		{`--xds "http://a:1": want HOST:PORT`, xds("http://a:1")},
		{`--xds "a": want HOST:PORT`, xds("a")},
		{`--xds ":1": want HOST:PORT`, xds(":1")},
		{`--xds "a:0": want HOST:PORT`, xds("a:0")},
		{`--xds "a:65536": want HOST:PORT`, xds("a:65536")},
		{`--xds "unix:/run/xds": want HOST:PORT`, xds("unix:/run/xds")},
		{`--service: "Orders" must consist`, func(c *agent.Config) { c.Service = "Orders" }},
		{`--namespace: "shop.x" must consist`, func(c *agent.Config) { c.Namespace = "shop.x" }},
		{"", node("orders_1.host.example")},
		{"", node(strings.Repeat("a", 253))},
		{"--node-id: must have at most 253 bytes, has 254", node(strings.Repeat("a", 254))},
		{"--node-id: \"a b\" must have no spaces", node("a b")},
		{"--node-id: \"a/b\" must have no", node("a/b")},
		{`--node-id: "a\x00b" must have no`, node("a\x00b")},
		{"", func(c *agent.Config) { c.ListenAdmin, c.Relay = "127.0.0.1:0", "127.0.0.1:0" }},
		{"--listen-admin 127.0.0.1:15001: --listen-outbound listens there", func(c *agent.Config) { c.ListenAdmin = "127.0.0.1:15001" }},
		{"--relay localhost:9902: --listen-admin listens there", func(c *agent.Config) { c.ListenAdmin, c.Relay = "127.0.0.1:9902", "localhost:9902" }},
		{"--listen-admin 127.0.0.1:65536: want HOST:PORT with", func(c *agent.Config) { c.ListenAdmin = "127.0.0.1:65536" }},
		{"--relay 127.0.0.1:99999: want HOST:PORT with", func(c *agent.Config) { c.Relay = "127.0.0.1:99999" }},
		{"--listen-outbound 127.0.0.1:65536: want IP:PORT", func(c *agent.Config) { c.ListenOutbound = "127.0.0.1:65536" }},
		{"--listen-outbound 0.0.0.0:15001: listening beyond loopback needs TLS and authentication; --insecure-listen allows", func(c *agent.Config) { c.ListenOutbound = "0.0.0.0:15001" }},
		{"--listen-outbound 10.0.0.1:15001: listening beyond", func(c *agent.Config) { c.ListenOutbound = "10.0.0.1:15001" }},
		{"", func(c *agent.Config) { c.ListenOutbound = "[::1]:15001" }},
		{"", func(c *agent.Config) { c.ListenOutbound, c.InsecureListen = "0.0.0.0:15001", true }},
	} {
		c := valid(t)
		test.change(&c)
		err := c.Validate()
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("got %v, want %q", err, test.want)
		}
	}
}
