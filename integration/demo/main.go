// Command demo is the main job on real input: the control plane with an embedded etcd, the chain orders -> payments -> billing ->
// email with a proxy beside every caller (a real Envoy, or with DEMO_PROXY our agent), faults, and the figures before and after the
// policies of examples/.
package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/breakwater-mesh/breakwater/integration/harness"
	"github.com/breakwater-mesh/breakwater/internal/testkit/program"
)

const (
	rate    = 100             // requests a second
	patient = 3 * time.Second // of the apps without any policy
	phase   = 8 * time.Second // how long each figure is taken over

	mustBeBelow = 95.0 // percent, before
	mustReach   = 99.0 // percent, after
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := run(ctx); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	seconds, err := demoSeconds()
	if err != nil {
		return err
	}
	kinds, err := proxyKinds()
	if err != nil {
		return err
	}
	root, err := program.Root()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "breakwater-demo-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	d := &demo{dir: dir, examples: filepath.Join(root, "examples"), kinds: kinds}
	defer d.stop()
	if err := d.start(ctx); err != nil {
		return err
	}
	if err := d.compare(ctx); err != nil {
		return err
	}
	return d.watch(ctx, seconds)
}

// demoSeconds is how long the demo takes from its start, though never less than its figures take; 0 without DEMO_SECONDS: until it is
// interrupted.
func demoSeconds() (int, error) {
	text := os.Getenv("DEMO_SECONDS")
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("DEMO_SECONDS=%s: want a number of seconds, at least 1", text)
	}
	return n, nil
}

// The kinds of proxies.
const (
	proxyEnvoy = "envoy"
	proxyAgent = "agent"
	proxyMixed = "mixed"
)

// proxyKinds is what stands beside the callers, in turn, as DEMO_PROXY says. Where an Envoy is asked for and there is none the demo
// stops; where nothing is asked for the agent stands in.
func proxyKinds() ([]string, error) {
	kinds := map[string][]string{"": {proxyEnvoy}, proxyEnvoy: {proxyEnvoy}, proxyAgent: {proxyAgent}, proxyMixed: {proxyEnvoy, proxyAgent}}[os.Getenv("DEMO_PROXY")]
	if kinds == nil {
		return nil, fmt.Errorf("DEMO_PROXY=%s: want envoy, agent or mixed", os.Getenv("DEMO_PROXY"))
	}
	if !slices.Contains(kinds, proxyEnvoy) {
		return kinds, nil
	}
	if _, err := harness.EnvoyPath(); err != nil {
		if os.Getenv("DEMO_PROXY") == "" {
			fmt.Printf("%v; breakwater-agent stands in its place\n", err)
			return []string{proxyAgent}, nil
		}
		return nil, fmt.Errorf("%w. The demo shows real Envoys and stops here; DEMO_PROXY=agent needs none", err)
	}
	return kinds, nil
}

// demo is everything that runs.
type demo struct {
	dir, examples string
	kinds         []string // of proxies, taken in turn
	agent         string   // the agent's program, if any runs
	begun         time.Time
	cp            *harness.ControlPlane
	hops          []*harness.Hop
	proxies       []*harness.Process
	load          load
}

// load is the stream of orders that goes on from start to end.
type load struct {
	results harness.Results
	cancel  context.CancelFunc
	done    chan struct{}
}

func (d *demo) start(ctx context.Context) error {
	d.begun = time.Now()
	fmt.Printf("building and starting: control plane with embedded etcd, 16 hosts, 4 proxies (%s) ...\n", strings.Join(d.kinds, " and "))
	binary, err := program.Build("./cmd/controlplane")
	if err != nil {
		return err
	}
	if slices.Contains(d.kinds, proxyAgent) {
		if d.agent, err = program.Build("./cmd/agent"); err != nil {
			return err
		}
	}
	boot, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if d.cp, err = harness.StartControlPlane(boot, binary, filepath.Join(d.dir, "data"), "--log-level", "warn"); err != nil {
		return err
	}
	if d.hops, err = harness.StartChain(hostsPerService); err != nil {
		return err
	}
	if err := d.apply("services.yaml"); err != nil {
		return err
	}
	if err := d.registerEndpoints(); err != nil {
		return err
	}
	if err := d.startSidecars(boot); err != nil {
		return err
	}
	fmt.Printf("api      curl -s http://%s/api/v1/services\n", d.cp.API)
	fmt.Printf("why      go run ./cmd/bwctl --server http://%s effective -n shop --from billing --to email\n", d.cp.API)
	fmt.Printf("load     %d orders a second; 40 %% go down to email, 30 %% to payments, 30 %% to orders alone\n\n", rate)
	d.startLoad(ctx)
	return nil
}

func (d *demo) apply(file string) error {
	text, err := os.ReadFile(filepath.Join(d.examples, file))
	if err != nil {
		return err
	}
	return d.cp.Apply(string(text))
}

