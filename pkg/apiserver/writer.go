package apiserver

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/store"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// trimEvery is how many generations lie between two cuts of an object's history: most writes pay nothing for it.
const trimEvery = 10

// writer is the write path. It is read-only after newWriter.
type writer struct {
	kv      store.KV
	worlds  Worlds
	log     hclog.Logger
	now     func() time.Time
	limit   time.Duration
	catchUp time.Duration
	kept    int64

	classes  func() map[world.ClassKey]int
	census   func(context.Context) *census
	findings *findings
}

func newWriter(c Config) *writer {
	return &writer{kv: c.KV, worlds: c.Worlds, log: c.Log, now: c.Now, limit: c.WriteLimit, catchUp: c.CatchUp, kept: c.HistoryKept, classes: c.Classes, census: c.census, findings: &findings{}}
}

// options say under which conditions a write is wanted.
type options struct {
	ifMatch     string // If-Match, "" for none
	createOnly  bool   // If-None-Match: *
	force       bool   // delete services though others name them
	exact       bool   // refuse what a proxy does not enforce exactly
	strict      bool   // refuse what lint finds errors in
	wide        bool   // rebuild clusters on many proxies
	allowShrink bool   // take away much of a namespace or of a service
	tell        bool   // work out the impact, for a dry run
	dryRun      bool
	census      func() *census // of the connected proxies, once for each write that has to know them
	who, why    string
}

// outcome is a write that was made, or would have been.
type outcome struct {
	*plan
	revision int64 // at which all of it holds
}

// write brings about changes, all or none. A *api.Problem says why not.
func (w *writer) write(ctx context.Context, changes []*change, o options) (*outcome, error) {
	if err := noTwins(changes); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, w.limit)
	defer cancel()
	o.census = sync.OnceValue(func() *census { return w.census(ctx) })
	for n := 0; ; n++ {
		done, err := w.attempt(ctx, changes, o)
		switch {
		case err == nil:
			return done, nil
		case n > 0 && ctx.Err() != nil:
			return nil, contended()
		case !errors.Is(err, store.ErrConflict):
			return nil, storeFailed(err)
		}
		if !pause(ctx, n) {
			return nil, contended()
		}
	}
}

// The pause of a write that lost to another one, before it is made again on fresh ground: a random part of firstPause, doubled each
// time up to longestPause.
const (
	firstPause   = 4 * time.Millisecond
	longestPause = 128 * time.Millisecond
)

