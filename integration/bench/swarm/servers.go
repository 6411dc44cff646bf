package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/breakwater-mesh/breakwater/integration/harness"
	"github.com/breakwater-mesh/breakwater/internal/testkit/program"
)

// Names of the servers. The first is the one that the others are fed by.
const (
	breakwaterName = "breakwater"
	floorName      = "floor"
	linearName     = "linear"
)

// subject is a server under measurement.
type subject struct {
	name    string
	pid     int
	address string
	write   func(k kind, n int) error                            // the n-th edit of a kind; returns once it is acknowledged, which may be before it is pushed
	used    func() (uint64, error)                               // memory in use after a collection
	do      func(method, path, body string) (int, string, error) // an API request, of the control plane alone
	admin   string
	log     func() string // the last of what it wrote, where that is kept
	close   func()
}

// recording is what one client of the control plane was sent.
type recording struct {
	first []said              // until it was configured
	edits map[string][][]said // by kind
}

// open starts the server of that name with the mesh.
func open(ctx context.Context, name string, m mesh, r *recording) (*subject, error) {
	if name == breakwaterName {
		return openBreakwater(ctx, m)
	}
	c, address, err := startChild(name)
	if err != nil {
		return nil, err
	}
	s := &subject{name: name, pid: c.cmd.Process.Pid, address: address, log: func() string { return "" }, close: c.close}
	s.used = func() (uint64, error) { return c.tell(order{Settle: true}) }
	s.write = func(k kind, n int) error {
		recorded := r.edits[k.name]
		_, err := c.tell(order{Edit: recorded[n%len(recorded)]})
		return err
	}
	if _, err := c.tell(order{Load: r.first}); err != nil {
		c.close()
		return nil, err
	}
	return s, nil
}

func openBreakwater(ctx context.Context, m mesh) (*subject, error) {
	binary, err := program.Build("./cmd/controlplane")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "breakwater-swarm-*")
	if err != nil {
		return nil, err
	}
	cp, err := harness.StartControlPlane(ctx, binary, filepath.Join(dir, "data"), "--log-level", "warn")
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, err
	}
	s := &subject{name: breakwaterName, pid: cp.Pid(), address: cp.XDS, admin: cp.Admin, log: cp.Log, do: cp.Do}
	s.close = func() { cp.Kill(); _ = os.RemoveAll(dir) }
	s.write = func(k kind, n int) error { return cp.Apply(m.edit(k, 1+n)) }
	s.used = func() (uint64, error) { return metricsInUse(ctx, cp.Admin) }
	for _, documents := range m.applies() {
		if err := cp.Apply(documents); err != nil {
			s.close()
			return nil, err
		}
	}
	return s, nil
}

// metricsInUse is inUse of a process that tells its metrics.
func metricsInUse(ctx context.Context, admin string) (uint64, error) {
	for range collections {
		if _, err := get(ctx, "http://"+admin+"/debug/pprof/heap?gc=1"); err != nil {
			return 0, err
		}
	}
	m, err := metrics(ctx, admin, "go_memstats_alloc_bytes", "go_memstats_stack_inuse_bytes")
	return uint64(m[0] + m[1]), err
}

// metrics are the values of those series, which have no labels.
func metrics(ctx context.Context, admin string, series ...string) ([]float64, error) {
	values := make([]float64, len(series))
	text, err := get(ctx, "http://"+admin+"/metrics")
	if err != nil {
		return values, err
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if i := slices.Index(series, name); i >= 0 {
			if values[i], err = strconv.ParseFloat(value, 64); err != nil {
				return values, fmt.Errorf("metric %s: %w", line, err)
			}
		}
	}
	return values, nil
}

func get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}
