package reconcile

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/store"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// pastTimeout is how long the loop waits for the history of a policy that something can't be built with; pastAgain is how long after it
// asks anew.
const (
	pastTimeout = 2 * time.Second
	pastAgain   = 5 * time.Second
)

// past reads what a policy or a guardrail was before a generation, newest first, back to where it was created. What this version can't
// read is left out.
func (l *Loop) past(ctx context.Context, kind string, key manifest.Key, generation int64) ([]*policy.Compiled, error) {
	ctx, cancel := context.WithTimeout(ctx, pastTimeout)
	defer cancel()
	stored, decode := store.Policies, decodePolicy
	if kind == policy.GuardrailKind {
		stored, decode = store.Guardrails, decodeGuardrail
	}
	snap, err := l.kv.List(ctx, store.HistoryPrefix(stored, key.Namespace, key.Name))
	if err != nil {
		return nil, err
	}
	var list []*policy.Compiled
	for _, e := range slices.Backward(snap.Entries) {
		var was world.Generation
		if err := json.Unmarshal(e.Value, &was); err != nil {
			return nil, fmt.Errorf("read %s: %w", e.Key, err)
		}
		if was.Generation >= generation {
			continue
		}
		if was.Deleted {
			break
		}
		var p *policy.Compiled
		if err := world.Safely(func() (err error) {
			p, err = decode(key, store.Event{Entry: store.Entry{Key: e.Key, Value: was.Object, Revision: e.Revision}})
			return err
		}); err != nil {
			l.log.Warn("an earlier generation can't be read", "key", e.Key, "error", err)
			continue
		}
		list = append(list, p)
	}
	return list, nil
}

// Quarantined are the policies and guardrails that this replica can't build some service with, by service, kind and key. The caller must
// not change the slice.
func (l *Loop) Quarantined() []world.Quarantined {
	if q := l.quarantined.Load(); q != nil {
		return *q
	}
	return nil
}

// contained publishes what b has quarantined, and logs what is new of it.
func (l *Loop) contained(b *world.Builder) {
	before, now := l.Quarantined(), b.Quarantined()
	if len(before)+len(now) == 0 {
		return
	}
	l.quarantined.Store(&now)
	for _, q := range now {
		if !slices.ContainsFunc(before, func(o world.Quarantined) bool { return sameGeneration(o, q) }) {
			l.log.Error("a policy is quarantined", "kind", q.Kind, "policy", q.Key, "generation", q.Generation, "in_force", q.InForce,
				"service", q.Service, "caller", q.Caller, "error", q.Err, "stack", string(world.StackOf(q.Err)))
			before = append(before, q) // said once, whatever the number of services
		}
	}
}

func sameGeneration(a, b world.Quarantined) bool {
	return a.Kind == b.Kind && a.Key == b.Key && a.Generation == b.Generation
}