// registerEndpoints tells the control plane where the hosts listen, as a deployment would.
func (d *demo) registerEndpoints() error {
	for _, h := range d.hops {
		for i, host := range h.Hosts {
			path := fmt.Sprintf("/api/v1/namespaces/shop/services/%s/endpoints/%s-%d", h.Name, h.Name, i+1)
			if _, _, err := d.cp.Do(http.MethodPut, path, endpointYAML(host)); err != nil {
				return err
			}
		}
	}
	return nil
}

// startSidecars puts a proxy beside every service that calls another one.
func (d *demo) startSidecars(ctx context.Context) error {
	for i, h := range d.hops {
		if h.Next == "" {
			continue
		}
		p, outbound, err := d.startSidecar(ctx, d.kinds[i%len(d.kinds)], h.Name)
		if p != nil {
			d.proxies = append(d.proxies, p)
		}
		if err != nil {
			return err
		}
		h.Out.Store(harness.NewClient(outbound, patient))
	}
	return nil
}

func (d *demo) startLoad(ctx context.Context) {
	ctx, d.load.cancel = context.WithCancel(ctx)
	d.load.done = make(chan struct{})
	edge := d.hops[0].Out.Load()
	go func() {
		defer close(d.load.done)
		harness.Load(ctx, rate, 1000, &d.load.results, func() harness.Call {
			return edge.Get("orders", fmt.Sprintf("/%d", depth()))
		})
	}()
}

// depth is how many hops behind orders a request crosses.
func depth() int {
	switch n := rand.IntN(100); {
	case n < 40:
		return 3
	case n < 70:
		return 1
	}
	return 0
}

// compare breaks two email hosts, takes the figures without and with the policies, and returns an error if they are not what the
// demo promises.
func (d *demo) compare(ctx context.Context) error {
	if err := d.phase(ctx, 2*time.Second); err != nil {
		return err
	}
	d.print("healthy, no policies")
	email := d.hops[len(d.hops)-1]
	email.Hosts[0].Set(harness.Behaviour{Status: http.StatusServiceUnavailable})
	email.Hosts[1].Set(harness.Behaviour{Hang: true})
	fmt.Println("\nfaults: one of email's four hosts now answers 503, one hangs")
	if err := d.phase(ctx, phase); err != nil {
		return err
	}
	before := d.print("faults, no policies")

	fmt.Println("\napplying examples/chain.yaml")
	if err := d.apply("chain.yaml"); err != nil {
		return err
	}
	if err := d.printAcked(ctx); err != nil {
		return err
	}
	// Calls that began before the policies may hang for as long as the apps wait; they belong to neither figure.
	if err := d.phase(ctx, patient); err != nil {
		return err
	}
	d.print("(calls from before end)")
	if err := d.phase(ctx, phase); err != nil {
		return err
	}
	after := d.print("same faults, policies")
	if before.SuccessPercent() >= mustBeBelow {
		return fmt.Errorf("success before the policies was %.2f %%, expected below %.0f %%: the faults did not bite", before.SuccessPercent(), mustBeBelow)
	}
	if after.SuccessPercent() < mustReach {
		return fmt.Errorf("success after the policies was %.2f %%, expected at least %.0f %%", after.SuccessPercent(), mustReach)
	}
	return nil
}

func (d *demo) phase(ctx context.Context, length time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(length):
		return nil
	}
}

func (d *demo) print(what string) harness.Summary {
	s := d.load.results.Take()
	fmt.Printf("%-24s success %6.2f %%   p50 %8s   p99 %8s   of %d  %v\n", what, s.SuccessPercent(),
		s.P50.Round(100*time.Microsecond), s.P99.Round(100*time.Microsecond), s.Calls, failures(s))
	return s
}

func failures(s harness.Summary) string {
	if len(s.Failures) == 0 {
		return ""
	}
	return fmt.Sprint(s.Failures)
}

// watch goes on until ctx ends, or for the given number of seconds since the start.
func (d *demo) watch(ctx context.Context, seconds int) error {
	if seconds == 0 {
		fmt.Println("\ngoing on; Ctrl-C ends it")
	} else {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, d.begun.Add(time.Duration(seconds)*time.Second), context.Canceled)
		defer cancel()
	}
	for {
		if err := d.phase(ctx, 5*time.Second); err != nil {
			return nil
		}
		d.print("same faults, policies")
	}
}

// stop ends everything that was started.
func (d *demo) stop() {
	if d.load.cancel != nil {
		d.load.cancel()
		<-d.load.done
	}
	for _, p := range d.proxies {
		p.Kill()
	}
	if d.cp != nil {
		if err := d.cp.Stop(10 * time.Second); err != nil {
			fmt.Fprintln(os.Stderr, "demo: control plane:", err)
		}
	}
	harness.StopChain(d.hops)
	fmt.Println("stopped; nothing left behind")
}
