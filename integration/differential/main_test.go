package differential_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/integration/harness"
	"github.com/breakwater-mesh/breakwater/internal/testkit/program"
	"github.com/breakwater-mesh/breakwater/pkg/envoy/bootstrap"
)

// patience is how long anything may take that should take milliseconds.
const patience = 20 * time.Second

// fixture is the one control plane with a proxy of each kind; nil where there is no Envoy and ALLOW_SKIP says to go on.
var fixture *rig

func TestMain(m *testing.M) {
	flag.Parse()
	_ = flag.Set("test.parallel", "8") // scenarios wait more than they compute
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	if _, err := harness.EnvoyPath(); err != nil {
		if os.Getenv("ALLOW_SKIP") != "1" {
			return 1, err
		}
		return m.Run(), nil
	}
	dir, err := os.MkdirTemp("", "breakwater-differential-*")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	fixture = &rig{dir: dir, trials: map[string]*trial{}}
	defer fixture.stop()
	if err := fixture.prepare(); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

// rig is the control plane, the two proxies, and the hosts of every trial.
type rig struct {
	dir     string
	cp      *harness.ControlPlane
	envoy   *harness.Envoy
	agent   *harness.Agent
	proxies map[string]*place
	trials  map[string]*trial
	raws    []*rawRig // each with a share of the raw trials

	begin func() error // start, once a scenario under a policy needs it
}

// share is how many raw trials have proxies in common: statistics of many clusters take long to read.
const share = 100

// prepare opens the hosts of every trial.
func (r *rig) prepare() error {
	r.begin = sync.OnceValue(r.start)
	for _, t := range allTrials() {
		if err := t.up.start(t.hosts, t.refusing, !t.onlyHTTP1); err != nil {
			return err
		}
		for range t.silent {
			host, err := silent()
			if err != nil {
				return err
			}
			t.up.hosts = append(t.up.hosts, host)
		}
		r.trials[t.service] = t
		if t.raw != nil {
			r.share(t)
		}
	}
	return nil
}

// share gives a raw trial its fixture.
func (r *rig) share(t *trial) {
	if n := len(r.raws); n == 0 || len(r.raws[n-1].trials) == share {
		raw := &rawRig{dir: filepath.Join(r.dir, fmt.Sprintf("raw-%d", n))}
		raw.begin = sync.OnceValue(raw.start)
		r.raws = append(r.raws, raw)
	}
	t.rig = r.raws[len(r.raws)-1]
	t.rig.trials = append(t.rig.trials, t)
}

// start brings everything up with all the services and policies there before the proxies are, so that a proxy that is ready has them.
func (r *rig) start() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	binary, err := program.Build("./cmd/controlplane")
	if err != nil {
		return err
	}
	if r.cp, err = harness.StartControlPlane(ctx, binary, filepath.Join(r.dir, "data")); err != nil {
		return err
	}
	spareHost, err := harness.StartHost(0, nil)
	if err != nil {
		return err
	}
	spareHost.Set(harness.Behaviour{Body: spare})
	documents := []string{service(left, nil), service(right, nil), service(spare, []string{spareHost.Address})}
	for _, t := range r.trials {
		if t.raw == nil {
			documents = append(documents, t.documents()...)
		}
	}
	if err := r.cp.Apply(strings.Join(documents, "---\n")); err != nil {
		return err
	}
	return errors.Join(r.startEnvoy(ctx), r.startAgent(ctx))
}

func (r *rig) startEnvoy(ctx context.Context) error {
	ports, err := harness.FreePorts(2)
	if err != nil {
		return err
	}
	admin, outbound := harness.Loopback(ports[0]), harness.Loopback(ports[1])
	text, err := bootstrap.Envoy(bootstrap.Options{XDS: []string{r.cp.XDS}, Namespace: "shop", Service: left, NodeID: "left-1", Admin: admin, Outbound: outbound})
	if err != nil {
		return err
	}
	if r.envoy, err = harness.StartEnvoy(ctx, r.dir, text, admin); err != nil {
		return err
	}
	r.setProxy(left, &place{outbound, admin})
	return r.envoy.WaitReady(ctx)
}

func (r *rig) startAgent(ctx context.Context) error {
	binary, err := program.Build("./cmd/agent")
	if err != nil {
		return err
	}
	r.agent, err = harness.StartAgent(ctx, harness.AgentOptions{
		Binary: binary, XDS: r.cp.XDS, Namespace: "shop", Service: right, StateDir: filepath.Join(r.dir, "state"),
	})
	if err != nil {
		return err
	}
	r.setProxy(right, &place{r.agent.Outbound, r.agent.Admin})
	return nil
}

func (r *rig) setProxy(side string, p *place) {
	if r.proxies == nil {
		r.proxies = map[string]*place{}
	}
	r.proxies[side] = p
}

// logs are what the agents wrote, by agent.
func (r *rig) logs() map[string]string {
	logs := map[string]string{}
	if r.agent != nil {
		logs["the agent"] = r.agent.Log()
	}
	for i, raw := range r.raws {
		if raw.agent != nil {
			logs[fmt.Sprintf("the agent with raw resources %d", i)] = raw.agent.log.String()
		}
	}
	return logs
}

func (r *rig) stop() {
	if r.envoy != nil {
		r.envoy.Kill()
	}
	if r.agent != nil {
		r.agent.Kill()
	}
	if r.cp != nil {
		r.cp.Kill()
	}
	for _, raw := range r.raws {
		raw.stop()
	}
	for _, t := range r.trials {
		t.up.stop()
	}
}
