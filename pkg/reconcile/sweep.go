package reconcile

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/store"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

const (
	sweepEvery   = time.Second
	sweepTimeout = 10 * time.Second // of one transaction
	sweepBatch   = 32               // endpoints of one transaction; each takes two conditions and two writes
)

// Forgotten is how long an endpoint is stale before it is removed.
const Forgotten = 24 * time.Hour

// sweep marks leased endpoints whose agents are not heard, and in the end removes them. Every replica does; the store's conditions
// let one of them win. What it writes comes back by the watch, as any edit does.
func (l *Loop) sweep(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case now := <-tick.C:
			heard, ok := l.heard()
			if w := l.World(); w != nil && ok {
				l.write(ctx, "mark silent endpoints", marks(w, now, heard))
				l.write(ctx, "remove endpoints that were silent for long", removals(w, now))
			}
		}
	}
}

// heard is since when both feeds have been heard, but for brief breaks. False: one of them is not.
func (l *Loop) heard() (since time.Time, ok bool) {
	for _, f := range []*feed{l.config, l.live} {
		heard := f.heard.Load()
		if heard == nil || f.stale.Load() != nil {
			return time.Time{}, false
		}
		if heard.After(since) {
			since = *heard
		}
	}
	return since, true
}

// marks are the writes that say of silent endpoints that they are stale as of now. A replica that has heard the store for less than
// two of an endpoint's leases says nothing: agents may have had nobody to renew with.
func marks(w *world.World, now, heard time.Time) (list []store.Txn) {
	for e := range w.Unheard {
		if now.Sub(heard) < 2*e.Lease {
			continue
		}
		key := world.EndpointKey{Service: e.Service, ID: e.ID}
		value, err := world.EncodeMark(w.MarkOf(key, now))
		if err != nil {
			continue // a time that JSON can't hold: never
		}
		live := storeLiveKey(key)
		list = append(list, store.Txn{
			Conds: []store.Cond{{Key: live}, {Key: storeKey(e), Revision: e.Revision}},
			Ops:   []store.Op{{Key: live, Value: value}},
		})
	}
	return list
}

// removals are the writes that forget endpoints that have been stale for long, as long as their services have others, and marks of
// endpoints that are no more.
func removals(w *world.World, now time.Time) (list []store.Txn) {
	for key, mark := range w.Marks() {
		live := storeLiveKey(key)
		conds, ops := []store.Cond{{Key: live, Revision: mark.Revision}}, []store.Op{{Key: live, Delete: true}}
		if e, ok := w.Endpoint(key); ok && e.Lease > 0 {
			if now.Sub(mark.Since) < Forgotten || !w.Outlives(key.Service) {
				continue
			}
			conds, ops = append(conds, store.Cond{Key: storeKey(e), Revision: e.Revision}), append(ops, store.Op{Key: storeKey(e), Delete: true})
		}
		list = append(list, store.Txn{Conds: conds, Ops: ops})
	}
	return list
}

// write commits txns, many at once. Where another replica was faster, a batch is lost: what is still to be done is done by the next
// sweep, in other batches.
func (l *Loop) write(ctx context.Context, what string, txns []store.Txn) {
	rand.Shuffle(len(txns), func(i, j int) { txns[i], txns[j] = txns[j], txns[i] })
	for batch := range slices.Chunk(txns, sweepBatch) {
		var all store.Txn
		for _, t := range batch {
			all.Conds, all.Ops = append(all.Conds, t.Conds...), append(all.Ops, t.Ops...)
		}
		if err := l.commit(ctx, all); err != nil && !errors.Is(err, store.ErrConflict) {
			l.log.Warn("can't "+what+"; the next sweep tries again", "endpoints", len(batch), "error", err)
			return
		} else if err == nil {
			l.log.Info(what, "endpoints", len(batch), "such as", all.Ops[0].Key)
		}
	}
}

func (l *Loop) commit(ctx context.Context, txn store.Txn) error {
	ctx, cancel := context.WithTimeout(ctx, sweepTimeout)
	defer cancel()
	if _, err := l.kv.Commit(ctx, txn); err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	return nil
}

func storeKey(e catalog.Endpoint) string {
	return store.EndpointKey(e.Service.Namespace, e.Service.Name, e.ID)
}

func storeLiveKey(key world.EndpointKey) string {
	return store.LiveKey(key.Service.Namespace, key.Service.Name, key.ID)
}
