package apiserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/store"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// ExpiryAuthor is who the history says removed a policy because of its expiresAt.
const ExpiryAuthor = "breakwater/expiry"

const (
	longestNap  = time.Minute // between two looks at the clock, which may have been set
	firstRetry  = time.Second // after the store has failed; doubled each time, up to longestNap
	retryJitter = 0.5         // the part of a retry's wait that is left to chance
)

// Expiry removes policies at their expiresAt. Every replica runs one: the store lets one of them win, and a policy that was edited
// meanwhile stays. It sleeps until the next one is due, or the world changes.
type Expiry struct {
	writer *writer
	worlds Worlds
	now    func() time.Time
	log    hclog.Logger
}

// NewExpiry needs of c what a write needs. It starts no goroutine.
func NewExpiry(c Config) *Expiry {
	c = c.withDefaults()
	return &Expiry{writer: newWriter(c), worlds: c.Worlds, now: c.Now, log: c.Log}
}

// Run removes what is due until ctx ends, and returns why it ended.
func (e *Expiry) Run(ctx context.Context) error {
	_ = e.worlds.Wait(ctx, 0)
	for failures := 0; ctx.Err() == nil; {
		w := e.worlds.World()
		due, nap := expiring(w, e.now())
		if e.remove(ctx, due) {
			failures = 0
		} else {
			nap = min(nap, backOff(failures))
			failures++
		}
		e.sleep(ctx, w.Rev, nap)
	}
	return context.Cause(ctx)
}

// expiring are the policies that are due at now, and how long it is until the next is, at most longestNap.
func expiring(w *world.World, now time.Time) (due []*policy.Policy, nap time.Duration) {
	nap = longestNap
	for _, c := range w.Ranked() {
		if c.Guardrail != nil || c.Policy.Spec.ExpiresAt == nil {
			continue
		}
		if left := c.Policy.Spec.ExpiresAt.T().Sub(now); left <= 0 {
			due = append(due, c.Policy)
		} else {
			nap = min(nap, left)
		}
	}
	return due, nap
}

// backOff is how long to wait after the store has failed that often before.
func backOff(failures int) time.Duration {
	longest := min(firstRetry<<min(failures, 10), longestNap)
	return longest - time.Duration(rand.Float64()*retryJitter*float64(longest))
}

// remove removes the policies, and reports whether the store took it. That one of them is another by now, or gone, is no failure: the
// world will show it.
func (e *Expiry) remove(ctx context.Context, due []*policy.Policy) bool {
	ok := true
	for _, p := range due {
		switch err := e.writer.expire(ctx, p); {
		case err == nil:
			e.log.Info("policy removed: it has expired", "policy", p.Key(), "expiresAt", *p.Spec.ExpiresAt)
		case errors.Is(err, store.ErrConflict):
			e.log.Debug("an expired policy was removed or edited by somebody else", "policy", p.Key())
		case ctx.Err() == nil:
			e.log.Warn("can't remove an expired policy, which goes on; it is tried again", "policy", p.Key(), "error", err)
			ok = false
		}
	}
	return ok
}

// sleep ends after nap, when the world has moved on from revision, or with ctx.
func (e *Expiry) sleep(ctx context.Context, revision int64, nap time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, nap)
	defer cancel()
	_ = e.worlds.Wait(ctx, revision+1)
}

// expire removes p, if what the store holds is still p at that revision; else its error is store.ErrConflict. Nothing else can refuse
// the removal of a policy, so nothing else is asked.
func (w *writer) expire(ctx context.Context, p *policy.Policy) error {
	ctx, cancel := context.WithTimeout(ctx, w.limit)
	defer cancel()
	plan, err := w.load(ctx, []*change{{kind: policy.Kind, key: p.Key()}})
	if err != nil {
		return err
	}
	s := plan.steps[0]
	if s.old.Revision != p.Metadata.Revision {
		return store.ErrConflict
	}
	now := w.now().UTC()
	if err := s.settle(now, ExpiryAuthor); err != nil {
		return err
	}
	record := historyRecord{Schema: manifest.Schema, At: now, By: ExpiryAuthor, Why: fmt.Sprintf("its expiresAt, %s, has come", *p.Spec.ExpiresAt)}
	if err := plan.write(s, record); err != nil {
		return err
	}
	revision, err := w.kv.Commit(ctx, plan.txn)
	if err != nil {
		return err
	}
	w.committed(ctx, plan, revision)
	return nil
}

// expired is a policy that was there until it expired.
type expired struct {
	at     time.Time // when it was removed
	policy *policy.Policy
}

// recallLimit is how long the store may take over an object's history, of which there is little: as long as over any other read.
const recallLimit = 2 * time.Second

// recall reads from the history of an object that is not there where its generations ended, 0 if there never was one, and how.
func (w *writer) recall(ctx context.Context, s *step) error {
	ctx, cancel := context.WithTimeout(ctx, recallLimit)
	defer cancel()
	snap, err := w.kv.List(ctx, store.HistoryPrefix(historyKind(s.kind), s.key.Namespace, s.key.Name))
	if err != nil || len(snap.Entries) == 0 {
		return err
	}
	records := make([]historyRecord, min(2, len(snap.Entries))) // the last one, and the one before
	for i := range records {
		e := snap.Entries[len(snap.Entries)-1-i]
		if err := json.Unmarshal(e.Value, &records[i]); err != nil {
			return fmt.Errorf("read %s: %w", e.Key, err)
		}
	}
	s.lastGen = records[0].Generation
	if s.kind != policy.Kind || !records[0].Deleted || records[0].By != ExpiryAuthor || len(records) < 2 || records[1].Deleted {
		return nil
	}
	was, err := manifest.DecodeStored[policy.Spec](records[1].Object)
	if err != nil {
		return fmt.Errorf("read the history of %s %s: %w", s.kind, s.key, err)
	}
	s.expired = &expired{at: records[0].At, policy: was}
	return nil
}

// inTime refuses a policy whose expiresAt is past. One that was written in time, and has come to its end since, is no fault of who
// applies it again: nothing is written then, and why is told.
func (s *step) inTime(now time.Time) error {
	if s.policy == nil || s.policy.Spec.ExpiresAt == nil || s.policy.Spec.ExpiresAt.T().After(now) {
		return nil
	}
	at := *s.policy.Spec.ExpiresAt
	if s.action == api.Unchanged {
		s.over = fmt.Sprintf("%s has come: the policy is about to be removed; write a later time to keep it", at)
		return nil
	}
	again, err := s.expiredBefore()
	if err != nil {
		return err
	}
	if !again {
		return invalid(s.place.fault("spec.expiresAt", fmt.Sprintf("%s is past: it is %s; write a later time", at, now.Format(time.RFC3339))))
	}
	s.over = fmt.Sprintf("%s has come: the policy was removed at %s, by %s, and is not written again; write a later time, or delete the manifest",
		at, s.expired.at.Format(time.RFC3339), ExpiryAuthor)
	s.change = &change{kind: s.kind, key: s.key, place: s.place}
	s.action, s.generation, s.value = api.Unchanged, s.lastGen, nil
	return nil
}

// expiredBefore reports whether this very policy was there, and expired.
func (s *step) expiredBefore() (bool, error) {
	if s.expired == nil {
		return false, nil
	}
	was := step{change: s.change, oldPolicy: s.expired.policy, oldMeta: s.expired.policy.Metadata}
	return was.same()
}
