package reconcile

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/breakwater-mesh/breakwater/pkg/store"
)

const (
	confirmWait = 2 * time.Second  // for the read, and for the world to come so far
	confirmDown = 10 * time.Second // without a read that succeeds: the store is down

	confirmAgain = time.Second // between reads that nobody asks for, while they fail
)

// confirmer reads how far the store is, for all who ask, one read at a time: whoever asks while one is under way shares the next one, as
// only that begins after the question.
type confirmer struct {
	kv         store.KV
	log        hclog.Logger
	wait, down time.Duration // to be set before the first use

	wanted chan struct{} // capacity 1: queued is to be read

	mu        sync.Mutex // guards all below
	queued    *read      // not begun; nil: nobody waits for it
	succeeded time.Time  // when the last read did
	failing   time.Time  // since when none has; zero: the last one did
	failure   error      // of the last one
}

// read is one read of the store's head. All but done are set before that is closed, and only read thereafter.
type read struct {
	done   chan struct{}
	before [2]*position // of both feeds when it began
	head   store.Head
	err    error
}

func newConfirmer(kv store.KV, log hclog.Logger) *confirmer {
	return &confirmer{kv: kv, log: log, wait: confirmWait, down: confirmDown, wanted: make(chan struct{}, 1)}
}

// run reads whenever somebody asks, until ctx ends; after a failure it asks by itself, so that the end of it is noticed.
func (c *confirmer) run(ctx context.Context, positions func() [2]*position) error {
	again := time.NewTicker(confirmAgain)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-c.wanted:
			c.read(ctx, positions)
		case <-again.C:
			if _, failing := c.since(nil); failing {
				c.next()
			}
		}
	}
}

// next is the next read, which has not begun.
func (c *confirmer) next() *read {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.queued == nil {
		c.queued = &read{done: make(chan struct{})}
		c.wanted <- struct{}{} // there is room: run took the last one before it took the read
	}
	return c.queued
}

func (c *confirmer) read(ctx context.Context, positions func() [2]*position) {
	r := c.begin(time.Now())
	r.before = positions()
	ctx, cancel := context.WithTimeout(ctx, c.wait)
	defer cancel()
	r.head, r.err = c.kv.Head(ctx)
	c.end(r, time.Now())
	close(r.done)
}

// begin takes the read that is queued. Until it succeeds it counts as one that fails: it may take long.
func (c *confirmer) begin(now time.Time) *read {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.queued
	c.queued = nil
	if c.failing.IsZero() {
		c.failing = now
	}
	return r
}

func (c *confirmer) end(r *read, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.failure
	if c.failure = r.err; r.err == nil {
		c.succeeded, c.failing = now, time.Time{}
	}
	switch {
	case before == nil && r.err != nil:
		c.log.Warn("the store does not say how far it is: proxies that come new must wait, or go elsewhere, until it counts as down", "down_after", c.down, "error", r.err)
	case before != nil && r.err == nil:
		c.log.Info("the store says again how far it is")
	}
}

// since is since when no read has succeeded. A silent feed says it of the time in which nobody asked.
func (c *confirmer) since(silent *Staleness) (since time.Time, failing bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	since = c.failing
	if silent != nil && silent.Since.Before(since) {
		since = silent.Since
	}
	if since.Before(c.succeeded) {
		since = c.succeeded
	}
	return since, !c.failing.IsZero()
}

// stale is not nil while no read has succeeded for so long that the store counts as down.
func (c *confirmer) stale(now time.Time) *Staleness {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failure == nil || c.failing.IsZero() || now.Sub(c.failing) < c.down {
		return nil
	}
	return &Staleness{Since: c.failing, Err: c.failure}
}

// positions are how far both feeds are in the world.
func (l *Loop) positions() [2]*position {
	return [2]*position{l.config.built.Load(), l.live.built.Load()}
}

// Confirm returns nil once the world, and every class, hold what the store held when Confirm was called, whoever wrote it: a client that
// comes from another replica is not taken back to an older state, nor to other bytes of the same one. It is an error where that takes longer
// than two seconds. Where the store has not answered for ten, Confirm returns nil all the same and Stale says since when.
func (l *Loop) Confirm(ctx context.Context) error {
	timer := time.NewTimer(l.confirm.wait)
	defer timer.Stop()
	r := l.confirm.next()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return l.unconfirmed(errors.New("the store does not answer"))
	case <-r.done:
		if r.err != nil {
			return l.unconfirmed(r.err)
		}
	}
	for {
		advanced := l.Advanced()
		if r.reached(l.positions()) {
			return l.outdated(l.World())
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timer.C:
			if err := l.Ready(); err != nil {
				return err
			}
			return fmt.Errorf("the store is at revision %d, which this replica has not reached", r.head.Revision)
		case <-advanced:
		}
	}
}

// unconfirmed is err, unless the store is down and there is something to serve.
func (l *Loop) unconfirmed(err error) error {
	if l.World() == nil {
		return err
	}
	if since, failing := l.confirm.since(l.silent()); failing && time.Since(since) >= l.confirm.down {
		return l.outdated(l.World())
	}
	return err
}

// reached reports whether both feeds hold what r found. A read that finds the store behind where a feed was before it, or another store,
// says that what the feed has is no more: it must have been read anew since.
func (r *read) reached(now [2]*position) bool {
	for i, at := range now {
		if at == nil || at.Cluster != r.head.Cluster || at.Revision < r.head.Revision {
			return false
		}
		if was := r.before[i]; was != nil && r.head.Revision < was.Revision && at.resets == was.resets {
			return false
		}
	}
	return true
}
