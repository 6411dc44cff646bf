package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/breakwater-mesh/breakwater/integration/harness"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// cell is one line of the table: a server with a number of clients and of services.
type cell struct {
	clients, services int
	dialect, server   string

	took     time.Duration // from the first connection to the last configured client
	cpu      float64       // of the server meanwhile, us a client
	sent     int64         // bytes a client
	resident int64         // bytes by which an idle client makes the server's process larger
	inUse    int64         // likewise its heap and stacks in use
	edits    map[string]*edits
	failed   error
}

// edits are those of one kind.
type edits struct {
	last  []time.Duration // from the acknowledgement to the last client; 0 where that was faster
	cpu   float64         // of the server, us a client and edit, without what the edit takes with one client
	alone float64         // that, in ms
	sent  int64           // bytes a client and edit
}

const (
	recorded   = 2 // edits of each kind, which the other servers repeat in turn
	aloneEdits = 20
	quiet      = 150 * time.Millisecond // after the last response, an edit is over
	fewest     = 3                      // edits, however long they take
	editTime   = 20 * time.Second       // after which no more of a kind are made
	cellTime   = 10 * time.Minute       // of one server
)

// measure prints a table with a line for each server in each cell.
func measure(ctx context.Context, s settings) (err error) {
	if s.write != "" {
		closed, failed := write(s.write)
		if failed != nil {
			return failed
		}
		defer func() { err = errors.Join(err, closed()) }()
	}
	head()
	for _, dialect := range s.dialects {
		for _, services := range s.services {
			for _, clients := range s.clients {
				if err := measureAll(ctx, s, cell{clients: clients, services: services, dialect: dialect}); err != nil {
					return err
				}
			}
		}
	}
	return measureRest(ctx, s)
}

// measureRest is what the table has no column for.
func measureRest(ctx context.Context, s settings) error {
	if s.churn > 0 {
		c, err := measureChurn(ctx, s, min(1_000, slices.Max(s.clients)), slices.Max(s.services))
		if err != nil {
			return fmt.Errorf("churn: %w", err)
		}
		c.print()
	}
	if s.streams > 0 {
		t, err := measureTurnover(ctx, s)
		if err != nil {
			return fmt.Errorf("turnover: %w", err)
		}
		t.print()
	}
	return nil
}

// measureAll prints the lines of one cell, one server after the other. Where one to compare with can't do it, its line says why.
func measureAll(ctx context.Context, s settings, of cell) error {
	var sent *recording
	var cells []*cell
	var floor *cell
	for _, name := range s.servers {
		c := of
		c.server, c.edits = name, map[string]*edits{}
		r, err := c.measure(ctx, s, sent)
		switch {
		case err != nil && (name == breakwaterName || ctx.Err() != nil):
			return fmt.Errorf("%s with %d clients and %d services: %w", name, of.clients, of.services, err)
		case err != nil:
			c.failed = err
		case name == breakwaterName:
			sent = r
		case name == floorName:
			floor = &c
		}
		cells = append(cells, &c)
	}
	for _, c := range cells {
		c.print(floor)
	}
	return nil
}

// trial is one server with its swarm.
type trial struct {
	*cell
	*subject
	swarm  *swarm
	idle   float64                        // CPU a second of the server, when nothing happens
	expect map[string]map[view.Type]int64 // resources that an edit of each kind sends
	counts map[string]int                 // edits of each kind so far
}

// measure fills in c. From is what the control plane sent in this cell; what was sent now is returned.
func (c *cell) measure(ctx context.Context, s settings, from *recording) (r *recording, err error) {
	ctx, cancel := context.WithTimeout(ctx, cellTime)
	defer cancel()
	m := mesh{services: c.services, callerCount: s.callers}
	subject, err := open(ctx, c.server, m, from)
	if err != nil {
		return nil, err
	}
	defer subject.close()
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, subject.log())
		}
	}()
	t := &trial{cell: c, subject: subject, swarm: newSwarm(dialects[c.dialect], subject.address, m), expect: map[string]map[view.Type]int64{}, counts: map[string]int{}}
	defer func() { _ = t.swarm.close() }()
	if r, err = t.scout(ctx); err != nil {
		return nil, err
	}
	if err := t.storm(ctx, s.profile); err != nil {
		return nil, err
	}
	n := s.edits
	if n == 0 {
		n = max(10, min(40, 30_000/c.clients))
	}
	stop := t.profile(ctx, s.profile, "edits")
	defer stop()
	for _, k := range kinds {
		cpu, last, err := t.edit(ctx, k, n)
		if err != nil {
			return nil, fmt.Errorf("%s edit: %w", k.name, err)
		}
		e := c.edits[k.name]
		e.last, e.cpu = last, (cpu.Seconds()-e.alone/1000)*1e6/float64(c.clients)
	}
	return r, nil
}

