package agent_test

import (
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/breakwater-mesh/breakwater/pkg/agent"
)

func TestValidateAdvertise(t *testing.T) {
	for _, test := range []struct {
		want   string // part of the error; "": none
		change func(*agent.Config)
	}{
		{"", func(*agent.Config) {}},
		{"", func(c *agent.Config) { c.Advertise.Address = "[2001:db8::1]:80" }},
		{"", func(c *agent.Config) { c.Advertise.Check = "http://127.0.0.1:9000/healthz" }},
		{"", func(c *agent.Config) { c.Advertise.Locality = "eu/eu-1/rack-7" }},
		{"", func(c *agent.Config) { c.Advertise.API = []string{"unix:/run/api", "https://[::1]:8080"} }},
		{"--advertise localhost:80: want IP:PORT", func(c *agent.Config) { c.Advertise.Address = "localhost:80" }},
		{"--advertise :80: want IP:PORT", func(c *agent.Config) { c.Advertise.Address = ":80" }},
		{"--advertise 10.0.0.1:0: want IP:PORT", func(c *agent.Config) { c.Advertise.Address = "10.0.0.1:0" }},
		{`--advertise: "0.0.0.0" stands for every address`, func(c *agent.Config) { c.Advertise.Address = "0.0.0.0:80" }},
		{`--node-id: the endpoint's id "orders.1"`, func(c *agent.Config) { c.NodeID = "orders.1" }},
		{"--advertise-locality a/b/c/d: want REGION", func(c *agent.Config) { c.Advertise.Locality = "a/b/c/d" }},
		{"--advertise-locality: is required beside a zone", func(c *agent.Config) { c.Advertise.Locality = "/b" }},
		{"--advertise-weight: must be at most", func(c *agent.Config) { c.Advertise.Weight = 1000001 }},
		{"--advertise-labels: ", func(c *agent.Config) { c.Advertise.Labels = map[string]string{"a b": "c"} }},
		{"--advertise-check: ", func(c *agent.Config) { c.Advertise.Check = "127.0.0.1:9000" }},
		{"--advertise-lease 4s: must lie between 5s", func(c *agent.Config) { c.Advertise.Lease = 4 * time.Second }},
		{"--advertise-lease 6m0s: must lie", func(c *agent.Config) { c.Advertise.Lease = 6 * time.Minute }},
		{"--advertise-interval 1ms: must lie", func(c *agent.Config) { c.Advertise.Interval = time.Millisecond }},
		{`--api "ftp://x": want http://HOST:PORT`, func(c *agent.Config) { c.Advertise.API = []string{"ftp://x"} }},
		{`--api "": want http://HOST:PORT`, func(c *agent.Config) { c.Advertise.API = []string{""} }},
		{`--api "http://": want http://HOST:PORT`, func(c *agent.Config) { c.Advertise.API = []string{"http://"} }},
		{`--api "10.0.0.1:8080": want http://HOST:PORT`, func(c *agent.Config) { c.Advertise.API = []string{"10.0.0.1:8080"} }},
		{`--api "http://h:70000": want http://HOST:PORT`, func(c *agent.Config) { c.Advertise.API = []string{"http://h:70000"} }},
		{"--api: means nothing without --advertise", func(c *agent.Config) { c.Advertise = agent.Advertise{API: []string{"http://x"}} }},
		{"--advertise-check: means nothing without", func(c *agent.Config) { c.Advertise = agent.Advertise{Check: "tcp://127.0.0.1:1"} }},
		{"--advertise-interval: means nothing without", func(c *agent.Config) { c.Advertise.Address, c.Advertise.Interval = "", time.Second }},
		{"--advertise-lease: means nothing without", func(c *agent.Config) { c.Advertise.Address, c.Advertise.Lease = "", 20*time.Second }},
		{"--advertise-locality: means nothing without", func(c *agent.Config) { c.Advertise.Address, c.Advertise.Locality = "", "eu" }},
		{"--advertise-weight: means nothing without", func(c *agent.Config) { c.Advertise.Address, c.Advertise.Weight = "", 3 }},
		{"--advertise-labels: means nothing without", func(c *agent.Config) { c.Advertise.Address, c.Advertise.Labels = "", map[string]string{"a": "b"} }},
	} {
		c := valid(t)
		c.Advertise.Address = "10.0.0.1:9000"
		test.change(&c)
		err := c.Validate()
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("got %v, want %q", err, test.want)
		}
	}
}

func TestAdvertiseFlags(t *testing.T) {
	c := valid(t)
	fs := pflag.NewFlagSet("agent", pflag.ContinueOnError)
	c.Flags(fs)
	if err := fs.Parse(strings.Fields("--advertise 10.0.0.1:9000 --api http://a:1,http://b:2 --advertise-lease 5s --advertise-labels version=v2,canary=yes --advertise-weight 3")); err != nil {
		t.Fatal(err)
	}
	if got := c.Advertise; len(got.API) != 2 || got.Lease != 5*time.Second || got.Labels["version"] != "v2" || got.Weight != 3 || got.Interval != 2*time.Second {
		t.Errorf("flags are read as %+v", got)
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}
