package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	churnRate    = 100             // registrations a second, over all services in turn
	churnWriters = 8               // at once
	churnLate    = 5 * time.Second // after the last one, what has not come counts as missing
	churnMost    = 1 << 16         // registrations that an address can tell apart
	churnNet     = "10.255."       // where the addresses are by which a registration is known again
)

// churn is endpoints that are registered at a steady rate, each under an address of its own, and when the clients have them.
type churn struct {
	begun   time.Time
	acks    [churnMost]atomic.Int64 // ns since begun at which a registration was acknowledged; 0: not yet
	took    histogram               // from there until a client has it, of each client and registration
	late    histogram               // likewise, those of the last sixth
	arrived atomic.Int64
	last    int // registrations before the last sixth
}

// churned is what one run of churn came to.
type churned struct {
	clients, services int
	writes            int
	rate              float64       // registrations a second that were acknowledged
	p50, p99, latest  time.Duration // until a client has it
	late99            time.Duration // p99 of the last sixth: larger, where a backlog grows
	missing           int64         // registrations that did not reach a client
	cpu               float64       // of the server, as a part of one core
}

// measureChurn registers endpoints for so long while the clients of one swarm listen.
func measureChurn(ctx context.Context, s settings, clients, services int) (*churned, error) {
	ctx, cancel := context.WithTimeout(ctx, cellTime)
	defer cancel()
	m := mesh{services: services, callerCount: s.callers}
	subject, err := openBreakwater(ctx, m)
	if err != nil {
		return nil, err
	}
	defer subject.close()
	sw := newSwarm(dialects["delta"], subject.address, m)
	defer func() { _ = sw.close() }()
	if _, err := sw.grow(ctx, clients); err != nil {
		return nil, err
	}
	if err := sw.rest(ctx, 0); err != nil {
		return nil, err
	}
	writes := min(churnMost-1, int(s.churn.Seconds()*churnRate))
	c := &churn{begun: time.Now(), last: writes - writes/6}
	sw.churn.Store(c)
	t := &trial{cell: &cell{clients: clients, services: services}, subject: subject}
	stop := t.profile(ctx, s.profile, "churn")
	defer stop()
	cpu, err := t.cost(func() error {
		if err := c.write(ctx, subject, m, writes); err != nil {
			return err
		}
		return c.settle(ctx, int64(writes*clients))
	})
	if err != nil {
		return nil, err
	}
	took := time.Duration(c.acks[writes].Load())
	return &churned{clients: clients, services: services, writes: writes, rate: float64(writes) / took.Seconds(),
		p50: c.took.percentile(50), p99: c.took.percentile(99), latest: c.took.percentile(100), late99: c.late.percentile(99),
		missing: int64(writes*clients) - c.arrived.Load(), cpu: cpu.Seconds() / time.Since(c.begun).Seconds()}, nil
}

// write makes the registrations, the n-th of them n/churnRate seconds after the beginning, or as soon after it as one can be made.
func (c *churn) write(ctx context.Context, s *subject, m mesh, writes int) error {
	var next atomic.Int64
	failed := make(chan error, churnWriters)
	var wg sync.WaitGroup
	for range churnWriters {
		wg.Go(func() {
			for n := int(next.Add(1)); n <= writes && ctx.Err() == nil; n = int(next.Add(1)) {
				wait(ctx, time.Until(c.begun.Add(time.Duration(n)*time.Second/churnRate)))
				if err := s.register(m.name(n%m.services), fmt.Sprintf("%s%d.%d", churnNet, n>>8, n&255)); err != nil {
					failed <- err
					return
				}
				c.acks[n].Store(int64(time.Since(c.begun)))
			}
		})
	}
	wg.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return context.Cause(ctx)
	}
}

// settle waits until so many have arrived, or too long.
func (c *churn) settle(ctx context.Context, all int64) error {
	for end := time.Now().Add(churnLate); c.arrived.Load() < all && time.Now().Before(end); {
		wait(ctx, 10*time.Millisecond)
	}
	return context.Cause(ctx)
}

// saw takes a response to one client. What it holds before its acknowledgement took no time.
func (c *churn) saw(b []byte) {
	now := int64(time.Since(c.begun))
	for {
		at := bytes.Index(b, []byte(churnNet))
		if at < 0 {
			return
		}
		b = b[at+len(churnNet):]
		n := address(b)
		var took time.Duration
		if ack := c.acks[n].Load(); ack > 0 {
			took = time.Duration(now - ack)
		}
		c.arrived.Add(1)
		c.took.add(took)
		if n > c.last {
			c.late.add(took)
		}
	}
}

// address is the number whose two bytes b begins with, as text with a dot between.
func address(b []byte) int {
	high, b, _ := bytes.Cut(b[:min(len(b), 7)], []byte("."))
	end := 0
	for end < len(b) && b[end] >= '0' && b[end] <= '9' {
		end++
	}
	h, _ := strconv.Atoi(string(high))
	l, _ := strconv.Atoi(string(b[:end]))
	return (h<<8 | l) % churnMost
}

// histogram counts durations by the millisecond, those over ten seconds together.
type histogram [10_001]atomic.Int64

func (h *histogram) add(d time.Duration) { h[min(max(0, d.Milliseconds()), 10_000)].Add(1) }

// percentile is rounded up to the millisecond.
func (h *histogram) percentile(p int64) time.Duration {
	var all, below int64
	for i := range h {
		all += h[i].Load()
	}
	for i := range h {
		if below += h[i].Load(); below*100 >= all*p {
			return time.Duration(i+1) * time.Millisecond
		}
	}
	return 0
}

// register is the endpoint of a service at that address, instead of the one before it.
func (s *subject) register(service, address string) error {
	path := "/api/v1/namespaces/shop/services/" + service + "/endpoints/churn"
	status, answer, err := s.do(http.MethodPut, path, fmt.Sprintf("{address: %s, port: 8080}", address))
	if err != nil {
		return fmt.Errorf("PUT %s: %d %s %w", path, status, answer, err)
	}
	return nil
}
