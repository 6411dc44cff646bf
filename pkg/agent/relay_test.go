package agent_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/breakwater-mesh/breakwater/internal/testkit/ports"
	"github.com/breakwater-mesh/breakwater/pkg/agent"
)

func TestValidateRelay(t *testing.T) {
	for relay, want := range map[string]string{
		"127.0.0.1:18001": "", "[::1]:18001": "", "localhost:18001": "", "unix:/run/relay.sock": "",
		"":              "--listen-outbound none: with --relay only",
		"0.0.0.0:18001": "--relay 0.0.0.0:18001: only loopback", "18001": "--relay 18001: want HOST:PORT", "unix:relay.sock": "--relay unix:relay.sock: want unix: and an absolute path",
	} {
		c := valid(t)
		c.ListenOutbound, c.Service, c.Relay = "none", "", relay // clients say whose they are
		err := c.Validate()
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", relay, err, want)
		}
	}
}

// started runs an agent until its admin port answers.
func started(t *testing.T, c agent.Config) (get func(path string) string, stop func() error) {
	t.Helper()
	c.ListenAdmin = ports.Closed()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- agent.Run(ctx, c, hclog.NewNullLogger()) }()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	get = func(path string) string {
		resp, err := client.Get("http://" + c.ListenAdmin + path)
		if err != nil {
			return err.Error()
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.Status + " " + string(body)
	}
	for deadline := time.Now().Add(10 * time.Second); !strings.HasPrefix(get("/healthz"), "200"); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not alive within 10 s")
		}
	}
	return get, func() error { cancel(); return <-done }
}

// TestRelayAlone is ready at once, on a socket that somebody left behind, and alone in its state directory.
func TestRelayAlone(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "relay.sock")
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	_ = left.Close()
	c := valid(t)
	c.ListenOutbound, c.Service, c.Relay = "none", "", "unix:"+socket
	get, stop := started(t, c)
	if got := get("/readyz"); got != "200 OK ready: relaying\n" {
		t.Errorf("readyz: %s", got)
	}
	if got := get("/stats?filter=relay"); !strings.Contains(got, "relay.streams: 0") {
		t.Errorf("stats: %s", got)
	}
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Errorf("nobody listens: %v", err)
	} else {
		_ = conn.Close()
	}
	if err := agent.Run(t.Context(), c, hclog.NewNullLogger()); err == nil || !strings.Contains(err.Error(), "--state-dir") || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second agent with the state directory: %v", err)
	}
	c.StateDir = t.TempDir()
	if err := agent.Run(t.Context(), c, hclog.NewNullLogger()); err == nil || !strings.Contains(err.Error(), "--relay") {
		t.Errorf("a second agent on the socket: %v", err)
	}
	if err := stop(); err != nil {
		t.Errorf("end: %v", err)
	}
}

// TestAStateDirectoryThatCannotBeWritten keeps no agent from serving.
func TestAStateDirectoryThatCannotBeWritten(t *testing.T) {
	c := valid(t)
	c.StateDir = filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(c.StateDir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, stop := started(t, c)
	if err := stop(); err != nil {
		t.Errorf("end: %v", err)
	}
}
