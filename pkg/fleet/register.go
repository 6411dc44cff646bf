package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/store"
)

// register keeps this replica's entry in the store until ctx ends, and then removes it.
func (r *Registry) register(ctx context.Context) error {
	value, err := json.Marshal(stored{Schema: 1, Replica: r.self})
	if err != nil {
		return fmt.Errorf("encode the entry of replica %s: %w", r.self.ID, err)
	}
	e := &entry{Registry: r, op: store.Op{Key: store.ReplicaKey(r.self.ID), Value: value}}
	defer e.remove()
	failing := false
	for {
		err := e.keep(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if (err != nil) != failing {
			if failing = err != nil; failing {
				r.log.Warn("this control plane can't be registered: the others don't count on it", "replica", r.self.ID, "error", err)
			} else {
				r.log.Info("registered", "replica", r.self.ID, "address", r.self.Address)
			}
		}
		e.pause(ctx)
	}
}

// entry is the entry as it was last made; only register's goroutine touches it.
type entry struct {
	*Registry
	op store.Op // with its lease; none: it has to be made
}

// keep makes the entry, or renews its lease.
func (e *entry) keep(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, e.every())
	defer cancel()
	if e.op.Lease != 0 {
		err := e.kv.Renew(ctx, e.op.Lease)
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
		e.op.Lease = 0
	}
	lease, err := e.kv.Grant(ctx, e.lease)
	if err != nil {
		return err
	}
	e.op.Lease = lease // removed with it, whatever becomes of the write
	revision, err := e.kv.Commit(ctx, store.Txn{Ops: []store.Op{e.op}})
	if err != nil {
		e.drop()
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.made = revision
	return nil
}

// every leaves room for two renewals that fail.
func (e *entry) every() time.Duration { return e.lease / 3 }

// pause waits until the lease is to be renewed, or the entry is gone though its lease may not be.
func (e *entry) pause(ctx context.Context) {
	timer := time.NewTimer(e.every())
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			return
		case <-e.missing:
			if e.isGone() {
				e.drop()
				return
			}
		}
	}
}

// isGone reports whether the entry has gone since it was made. To make one anew is to end the one before, and the watch may tell of that at any
// time: taken for a loss it would make an end of the next one, and so on.
func (e *entry) isGone() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.gone > e.made
}

// drop gives the lease up, so that the entry is made anew.
func (e *entry) drop() {
	e.remove()
	e.op.Lease = 0
}

// removeTimeout is how long a stop waits for the store; the lease does the rest.
const removeTimeout = time.Second

func (e *entry) remove() {
	if e.op.Lease == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), removeTimeout)
	defer cancel()
	if err := e.kv.Revoke(ctx, e.op.Lease); err != nil {
		e.log.Debug("the entry of this control plane is left to its lease", "error", err)
	}
}
