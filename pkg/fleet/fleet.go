// Package fleet knows the control planes over one store, the replicas, and asks them: each registers itself under a lease, and follows who
// else has.
package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/client"
	"github.com/breakwater-mesh/breakwater/pkg/store"
)

// Config is what a Registry needs. KV and Self must be set.
type Config struct {
	KV    store.KV
	Self  api.Replica   // this replica, with an id that no other one ever had
	Lease time.Duration // how long the others go on counting on this replica when it is silent; 0: DefaultLease
	Log   hclog.Logger  // nil: silent
}

// DefaultLease outlives a lost packet and a short stop of the machine.
const DefaultLease = 10 * time.Second

// Registry is this replica's entry in the store, and what it knows of the others.
type Registry struct {
	kv    store.KV
	self  api.Replica
	lease time.Duration
	log   hclog.Logger

	missing chan struct{} // capacity 1: the own entry is gone, or was
	joined  chan struct{} // closed when the own entry was first seen

	mu      sync.Mutex // guards all below
	known   map[string]*peer
	joining sync.Once
	made    int64         // the revision at which the own entry was last made; 0: not in this store
	gone    int64         // that at which it last went
	changed chan struct{} // closed and replaced when known changes
}

// peer is another replica.
type peer struct {
	api.Replica
	client *client.Client // nil: its address is none, as reason says
	reason error
	lapsed bool // its lease ran out, or it has stopped
}

// New is a Registry that starts with Run.
func New(c Config) *Registry {
	if c.Lease == 0 {
		c.Lease = DefaultLease
	}
	if c.Log == nil {
		c.Log = hclog.NewNullLogger()
	}
	return &Registry{
		kv: c.KV, self: c.Self, lease: c.Lease, log: c.Log,
		missing: make(chan struct{}, 1), joined: make(chan struct{}), known: make(map[string]*peer), changed: make(chan struct{}),
	}
}

// Run keeps this replica registered and follows the others until ctx ends; then its entry is removed.
func (r *Registry) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return r.register(ctx) })
	group.Go(func() error { return store.Follow(ctx, r.kv, store.ReplicasPrefix, r) })
	err := group.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.known {
		p.close()
	}
	return err
}

// Joined is closed once this replica is registered and knows who else was by then.
func (r *Registry) Joined() <-chan struct{} { return r.joined }

// Self is this replica.
func (r *Registry) Self() api.Replica { return r.self }

// Others are the other replicas, by id: those that are registered, and those whose entry is gone and that have not failed to answer since.
// A replica that the store has lost, or that has lost the store, may still serve proxies.
func (r *Registry) Others() []api.Replica {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []api.Replica
	for _, id := range slices.Sorted(maps.Keys(r.known)) {
		list = append(list, r.known[id].Replica)
	}
	return list
}

// Changed is closed when there are other Others. Take it before them.
func (r *Registry) Changed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}

// Deliver takes what the store says of the replicas.
func (r *Registry) Deliver(d store.Delivery) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	own := false
	for _, e := range d.Events {
		id := strings.TrimPrefix(e.Key, store.ReplicasPrefix)
		switch {
		case id == r.self.ID:
			own = !e.Deleted
			if e.Deleted {
				r.lost(e.Revision, d.Reset)
			}
		case e.Deleted:
			r.lapse(id)
		default:
			r.meet(id, e.Value)
		}
	}
	if own {
		r.joining.Do(func() { close(r.joined) })
	}
	if len(d.Events) > 0 {
		r.tell()
	}
	return nil
}

// tell wakes those who wait for a change. mu is held.
func (r *Registry) tell() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// Stale says that the store is silent. Who was there by then still is, as far as anybody knows.
func (r *Registry) Stale(since time.Time, err error) {
	r.log.Debug("the store does not say who is there", "since", since, "error", err)
}

// lost tells register that the entry went at a revision. After a reset no revision seen before means anything. mu is held.
func (r *Registry) lost(revision int64, reset bool) {
	if r.gone = revision; reset {
		r.made = 0
	}
	select {
	case r.missing <- struct{}{}:
	default:
	}
}

// stored is what lies under a replica's key.
type stored struct {
	Schema int `json:"schema"`
	api.Replica
}

// meet takes in a replica that has come, or come back. mu is held.
func (r *Registry) meet(id string, value []byte) {
	p := &peer{}
	var s stored
	if err := json.Unmarshal(value, &s); err != nil {
		p.reason = fmt.Errorf("its entry in the store can't be read: %w", err)
	}
	p.Replica = s.Replica
	p.ID = id
	if p.reason == nil {
		p.client, p.reason = client.New(p.Address)
	}
	old := r.known[id]
	if old != nil {
		old.close()
	}
	if old == nil || old.lapsed {
		r.log.Info("another control plane is there", "replica", id, "address", p.Address, "version", p.Version)
	}
	r.known[id] = p
}

// lapse keeps a replica whose entry is gone until it fails to answer. mu is held.
func (r *Registry) lapse(id string) {
	if p := r.known[id]; p != nil {
		p.lapsed = true
		r.log.Info("another control plane has gone", "replica", id, "address", p.Address)
	}
}

func (p *peer) close() {
	if p.client != nil {
		p.client.Close()
	}
}

// Get asks one of Others, for itself alone, for what is at path, as JSON, into v. api.ErrGone is of one that is not registered and does not
// answer.
func (r *Registry) Get(ctx context.Context, id, path string, v any) error {
	r.mu.Lock()
	p := r.known[id]
	r.mu.Unlock()
	if p == nil {
		return api.ErrGone
	}
	err := p.get(ctx, api.OfReplica(path, id), v)
	if err == nil || !r.forget(ctx, p) {
		return err
	}
	return fmt.Errorf("%w: %w", api.ErrGone, err)
}

// forget drops p if nothing but its answers kept it. What the asker has no more time for says nothing.
func (r *Registry) forget(ctx context.Context, p *peer) bool {
	if errors.Is(ctx.Err(), context.Canceled) {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known[p.ID] != p || !p.lapsed {
		return false
	}
	delete(r.known, p.ID)
	p.close()
	r.tell()
	return true
}

func (p *peer) get(ctx context.Context, path string, v any) error {
	if p.client == nil {
		return p.reason
	}
	answer, err := p.client.Do(ctx, "GET", path, nil)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(answer.Body, v); err != nil {
		return fmt.Errorf("its answer can't be read: %w", err)
	}
	return nil
}
