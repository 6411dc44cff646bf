package apiserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/store"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// parseLease reads the lease that a request asks for; "" is none.
func parseLease(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	lease := manifest.Duration(text)
	if msg := lease.Check(false); msg != "" {
		return 0, invalidField("query.lease", msg)
	}
	if d := lease.D(); d < api.MinLease || d > api.MaxLease {
		return 0, invalidField("query.lease", fmt.Sprintf("must lie between %s and %s", manifest.DurationOf(api.MinLease), manifest.DurationOf(api.MaxLease)))
	}
	return lease.D(), nil
}

// leaseText is a lease as an answer has it.
func leaseText(lease time.Duration) manifest.Duration {
	if lease == 0 {
		return ""
	}
	return manifest.DurationOf(lease)
}

func endpointResponse(w *world.World, e catalog.Endpoint) api.Endpoint {
	absence, since := w.Absence(e)
	return endpointAt(e, absence, since)
}

func endpointAt(e catalog.Endpoint, absence world.Absence, since time.Time) api.Endpoint {
	out := api.Endpoint{Namespace: e.Service.Namespace, Service: e.Service.Name, ID: e.ID, Source: api.SourceAPI, Spec: e.Spec}
	if e.Lease == 0 {
		return out
	}
	out.Lease, out.State = string(leaseText(e.Lease)), string(absence)
	if !since.IsZero() {
		out.Since = &since
	}
	switch absence {
	case world.Unheard:
		out.Message = "its agent is not heard; it stays until a replica has had the store for two of its leases"
	case world.Protected:
		out.Message = "its agent is not heard; it stays as too many of its service, or of all services, would leave at once"
	case world.Stale:
		out.Message = "its agent is not heard; proxies get it no more"
	}
	return out
}

func (c *change) liveKey() string { return store.LiveKey(c.key.Namespace, c.key.Name, c.id) }

// renew makes the lease of e last on, where e is registered exactly so and its agent was heard: nothing is written then. False: it has
// to be written, by way of what the store says.
func (w *writer) renew(ctx context.Context, e catalog.Endpoint) (bool, error) {
	now := w.worlds.World()
	if e.Lease == 0 || now == nil {
		return false, nil
	}
	key := world.EndpointKey{Service: e.Service, ID: e.ID}
	known, ok := now.Endpoint(key)
	lease := now.LeaseOf(key)
	if !ok || lease == 0 || !sameEndpoint(known, e) {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, w.limit)
	defer cancel()
	err := w.kv.Renew(ctx, store.LeaseID(lease))
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, store.ErrConflict):
		return false, nil
	}
	return false, storeFailed(err)
}

// sameEndpoint reports whether two endpoints are stored alike.
func sameEndpoint(a, b catalog.Endpoint) bool {
	one, errOne := world.EncodeEndpoint(&a)
	other, errOther := world.EncodeEndpoint(&b)
	return errOne == nil && errOther == nil && bytes.Equal(one, other)
}

// sign adds the agents' signs of life to the transaction, and takes away those of endpoints that have no lease any more.
func (w *writer) sign(ctx context.Context, p *plan) error {
	for _, s := range p.steps {
		if s.kind != endpointKind {
			continue
		}
		if s.lease == 0 {
			p.txn.Ops = append(p.txn.Ops, store.Op{Key: s.liveKey(), Delete: true})
			continue
		}
		if alive, err := w.lives(ctx, s); err != nil || alive {
			return err
		}
		var err error
		if s.granted == 0 { // an attempt that lost a race has one already
			if s.granted, err = w.kv.Grant(ctx, s.lease); err != nil {
				return err
			}
		}
		value, err := world.EncodeLife()
		if err != nil {
			return err
		}
		p.cond(s.live)
		p.txn.Ops = append(p.txn.Ops, store.Op{Key: s.liveKey(), Value: value, Lease: s.granted})
		p.signs = true
	}
	return nil
}

// lives renews the lease that the agent of s has, and reports whether it has one of that length.
func (w *writer) lives(ctx context.Context, s *step) (bool, error) {
	if s.live.Lease == 0 || s.oldLease != s.lease {
		return false, nil
	}
	err := w.kv.Renew(ctx, s.live.Lease)
	if errors.Is(err, store.ErrConflict) {
		return false, nil
	}
	return err == nil, err
}

// release ends the leases of removed endpoints: a renewal that another replica answers from an older world must find none.
func (w *writer) release(ctx context.Context, p *plan) {
	for _, s := range p.steps {
		if s.kind != endpointKind || !s.removes() || s.live.Lease == 0 {
			continue
		}
		if err := w.kv.Revoke(ctx, s.live.Lease); err != nil {
			w.log.Debug("the lease of a removed endpoint could not be ended: it runs out", "endpoint", s.name(), "error", err)
		}
	}
}

// succeed lets an endpoint take the address of one whose agent is not heard, such as the one before it on the same host.
func (w *writer) succeed(ctx context.Context, p *plan, s *step) error {
	for _, twin := range catalog.Together(s.oldService, p.world.Endpoints(s.key)).Twins {
		other, registered := strings.CutPrefix(twin.Other, "endpoint ")
		if !registered || twin.ID != s.id && other != s.id {
			continue
		}
		if other == s.id {
			other = twin.ID
		}
		key := world.EndpointKey{Service: s.key, ID: other}
		if e, ok := p.world.Endpoint(key); !ok || e.Lease == 0 {
			continue
		}
		if err := w.replace(ctx, p, key); err != nil {
			return err
		}
	}
	return nil
}

// replace removes a leased endpoint in the same transaction, unless its agent is heard.
func (w *writer) replace(ctx context.Context, p *plan, key world.EndpointKey) error {
	live, err := w.kv.Get(ctx, store.LiveKey(key.Service.Namespace, key.Service.Name, key.ID))
	if err != nil || live.Lease != 0 {
		return err
	}
	old, err := w.kv.Get(ctx, store.EndpointKey(key.Service.Namespace, key.Service.Name, key.ID))
	if err != nil {
		return err
	}
	for _, e := range []store.Entry{live, old} {
		p.cond(e)
		p.txn.Ops = append(p.txn.Ops, store.Op{Key: e.Key, Delete: true})
	}
	p.world = p.world.With(p.world.Rev, world.Changes{Endpoints: map[world.EndpointKey]*catalog.Endpoint{key: nil}})
	return nil
}
