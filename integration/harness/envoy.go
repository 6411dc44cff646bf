package harness

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/breakwater-mesh/breakwater/internal/testkit/program"
)

// EnvoyPath finds the Envoy binary: ENVOY, else the pinned one that `make tools` fetches.
func EnvoyPath() (string, error) {
	if path := os.Getenv("ENVOY"); path != "" {
		if _, err := exec.LookPath(path); err != nil {
			return "", fmt.Errorf("no Envoy: ENVOY: %w", err)
		}
		return path, nil
	}
	root, err := program.Root()
	if err != nil {
		return "", err
	}
	path := filepath.Join(root, ".cache", "envoy", "envoy")
	if _, err := os.Stat(path); err != nil {
		return "", errors.New("no Envoy: run `make tools`, or set ENVOY to a binary")
	}
	return path, nil
}

// Envoy is a running Envoy.
type Envoy struct {
	*Process
	Admin    string // host:port of its admin interface
	Outbound string // host:port of its outbound listener, "" if the bootstrap has none
}

// StartEnvoy runs Envoy with a bootstrap, written to a file in dir, and waits until its admin interface answers. Admin is the address that
// the bootstrap gives the admin interface; extra are further arguments.
func StartEnvoy(ctx context.Context, dir string, bootstrap []byte, admin string, extra ...string) (*Envoy, error) {
	path, err := EnvoyPath()
	if err != nil {
		return nil, err
	}
	file, err := os.CreateTemp(dir, "envoy-*.yaml")
	if err != nil {
		return nil, err
	}
	if _, err := file.Write(bootstrap); err != nil {
		return nil, err
	}
	if err := file.Close(); err != nil {
		return nil, err
	}
	args := append([]string{"-c", file.Name(), "--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"}, extra...)
	p, err := start(path, args...)
	if err != nil {
		return nil, err
	}
	e := &Envoy{Process: p, Admin: admin}
	if err := Poll(ctx, e.alive); err != nil {
		e.Kill()
		return nil, fmt.Errorf("envoy does not answer: %w\n%s", err, e.Log())
	}
	return e, nil
}

func (e *Envoy) alive() error {
	select {
	case <-e.done:
		return fmt.Errorf("envoy ended (%v)", e.err)
	default:
	}
	_, err := e.get("/server_info")
	return err
}

// admin answers are small and local: anything slower is a fault worth seeing.
var adminClient = &http.Client{Timeout: 5 * time.Second}

func (e *Envoy) get(path string) ([]byte, error) {
	resp, err := adminClient.Get("http://" + e.Admin + path)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s: %s", path, resp.Status, body)
	}
	return body, nil
}

// Page is what a page of the admin port says; an error where its status is not 200.
func (e *Envoy) Page(path string) (string, error) {
	body, err := e.get(path)
	return string(body), err
}

// Ready returns nil once Envoy has its first configuration and listens.
func (e *Envoy) Ready() error {
	body, err := e.get("/ready")
	if err != nil {
		return err
	}
	if state := strings.TrimSpace(string(body)); state != "LIVE" {
		return fmt.Errorf("envoy is %s", state)
	}
	return nil
}

// WaitReady waits for Ready.
func (e *Envoy) WaitReady(ctx context.Context) error {
	if err := Poll(ctx, e.Ready); err != nil {
		return fmt.Errorf("%w\n%s", err, e.Log())
	}
	return nil
}

// Stats are the counters and gauges whose names begin with prefix.
func (e *Envoy) Stats(prefix string) (map[string]int64, error) {
	body, err := e.get("/stats?format=text")
	if err != nil {
		return nil, err
	}
	stats := make(map[string]int64)
	for line := range strings.Lines(string(body)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if !ok || !strings.HasPrefix(name, prefix) {
			continue
		}
		if n, err := strconv.ParseInt(value, 10, 64); err == nil {
			stats[name] = n
		}
	}
	return stats, nil
}

// Stat is one counter or gauge; 0 when Envoy has none of that name.
func (e *Envoy) Stat(name string) (int64, error) {
	stats, err := e.Stats(name)
	return stats[name], err
}

// Runtime is the final value of a runtime key, "" if unset.
func (e *Envoy) Runtime(key string) (string, error) {
	body, err := e.get("/runtime")
	if err != nil {
		return "", err
	}
	var doc struct {
		Entries map[string]struct {
			FinalValue string `json:"final_value"`
		} `json:"entries"`
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return "", err
	}
	return doc.Entries[key].FinalValue, nil
}

// ConfigDump is Envoy's own account of its configuration.
func (e *Envoy) ConfigDump() ([]byte, error) { return e.get("/config_dump?include_eds") }

// HostHealth are the health flags of a cluster's hosts, by address: "healthy" or such as "/failed_outlier_check".
func (e *Envoy) HostHealth(cluster string) (map[string]string, error) {
	body, err := e.get("/clusters")
	if err != nil {
		return nil, err
	}
	health := make(map[string]string)
	for line := range strings.Lines(string(body)) {
		// shop/payments::127.0.0.1:1234::health_flags::healthy
		parts := strings.Split(strings.TrimSpace(line), "::")
		if len(parts) == 4 && parts[0] == cluster && parts[2] == "health_flags" {
			health[parts[1]] = parts[3]
		}
	}
	return health, nil
}

// ConfigOf is what Envoy holds of one service, as compact JSON with sorted keys: the cluster and the route configuration of that name,
// each with its version, but without the times at which they came.
func (e *Envoy) ConfigOf(name string) (string, error) {
	body, err := e.get("/config_dump")
	if err != nil {
		return "", err
	}
	var dump struct {
		Configs []struct {
			Clusters []entry `json:"dynamic_active_clusters"`
			Routes   []entry `json:"dynamic_route_configs"`
		} `json:"configs"`
	}
	if err := json.Unmarshal(body, &dump); err != nil {
		return "", err
	}
	var held []any
	for _, c := range dump.Configs {
		for _, entry := range append(c.Clusters, c.Routes...) {
			if entry.Cluster["name"] == name || entry.Route["name"] == name {
				held = append(held, entry)
			}
		}
	}
	text, err := json.Marshal(held)
	return string(text), err
}

// entry is one resource in Envoy's dump.
type entry struct {
	Version string         `json:"version_info"`
	Cluster map[string]any `json:"cluster,omitempty"`
	Route   map[string]any `json:"route_config,omitempty"`
}
