package differential_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/breakwater-mesh/breakwater/integration/harness"
	"github.com/breakwater-mesh/breakwater/pkg/envoy"
	"github.com/breakwater-mesh/breakwater/pkg/envoy/bootstrap"
)

// rawRig is the second fixture: an Envoy and an agent, each with a third-party xDS server that serves the resources of the raw trials, each
// trial with a listener and a cluster of its own.
type rawRig struct {
	dir    string
	trials []*trial
	planes map[string]*plane
	envoy  *harness.Envoy
	agent  *rawAgent
	dns    *harness.DNS
	begin  func() error // start, once
}

func (r *rawRig) start() error {
	if err := os.Mkdir(r.dir, 0o700); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ports, err := harness.FreePorts(2*len(r.trials) + 3)
	if err != nil {
		return err
	}
	if r.dns, err = harness.StartDNS(); err != nil {
		return err
	}
	r.planes = map[string]*plane{}
	for i, t := range r.trials {
		t.ports = map[string]int{left: ports[2*i], right: ports[2*i+1]}
		for side := range t.ports {
			if t.scenario.dns != nil {
				r.dns.Set(side+"."+t.service+".test", *t.scenario.dns)
			}
		}
	}
	for _, side := range []string{left, right} {
		if r.planes[side], err = startPlane(r.resources(side)); err != nil {
			return err
		}
	}
	admin, unused := harness.Loopback(ports[len(ports)-1]), harness.Loopback(ports[len(ports)-2])
	if err := errors.Join(r.startEnvoy(ctx, admin, unused), r.startAgent(harness.Loopback(ports[len(ports)-3]))); err != nil {
		return errors.Join(err, r.planes[left].refused(), r.planes[right].refused())
	}
	return errors.Join(r.planes[left].refused(), r.planes[right].refused(), r.listen(ctx))
}

// listen waits until every listener accepts.
func (r *rawRig) listen(ctx context.Context) error {
	return harness.Poll(ctx, func() error {
		for _, t := range r.trials {
			for side, port := range t.ports {
				if err := accepts(port); err != nil {
					return fmt.Errorf("the listener of %s on the %s does not accept: %w", t.service, side, err)
				}
			}
		}
		return nil
	})
}

// accepts asks the system, since a connection to a listener of TCP would go on to a host.
func accepts(port int) error {
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return err
	}
	const listening = "0A"
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); len(f) > 3 && f[3] == listening && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) {
			return nil
		}
	}
	return fmt.Errorf("port %d is not listened on", port)
}

// resources are those of all trials for one side.
func (r *rawRig) resources(side string) built {
	all, runtime := built{}, map[string]any{}
	for _, t := range r.trials {
		for _, byName := range t.resources(side).build(r.site(t, side)) {
			for name, m := range byName {
				all.add(name, m)
			}
		}
		runtime = merge(runtime, r.site(t, side).node(t.resources(side).runtime))
	}
	for i, name := range envoy.LayerNames() {
		if i > 0 {
			runtime = nil
		}
		all.add(name, layer(name, runtime))
	}
	return all
}

// resources are those of the trial for one side: a mutant is the agent's.
func (t *trial) resources(side string) resources {
	if t.mutant > 0 && side == right {
		return t.mutants[t.mutant-1].over(*t.raw)
	}
	return *t.raw
}

func (r *rawRig) site(t *trial, side string) site {
	s := site{name: t.service, side: side, port: t.ports[side], hosts: t.up.hosts, dns: r.dns.Address}
	if side == left {
		s.log = r.log(t, side)
	}
	return s
}

// log is the file of a trial's access log on one side.
func (r *rawRig) log(t *trial, side string) string {
	return filepath.Join(r.dir, t.service+"-"+side+".log")
}

func (r *rawRig) startEnvoy(ctx context.Context, admin, unused string) error {
	text, err := bootstrap.Envoy(bootstrap.Options{XDS: []string{r.planes[left].address}, Namespace: "raw", Service: left, NodeID: "raw-left", Admin: admin, Outbound: unused})
	if err != nil {
		return err
	}
	// Of hundreds of listeners what is not compared.
	text = append(text, "stats_config: {stats_matcher: {exclusion_list: {patterns: [{prefix: listener.}, {contains: .downstream_}]}}}\n"...)
	if r.envoy, err = harness.StartEnvoy(ctx, r.dir, text, admin, "--file-flush-interval-msec", "20"); err != nil {
		return err
	}
	return r.envoy.WaitReady(ctx)
}

func (r *rawRig) proxy(t *trial, side string) *place {
	admin := ""
	if side == left {
		admin = r.envoy.Admin
	} else {
		admin = r.agent.admin
	}
	return &place{outbound: harness.Loopback(t.ports[side]), admin: admin}
}

func (r *rawRig) stop() {
	if r.envoy != nil {
		r.envoy.Kill()
	}
	if r.agent != nil {
		r.agent.stop()
	}
	for _, p := range r.planes {
		p.stop()
	}
	if r.dns != nil {
		r.dns.Close()
	}
}
