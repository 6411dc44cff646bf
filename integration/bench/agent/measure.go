package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/breakwater-mesh/breakwater/integration/harness"
)

// bareName is the proxy that the agent is held to.
const bareName = "bare"

// Names of the hosts that are called.
const (
	webHost = "web.shop"
	rpcHost = "rpc.shop"
)

// workload is a kind of traffic: as much of it as goes through.
type workload struct {
	name  string
	begin func(l *load, s *subject) error
}

func workloads() []workload {
	web := func(r []byte) func(*load, *subject) error {
		return func(l *load, s *subject) error { return l.dial(s.web, 64, l.repeat(r)) }
	}
	rpc := func(conns, streams int) func(*load, *subject) error {
		return func(l *load, s *subject) error { return l.dial(s.rpc, conns, l.call(rpcHost, streams)) }
	}
	return []workload{
		{"GET 64 B", web(request("GET", "/", webHost, 0))},
		{"GET 64 KiB", web(request("GET", "/large", webHost, 0))},
		{"POST 64 KiB", web(request("POST", "/", webHost, large))},
		{"gRPC 8 x 32", rpc(8, 32)},
		{"gRPC 32 x 1", rpc(32, 1)},
	}
}

// gated are the workloads that the agent is judged by.
var gated = []string{"GET 64 B", "gRPC 8 x 32"}

func measure(ctx context.Context, s settings) error {
	if err := openFiles(); err != nil {
		return err
	}
	m := new(mesh)
	defer m.close()
	if err := m.start(ctx); err != nil {
		return err
	}
	for _, p := range m.subjects {
		p.cost = map[string][]float64{}
		if err := p.ready(ctx); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	_, rest, err := cores()
	if err != nil {
		return err
	}
	if err := pinAll(rest); err != nil {
		return err
	}
	if err := m.costs(ctx, s); err != nil {
		return err
	}
	if err := m.delays(ctx, s); err != nil {
		return err
	}
	if err := m.hold(ctx, s.connections); err != nil {
		return err
	}
	return m.report(s)
}

// openFiles lets this process and those that it starts have as many connections as the system allows.
func openFiles() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	limit.Cur = limit.Max
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
}

// ready waits until both protocols go through, and takes the memory before any load.
func (p *subject) ready(ctx context.Context) error {
	for _, w := range workloads() {
		if err := p.through(ctx, w); err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
	}
	var err error
	p.fresh, err = harness.Resident(p.pid)
	return err
}

// through waits until something of w has been answered.
func (p *subject) through(ctx context.Context, w workload) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		l := new(load)
		err := w.begin(l, p)
		for range 100 {
			if wait(ctx, 10*time.Millisecond); err != nil || l.done.Load() > 0 {
				break
			}
		}
		if err = errors.Join(err, l.stop()); err == nil && l.done.Load() > 0 {
			return nil
		}
		if ctx.Err() != nil {
			return errors.Join(ctx.Err(), err)
		}
	}
}

// order is the proxies in the order of a round: each is first, and last, in turn.
func (m *mesh) order(round int) []*subject {
	n := round % len(m.subjects)
	order := append(slices.Clone(m.subjects[n:]), m.subjects[:n]...)
	if round/len(m.subjects)%2 == 1 {
		slices.Reverse(order)
	}
	return order
}

// costs measures the CPU time of a request.
func (m *mesh) costs(ctx context.Context, s settings) error {
	for _, w := range workloads() {
		if s.only != "" && s.only != w.name {
			continue
		}
		for round := range s.rounds {
			for _, p := range m.order(round) {
				us, err := p.measure(ctx, w, s.window)
				if err != nil {
					return fmt.Errorf("%s through %s: %w", w.name, p.name, err)
				}
				p.cost[w.name] = append(p.cost[w.name], us)
			}
		}
	}
	return nil
}

// measure is the CPU time of one request in us, over a window of full load.
func (p *subject) measure(ctx context.Context, w workload, window time.Duration) (us float64, err error) {
	l := new(load)
	defer func() { err = errors.Join(err, l.stop()) }()
	if err := w.begin(l, p); err != nil {
		return 0, err
	}
	wait(ctx, window/4)
	before, err := harness.CPUTime(p.pid)
	if err != nil {
		return 0, err
	}
	begun := l.done.Load()
	wait(ctx, window)
	n := l.done.Load() - begun
	after, err := harness.CPUTime(p.pid)
	if err != nil {
		return 0, err
	}
	now, err := harness.Resident(p.pid)
	p.loaded = max(p.loaded, now)
	if n == 0 {
		return 0, errors.Join(err, errors.New("no answers"))
	}
	return float64((after - before).Nanoseconds()) / float64(n) / 1000, err
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// delays measures by how much a proxy makes the median answer later than the upstream's own.
func (m *mesh) delays(ctx context.Context, s settings) error {
	r := request("GET", "/", webHost, 0)
	for round := range s.rounds {
		base, err := pace(ctx, m.direct, r, s.rate, s.window)
		if err != nil {
			return fmt.Errorf("upstream: %w", err)
		}
		for _, p := range m.order(round) {
			took, err := pace(ctx, p.web, r, s.rate, s.window)
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			p.added = append(p.added, float64((middle(took)-middle(base)).Nanoseconds())/1000)
		}
	}
	return nil
}

// hold measures the memory of idle connections.
func (m *mesh) hold(ctx context.Context, n int) error {
	for _, p := range m.subjects {
		before, err := harness.Resident(p.pid)
		if err != nil {
			return err
		}
		l, err := hold(p.web, request("GET", "/", webHost, 0), n)
		wait(ctx, 200*time.Millisecond)
		after, failed := harness.Resident(p.pid)
		if err := errors.Join(err, failed, l.stop()); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		p.held = (after - before) / int64(n)
	}
	return nil
}