// scout connects one client, by which it records what is sent and measures what an edit costs that reaches nobody else.
func (r *trial) scout(ctx context.Context) (*recording, error) {
	rec := &recording{edits: map[string][][]said{}}
	var heard []said
	resources := map[view.Type]int64{} // that came with them
	delta := r.swarm.dialect.version == 0
	r.swarm.record = func(m response, b []byte) {
		heard = append(heard, said{Type: m.typ, Delta: delta, Bytes: slices.Clone(b)})
		resources[m.typ] += int64(m.resources)
	}
	if _, err := r.swarm.grow(ctx, 1); err != nil {
		return nil, err
	}
	if err := r.swarm.rest(ctx, 0); err != nil {
		return nil, err
	}
	rec.first, heard = heard, nil
	begun := time.Now()
	idle, err := r.cost(func() error { wait(ctx, time.Second); return nil })
	if err != nil {
		return nil, err
	}
	r.idle = idle.Seconds() / time.Since(begun).Seconds()
	for _, k := range kinds {
		for range recorded {
			clear(resources)
			total := r.swarm.total()
			if err := r.next(k); err != nil {
				return nil, err
			}
			if err := r.swarm.rest(ctx, total); err != nil {
				return nil, fmt.Errorf("%s edit: %w", k.name, err)
			}
			rec.edits[k.name] = append(rec.edits[k.name], heard)
			heard = nil
		}
		e := &edits{}
		r.edits[k.name], r.expect[k.name] = e, maps.Clone(resources)
		for _, m := range rec.edits[k.name][recorded-1] {
			e.sent += int64(len(m.Bytes))
		}
	}
	r.swarm.record = nil
	for _, k := range kinds {
		alone, _, err := r.edit(ctx, k, aloneEdits)
		if err != nil {
			return nil, err
		}
		r.edits[k.name].alone = alone.Seconds() * 1000
	}
	return rec, nil
}

// next writes the next edit of a kind.
func (r *trial) next(k kind) error {
	n := r.counts[k.name]
	r.counts[k.name]++
	return r.write(k, n)
}

// cost is the CPU time that the server takes while f runs, without what it takes anyway.
func (r *trial) cost(f func() error) (time.Duration, error) {
	before, err := harness.CPUTime(r.pid)
	if err != nil {
		return 0, err
	}
	begun := time.Now()
	if err := f(); err != nil {
		return 0, err
	}
	idle := time.Duration(r.idle * float64(time.Since(begun)))
	after, err := harness.CPUTime(r.pid)
	return after - before - idle, err
}

// storm connects all clients at once, and takes the memory that they need once they are idle.
func (r *trial) storm(ctx context.Context, profile string) error {
	usedBefore, err := r.used()
	if err != nil {
		return err
	}
	residentBefore, err := r.settled(ctx)
	if err != nil {
		return err
	}
	bytes := r.swarm.bytes.Load()
	stop := r.profile(ctx, profile, "storm")
	defer stop()
	cpu, err := r.cost(func() (err error) {
		if r.took, err = r.swarm.grow(ctx, r.clients); err != nil {
			return err
		}
		return r.swarm.rest(ctx, 0)
	})
	if err != nil {
		return err
	}
	r.cell.cpu = cpu.Seconds() * 1e6 / float64(r.clients)
	r.sent = (r.swarm.bytes.Load() - bytes) / int64(r.clients)
	used, err := r.used()
	if err != nil {
		return err
	}
	resident, err := r.settled(ctx)
	r.inUse, r.resident = (int64(used)-int64(usedBefore))/int64(r.clients), (resident-residentBefore)/int64(r.clients)
	return err
}

// settled is the server's resident memory once it does not fall any more.
func (r *trial) settled(ctx context.Context) (int64, error) {
	least, err := harness.Resident(r.pid)
	for since := 0; since < 4 && err == nil && ctx.Err() == nil; since++ {
		wait(ctx, 250*time.Millisecond)
		var now int64
		if now, err = harness.Resident(r.pid); now < least-least/100 {
			least, since = now, 0
		}
	}
	return least, err
}

// edit writes n edits of a kind, each once the one before it has reached everybody. It returns what one costs the server, and how long
// after each acknowledgement the last client had it: 0 where it was faster.
func (r *trial) edit(ctx context.Context, k kind, n int) (cpu time.Duration, last []time.Duration, err error) {
	if k.most > 0 {
		n = min(n, k.most)
	}
	expect, before := r.expect[k.name], map[view.Type][]int64{}
	for t := range expect {
		before[t] = r.swarm.tally(t)
	}
	cpu, err = r.cost(func() error {
		for begun := time.Now(); len(last) < n && (len(last) < fewest || time.Since(begun) < editTime); {
			r.swarm.expect(expect)
			if err := r.next(k); err != nil {
				return err
			}
			written := time.Now()
			at, err := r.swarm.met(ctx, len(expect))
			if err != nil {
				return err
			}
			took := max(0, at.Sub(written))
			last = append(last, took)
			wait(ctx, min(500*time.Millisecond, max(10*time.Millisecond, took))) // until the server has read the answers
		}
		return nil
	})
	for t := range expect {
		if err == nil {
			err = r.swarm.equal(t, before[t])
		}
	}
	return cpu / time.Duration(max(1, len(last))), last, err
}

// profile has the control plane write profiles of what goes on.
func (r *trial) profile(ctx context.Context, folder, of string) (stop func()) {
	if folder == "" || r.admin == "" {
		return func() {}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, p := range []string{"profile?seconds=10", "heap?gc=1"} {
			text, err := get(ctx, "http://"+r.admin+"/debug/pprof/"+p)
			if err == nil {
				name, _, _ := strings.Cut(p, "?")
				err = os.WriteFile(filepath.Join(folder, fmt.Sprintf("%s-%s-%d-%d.pprof", of, name, r.clients, r.services)), text, 0o644)
			}
			if err != nil {
				fmt.Fprintln(os.Stderr, "profile:", err)
			}
		}
	}()
	return func() { <-done }
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
