package hostile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/integration/harness"
	"github.com/breakwater-mesh/breakwater/internal/testkit/program"
)

const (
	services   = 50
	canaryMost = 2 * time.Second // p99 from a write to the canary's answer
	mostUnsaid = 3               // lines of the log about a kind that does several things that are named
	mostMemory = 512 << 20       // resident, whatever comes
)

var long = os.Getenv("BREAKWATER_LONG") == "1"

func serviceNames(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprint("shop/s", i)
	}
	return names
}

// start runs a control plane with services, and a policy for the canary to look at.
func start(t *testing.T, extra ...string) *harness.ControlPlane {
	t.Helper()
	path, err := program.Build("./cmd/controlplane")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	cp, err := harness.StartControlPlane(ctx, path, filepath.Join(t.TempDir(), "data"), append([]string{"--log-level", "info"}, extra...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cp.Kill()
		if t.Failed() {
			t.Logf("the control plane said:\n%s", cp.Log())
		}
	})
	documents := []string{policy(time.Second)}
	for i := range services {
		documents = append(documents, fmt.Sprintf("apiVersion: breakwater/v1alpha1\nkind: Service\nmetadata: {namespace: shop, name: s%d}\nspec:\n  protocol: http\n  endpoints: [{address: 127.0.0.1, port: %d}]\n", i, 20000+i))
	}
	if err := cp.Apply(strings.Join(documents, "---\n")); err != nil {
		t.Fatal(err)
	}
	return cp
}

// figures are what the process holds.
type figures struct {
	goroutines, heap float64
	resident         int64
}

// look reads them after a garbage collection.
func look(cp *harness.ControlPlane) (f figures, err error) {
	if _, err := get(cp, "/debug/pprof/heap?gc=1"); err != nil {
		return f, err
	}
	text, err := get(cp, "/metrics")
	if err != nil {
		return f, err
	}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, _ := strconv.ParseFloat(value, 64)
		switch name {
		case "go_goroutines":
			f.goroutines = n
		case "go_memstats_heap_alloc_bytes":
			f.heap = n
		}
	}
	f.resident, err = harness.Resident(cp.Pid())
	return f, err
}

func get(cp *harness.ControlPlane, path string) (string, error) {
	resp, err := http.Get("http://" + cp.Admin + path)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

// settled waits until the process holds again what it held before, nearly.
func settled(t *testing.T, cp *harness.ControlPlane, before figures) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	defer cancel()
	err := harness.Poll(ctx, func() error {
		now, err := look(cp)
		if err == nil && (now.goroutines > before.goroutines+20 || now.heap > before.heap+24<<20) {
			err = fmt.Errorf("%v goroutines and %v MiB of heap, %v and %v before", now.goroutines, int(now.heap)>>20, before.goroutines, int(before.heap)>>20)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestSurvivesHostileClients has ten kinds at a time at one control plane, and a canary beside them. BREAKWATER_LONG=1: one after the
// other, each for long.
func TestSurvivesHostileClients(t *testing.T) {
	cp := start(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c, err := hatch(ctx, cp, serviceNames(services))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.watch(timeout(t, ctx, 300*time.Millisecond), 20*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	before, err := look(cp)
	if err != nil {
		t.Fatal(err)
	}
	all := kinds()
	together, length := 10, 1500*time.Millisecond
	if long {
		together, length = 1, 70*time.Second
	}
	for from := 0; from < len(all); from += together {
		attack(t, cp, c, all, from, min(from+together, len(all)), length)
	}
	settled(t, cp, before)
	if _, err := c.watch(timeout(t, ctx, 100*time.Millisecond), 20*time.Millisecond); err != nil {
		t.Error(err)
	}
}

func timeout(t *testing.T, ctx context.Context, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(ctx, d)
	t.Cleanup(cancel)
	return ctx
}

func source(i int) string { return fmt.Sprintf("127.0.7.%d", i+1) }
func id(i int) string     { return fmt.Sprintf("hostile-%02d", i) }

// named counts the lines of a log about who comes from an address or has an id.
func named(log, source, id string) (n int) {
	for line := range strings.Lines(log) {
		if strings.Contains(line, source+":") || strings.Contains(line, id) {
			n++
		}
	}
	return n
}

// allNamed is an error where the log does not name those that it must, or names some too often.
func allNamed(cp *harness.ControlPlane, all []kind, from, to int) (err error) {
	log := cp.Log()
	for i := from; i < to; i++ {
		k := all[i]
		lines, least, most := named(log, source(i), id(i)), min(max(k.logs, 0), 1), max(k.logs, mostUnsaid)
		if k.logs == lateLine && long {
			least = 1
		}
		if lines < least || lines > most {
			err = errors.Join(err, fmt.Errorf("%q: the log names it %d times, want %d to %d", k.does, lines, least, most))
		}
	}
	return err
}

// attack lets some kinds loose, and looks at the canary meanwhile.
func attack(t *testing.T, cp *harness.ControlPlane, c *canary, all []kind, from, to int, length time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), length+30*time.Second) // for a machine that is busy
	defer cancel()
	var wg sync.WaitGroup
	for i := from; i < to; i++ {
		wg.Go(func() {
			a := &attacker{server: cp.XDS, source: source(i), id: id(i)}
			if err := all[i].run(ctx, a); err != nil && ctx.Err() == nil {
				t.Errorf("%q: %v", all[i].does, err)
			}
		})
	}
	wg.Go(func() {
		defer cancel()
		pause(ctx, length)
		_ = harness.Poll(ctx, func() error { return allNamed(cp, all, from, to) }) // what is not named is told below
	})
	took, err := c.watch(ctx, 20*time.Millisecond)
	cancel()
	wg.Wait()
	if err != nil {
		t.Fatalf("kinds %d to %d: %v", from, to-1, err)
	}
	if err := allNamed(cp, all, from, to); err != nil {
		t.Error(err)
	}
	rss, err := harness.Resident(cp.Pid())
	if err != nil {
		t.Fatal(err)
	}
	most := p99(took)
	t.Logf("kinds %2d to %2d: %d edits, from write to answer p50 %v, p99 %v; %d MiB resident", from, to-1, len(took), took[len(took)/2].Round(time.Millisecond), most.Round(time.Millisecond), rss>>20)
	if most > canaryMost {
		t.Errorf("kinds %d to %d: from write to answer p99 %v, want %v at most", from, to-1, most, canaryMost)
	}
	if rss > mostMemory {
		t.Errorf("kinds %d to %d: %d MiB resident, want %d at most", from, to-1, rss>>20, mostMemory>>20)
	}
}