// pause waits before attempt n+1, and reports whether there is time left for it.
func pause(ctx context.Context, n int) bool {
	longest := min(firstPause<<min(n, 10), longestPause)
	timer := time.NewTimer(rand.N(longest))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (w *writer) attempt(ctx context.Context, changes []*change, o options) (*outcome, error) {
	p, err := w.load(ctx, changes)
	if err != nil {
		return nil, err
	}
	for _, s := range p.steps {
		if err := s.guard(o); err != nil {
			return nil, err
		}
		now := w.now().UTC().Truncate(time.Millisecond)
		if err := s.settle(now, o.who); err != nil {
			return nil, err
		}
		if err := s.inTime(now); err != nil {
			return nil, err
		}
	}
	if err := w.foresee(ctx, p, o); err != nil {
		return nil, err
	}
	if !o.dryRun {
		if err := w.sign(ctx, p); err != nil {
			return nil, err
		}
	}
	if o.dryRun || !p.changes() && !p.signs {
		return &outcome{plan: p, revision: p.newest}, nil
	}
	revision, err := w.kv.Commit(ctx, p.txn)
	if err != nil {
		return nil, err
	}
	w.committed(ctx, p, revision)
	return &outcome{plan: p, revision: revision}, nil
}

// foresee makes the world as it will be, checks it, and fills in the transaction.
func (w *writer) foresee(ctx context.Context, p *plan, o options) error {
	before, err := w.base(ctx, p.newest)
	if err != nil {
		return err
	}
	changes := world.Changes{
		Policies: map[manifest.Key]*policy.Compiled{}, Guardrails: map[manifest.Key]*policy.Compiled{},
		Services:  map[manifest.Key]*catalog.Service{},
		Endpoints: map[world.EndpointKey]*catalog.Endpoint{},
		Hosts:     map[string]*manifest.Key{},
	}
	record := historyRecord{Schema: manifest.Schema, At: w.now().UTC(), By: o.who, Why: o.why}
	for _, s := range p.steps {
		if err := p.write(s, record); err != nil {
			return err
		}
		s.change.apply(changes)
	}
	if err := w.claimHosts(ctx, p, &changes); err != nil {
		return err
	}
	if err := w.dropEndpoints(ctx, p, changes); err != nil {
		return err
	}
	p.world = before.With(before.Rev, changes)
	if err := w.together(ctx, p); err != nil {
		return err
	}
	p.warnings = advise(p)
	if !o.force {
		if err := referenced(p); err != nil {
			return err
		}
	}
	told := make(map[string]bool)
	if err := check(p, told); err != nil {
		return err
	}
	aftermath(before, p, told)
	if err := p.inexact(o); err != nil {
		return err
	}
	if err := w.advised(before, p, o.strict); err != nil {
		return err
	}
	if err := keepMost(before, p, changes, o); err != nil {
		return err
	}
	foresight := world.Foresee(before, p.world, changes)
	if err := p.buildable(foresight, w.classes()); err != nil {
		return err
	}
	return p.weigh(foresight, o)
}

// base is the world to build on. It has seen everything this write read, if the replica is not far behind: the store's guards decide
// in any case, the world only advises.
func (w *writer) base(ctx context.Context, newest int64) (*world.World, error) {
	wait, cancel := context.WithTimeout(ctx, w.catchUp)
	defer cancel()
	_ = w.worlds.Wait(wait, newest)
	if now := w.worlds.World(); now != nil {
		return now, nil
	}
	return nil, fmt.Errorf("%w: this replica has not read the store yet", store.ErrUnavailable)
}

// apply notes what c does to the world.
func (c *change) apply(to world.Changes) {
	switch c.kind {
	case policy.Kind:
		to.Policies[c.key] = nil
		if c.policy != nil {
			to.Policies[c.key] = policy.Compile(c.policy)
		}
	case policy.GuardrailKind:
		to.Guardrails[c.key] = nil
		if c.guardrail != nil {
			to.Guardrails[c.key] = policy.CompileGuardrail(c.guardrail)
		}
	case catalog.Kind:
		to.Services[c.key] = c.service
	default:
		key := world.EndpointKey{Service: c.key, ID: c.id}
		to.Endpoints[key] = nil
		if c.endpoint != nil {
			to.Endpoints[key] = &catalog.Endpoint{Service: c.key, ID: c.id, Spec: *c.endpoint, Lease: c.lease}
		}
	}
}

// dropEndpoints removes the registered endpoints of removed services, and holds the service of a registered endpoint in place.
func (w *writer) dropEndpoints(ctx context.Context, p *plan, changes world.Changes) error {
	for _, s := range p.steps {
		switch {
		case s.kind == catalog.Kind && s.action == api.Deleted:
			snap, err := w.kv.List(ctx, store.EndpointKey(s.key.Namespace, s.key.Name, ""))
			if err != nil {
				return err
			}
			for _, e := range snap.Entries {
				key, ok := store.ParseConfigKey(e.Key)
				if !ok {
					continue
				}
				p.cond(e)
				p.txn.Ops = append(p.txn.Ops, store.Op{Key: e.Key, Delete: true})
				changes.Endpoints[world.EndpointKey{Service: s.key, ID: key.ID}] = nil
			}
		case s.kind == endpointKind && !s.removes():
			e, err := w.kv.Get(ctx, store.ServiceKey(s.key.Namespace, s.key.Name))
			if err != nil {
				return err
			}
			if e.Revision == 0 {
				return noSuch(catalog.Kind, s.key)
			}
			if s.oldService, err = manifest.DecodeStored[catalog.ServiceSpec](e.Value); err != nil {
				return fmt.Errorf("read %s: %w", e.Key, err)
			}
			p.cond(e)
		}
	}
	return nil
}

// committed gives the written objects their revision, cuts old history, and waits a little until reads show the write.
func (w *writer) committed(ctx context.Context, p *plan, revision int64) {
	for _, s := range p.steps {
		if s.action == api.Unchanged {
			continue
		}
		w.findings.amend(func() { s.meta().Revision = revision })
		if s.kind != endpointKind && s.generation > w.kept && s.generation%trimEvery == 0 {
			if err := w.trim(ctx, s); err != nil {
				w.log.Warn("old history could not be cut; the next cut will do it", "kind", s.kind, "name", s.key, "error", err)
			}
		}
	}
	w.release(ctx, p)
	if !p.changes() { // signs of life have no revision in the world
		return
	}
	wait, cancel := context.WithTimeout(ctx, w.catchUp)
	defer cancel()
	_ = w.worlds.Wait(wait, revision) // later reads may ask for the revision themselves
}

func (w *writer) trim(ctx context.Context, s *step) error {
	snap, err := w.kv.List(ctx, store.HistoryPrefix(historyKind(s.kind), s.key.Namespace, s.key.Name))
	if err != nil {
		return err
	}
	oldest := store.HistoryKey(historyKind(s.kind), s.key.Namespace, s.key.Name, s.generation-w.kept+1)
	var cut store.Txn
	for _, e := range snap.Entries {
		if e.Key < oldest {
			cut.Ops = append(cut.Ops, store.Op{Key: e.Key, Delete: true})
		}
	}
	if len(cut.Ops) == 0 {
		return nil
	}
	_, err = w.kv.Commit(ctx, cut)
	return err
}

// noTwins refuses changes that name one object twice.
func noTwins(changes []*change) error {
	seen := make(map[string]bool, len(changes))
	var faults []manifest.FieldError
	for _, c := range changes {
		if key := c.storeKey(); seen[key] {
			faults = append(faults, c.place.fault("metadata.name", fmt.Sprintf("%s %s/%s is here twice", c.kind, c.key.Namespace, c.name())))
		} else {
			seen[key] = true
		}
	}
	if len(faults) > 0 {
		return invalid(faults...)
	}
	return nil
}
