package agent_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/breakwater-mesh/breakwater/internal/testkit/ports"
	"github.com/breakwater-mesh/breakwater/pkg/agent"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func valid(t *testing.T) agent.Config {
	c := agent.Defaults()
	c.XDS, c.Service, c.NodeID = []string{"127.0.0.1:1"}, "orders", "orders-1"
	c.ListenAdmin, c.StateDir = "127.0.0.1:0", t.TempDir()
	return c
}

func TestValidate(t *testing.T) {
	for want, change := range map[string]func(*agent.Config){
		"":                      func(*agent.Config) {},
		"--xds":                 func(c *agent.Config) { c.XDS = nil },
		"--service":             func(c *agent.Config) { c.Service = "" },
		"--namespace":           func(c *agent.Config) { c.Namespace = "" },
		"--node-id":             func(c *agent.Config) { c.NodeID = "" },
		"--listen-outbound":     func(c *agent.Config) { c.ListenOutbound = "localhost:1" },
		"--listen-admin 0.0.0.": func(c *agent.Config) { c.ListenAdmin = "0.0.0.0:9902" },
		"--listen-admin x":      func(c *agent.Config) { c.ListenAdmin = "x" },
	} {
		c := valid(t)
		change(&c)
		err := c.Validate()
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
}

// TestWithoutAControlPlane is alive, says that it is not ready, and ends cleanly.
func TestWithoutAControlPlane(t *testing.T) {
	c := valid(t)
	c.ListenAdmin = ports.Closed()
	l, err := net.Listen("tcp", c.ListenAdmin)
	if err != nil {
		t.Fatal(err)
	}
	if err := agent.Run(t.Context(), c, hclog.NewNullLogger()); err == nil || !strings.Contains(err.Error(), "--listen-admin") {
		t.Errorf("a port that is taken: %v", err)
	}
	l.Close()

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- agent.Run(ctx, c, hclog.NewNullLogger()) }()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	get := func(path string) (int, string) {
		resp, err := client.Get("http://" + c.ListenAdmin + path)
		if err != nil {
			return 0, err.Error()
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if status, _ := get("/healthz"); status == 200 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("not alive within 10 s")
		}
	}
	for path, want := range map[string]string{
		"/readyz": "503 not ready: no configuration yet", "/ready": "503 not ready", "/stats?filter=connected": "200 control_plane.connected_state: 0\n",
		"/stats?format=json&filter=connected": `200 {`, "/stats?filter=nothing": "200 ", "/stats?filter=(": "400 filter",
		"/stats?format=x": "400 usage: /stats?format=", "/clusters": "200 ", "/clusters?format=json": "200 {\n \"cluster_statuses\": []",
		"/clusters?filter=(": "400 filter", "/config_dump": "200 {\n \"configs\": [", "/config_dump?mask=x": "400 mask is not supported",
		"/config_dump?name_regex=(": "400 name_regex", "/stats/prometheus?filter=live": "200 # TYPE envoy_server_live gauge\nenvoy_server_live{} 1\n",
		"/stats?usedonly&filter=(server.live|update)": "200 server.live: 1\n", "/listeners": "200 ", "/listeners?format=json": "200 {",
		"/stats?format=json&a=%zz": "400 the query can't be read", "/clusters?format=x": "400 usage: /clusters?format=(json|text)", "/outliers?format=x": "400 usage",
		"/listeners?format=x": "400 usage", "/clusters?format=text": "200 ", "/stats?filter=save_failures": "200 config.save_failures: 0\n",
		"/runtime": "200 {", "/server_info": "200 {\n \"node\"", "/memory": "200 {\n \"allocated\": \"", "/status": "200 {\n \"version\"",
		"/outliers": "200 CLUSTER", "/outliers?format=json": "200 {\n \"ejected\": []", "/help": "200 admin commands are:", "/": "200 admin commands",
		"/nothing": "404 invalid path. admin commands are:", "/version": "200 ", "/debug/pprof/cmdline": "200 ",
	} {
		status, body := get(path)
		if got := fmt.Sprint(status, " ", body); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %d %s, want %s", path, status, body, want)
		}
	}
	for _, path := range []string{"/stats", "/readyz", "/config_dump", "/help"} {
		if resp, err := client.Post("http://"+c.ListenAdmin+path, "", nil); err != nil || resp.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("POST %s: %v %v, want 405", path, resp, err)
		} else {
			resp.Body.Close()
		}
	}
	request, err := http.NewRequest("GET", "http://"+c.ListenAdmin+"/stats", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = "evil.example.com"
	if resp, err := client.Do(request); err != nil || resp.StatusCode != http.StatusForbidden {
		t.Errorf("asked by a foreign name: %v %v, want 403", resp, err)
	} else {
		resp.Body.Close()
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("end: %v", err)
	}
}
