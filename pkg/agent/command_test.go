package agent_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/agent"
	"github.com/breakwater-mesh/breakwater/pkg/envoy/bootstrap"
	"github.com/breakwater-mesh/breakwater/pkg/settings"
	"github.com/breakwater-mesh/breakwater/pkg/telemetry"
)

// command runs a command line to its end.
func command(t *testing.T, args ...string) (string, error) {
	var out bytes.Buffer
	cmd := agent.Command(new(bytes.Buffer))
	cmd.SetOut(&out)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func TestTheBootstrapIsASettingsFile(t *testing.T) {
	text, err := bootstrap.Agent(bootstrap.Options{
		XDS: []string{"127.0.0.1:18000", "[::1]:18000"}, Namespace: "shop", Service: "orders", NodeID: `orders-"1"`, StateDir: t.TempDir(),
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "agent.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := command(t, "--config", file, "--check"); err != nil {
		t.Errorf("%v in\n%s", err, text)
	}
}

func TestUsageErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "agent.yaml")
	if err := os.WriteFile(file, []byte("service: orders\nxdss: 127.0.0.1:1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string][]string{
		"--xds: must be given\n--service: must be given": nil,
		"--log-level":                                                              {"--xds", "127.0.0.1:1", "--service", "orders", "--log-level", "loud"},
		`unknown argument "now"`:                                                   {"--xds", "127.0.0.1:1", "--service", "orders", "now"},
		"unknown flag: --nonsense":                                                 {"--nonsense"},
		"agent.yaml:2: xdss: unknown setting":                                      {"--config", file},
		"--drain-timeout 0s: must be more than 0":                                  {"--xds", "127.0.0.1:1", "--service", "orders", "--drain-timeout", "0s"},
		"--drain-delay -1s: must be 0 or more":                                     {"--xds", "127.0.0.1:1", "--service", "orders", "--drain-delay", "-1s"},
		"--listen-admin 0.0.0.0:1: only loopback, as":                              {"--xds", "127.0.0.1:1", "--service", "orders", "--listen-admin", "0.0.0.0:1"},
		"--listen-outbound localhost:1: want IP:PORT, no name, with a port from 1": {"--xds", "127.0.0.1:1", "--service", "orders", "--listen-outbound", "localhost:1"},
		"a is set twice":                                                           {"--xds", "127.0.0.1:1", "--service", "orders", "--advertise", "127.0.0.1:1", "--advertise-labels", "a=b,a=c"},
		"--state-dir /proc/x":                                                      {"--xds", "127.0.0.1:1", "--service", "orders", "--state-dir", "/proc/x"},
		"--access-log /nope/a.log":                                                 {"--xds", "127.0.0.1:1", "--service", "orders", "--access-log", "/nope/a.log"},
		"--relay unix:/nope/x: open ":                                              {"--xds", "127.0.0.1:1", "--service", "orders", "--relay", "unix:/nope/x"},
	} {
		_, err := command(t, append(args, "--check")...)
		if err == nil || !strings.Contains(err.Error(), want) || !errors.As(err, new(settings.UsageError)) {
			t.Errorf("%v: %v, want the usage error %q", args, err, want)
		}
	}
}

func TestVersion(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"--version"}} {
		if out, err := command(t, args...); err != nil || out != telemetry.Version+"\n" {
			t.Errorf("%v: %q %v, want %s", args, out, err, telemetry.Version)
		}
	}
}
