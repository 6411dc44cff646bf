package controlplane

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/store"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// raiseEvery leaves a replica that starts, or has lost its lease for a moment, time to be known.
const raiseEvery = time.Minute

// raiser raises the vintage once every replica knows a newer one. Any number of replicas may try.
type raiser struct {
	kv     store.KV
	log    hclog.Logger
	self   api.Replica
	others func() []api.Replica
	world  func() *world.World
}

// run tries every minute until ctx ends.
func (r raiser) run(ctx context.Context) error {
	ticker := time.NewTicker(raiseEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
		if err := r.try(ctx); err != nil {
			r.log.Warn("the vintage is not raised; it is tried again", "error", err)
		}
	}
}

// known is the last vintage that all replicas know. One that does not say knows the first.
func (r raiser) known() int {
	known := r.self.Vintage
	for _, other := range r.others() {
		known = min(known, other.Vintage)
	}
	return max(1, known)
}

// try raises the vintage in force to the known one. Where another replica was faster nothing is left to do.
func (r raiser) try(ctx context.Context) error {
	w, to := r.world(), r.known()
	if w == nil || w.Vintage() >= to {
		return nil
	}
	at, err := r.kv.Get(ctx, store.VintageKey)
	if err != nil || at.Revision > w.Rev { // this replica has yet to hear what was written
		return err
	}
	value, err := world.EncodeVintage(to)
	if err != nil {
		return err
	}
	_, err = r.kv.Commit(ctx, store.Txn{
		Conds: []store.Cond{{Key: store.VintageKey, Revision: at.Revision}}, Ops: []store.Op{{Key: store.VintageKey, Value: value}},
	})
	if errors.Is(err, store.ErrConflict) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("raise the vintage to %d: %w", to, err)
	}
	r.log.Info("all replicas know it: the vintage is raised", "from", w.Vintage(), "to", to)
	return nil
}
