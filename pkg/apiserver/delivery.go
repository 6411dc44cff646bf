package apiserver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/envoy"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// Fleet is the proxies at one moment, of which many questions can be asked. With all, the proxies that have accepted something are named
// too; answers are summed up, but not told.
type Fleet interface {
	// Revision is how far a revision has come.
	Revision(rev int64, all bool) api.Delivery
	// Object is how far an object of that kind has come as it is now. An error: the store was not read yet, or ctx is over.
	Object(ctx context.Context, kind string, key manifest.Key, all bool) (api.Delivery, error)
}

type deliveryInput struct {
	OfReplica
	Revision int64  `query:"revision" required:"true" minimum:"1" doc:"The revision of the store, such as a write answers it."`
	Wait     string `query:"wait" doc:"Answer when every connected proxy that it concerns has accepted it, or one has rejected it, or this time is over, such as 30s: at most 60s. Absent: answer at once."`
	MinAcked int    `query:"minAcked" minimum:"0" doc:"Wait also until so many proxies have accepted it."`
	All      bool   `query:"all" doc:"Name all proxies, also those that have accepted it."`
}

// mostNamed is how many proxies an answer names unless all are asked for.
const mostNamed = 100

func (s *server) delivery(ctx context.Context, in *deliveryInput) (*answer[api.Delivery], error) {
	wait, err := parseWait(in.Wait)
	if err != nil {
		return nil, err
	}
	here, err := s.here(in.OfReplica)
	if err != nil {
		return nil, err
	}
	d := s.awaitDelivery(ctx, in, wait, here)
	d.Tell(mostNamed, in.All)
	return &answer[api.Delivery]{Body: d}, nil
}

// parseWait reads how long an answer may be waited for; "" is not at all.
func parseWait(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	d := manifest.Duration(text)
	if fault := d.Check(false); fault != "" {
		return 0, invalidField("query.wait", fault)
	}
	if d.D() > api.MaxWait {
		return 0, invalidField("query.wait", fmt.Sprintf("must be at most %s", manifest.DurationOf(api.MaxWait)))
	}
	return d.D(), nil
}

// pollOthers is how soon the other replicas are asked again.
const pollOthers = 100 * time.Millisecond

// awaitDelivery looks again whenever something has come of it here, and now and then whether it has elsewhere. Where a look takes long, as it
// does in a large fleet, there are few.
func (s *server) awaitDelivery(asker context.Context, in *deliveryInput, wait time.Duration, here bool) api.Delivery {
	ctx, cancel := context.WithTimeout(asker, wait)
	defer cancel()
	go func() { // ends with this call
		select {
		case <-s.Stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	_ = s.Worlds.Wait(ctx, in.Revision) // where it has not come in time, the answer says so
	for {
		changed := s.Book.Changed()
		begun := time.Now()
		d, others := s.lookAt(asker, in, here)
		if ctx.Err() != nil || d.Done(in.MinAcked) {
			return d
		}
		pause := time.NewTimer(5*time.Millisecond + 4*time.Since(begun))
		select {
		case <-ctx.Done():
			continue // a last look
		case <-pause.C:
		}
		var poll <-chan time.Time
		if others {
			poll = time.After(pollOthers)
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-poll:
		}
	}
}

// lookAt is how far a revision has come now, and whether others were asked.
func (s *server) lookAt(ctx context.Context, in *deliveryInput, here bool) (d api.Delivery, others bool) {
	others = !here && len(s.Peers.Others()) > 0
	d = s.Book.Look().Revision(in.Revision, in.All || others)
	s.quarantinedIn(&d)
	if !others {
		return d, false
	}
	return s.withOthers(d, askOthers[api.Delivery](ctx, s.Peers, s.PeerWait, api.DeliveryFor(api.DeliveryQuery{Revision: in.Revision, All: true}))), true
}

// withOthers is what all replicas say, of whom this one says own.
func (s *server) withOthers(own api.Delivery, replies []reply[api.Delivery]) api.Delivery {
	list := []api.Delivery{from(s.Peers.Self(), own)}
	for _, r := range replies {
		if r.err == nil {
			list = append(list, from(r.from, r.body))
		}
	}
	list[0].Unreachable = unreachable(replies)
	return api.MergeDeliveries(list...)
}

// from says of every proxy to which replica it is connected.
func from(r api.Replica, d api.Delivery) api.Delivery {
	d.Proxies = slices.Clone(d.Proxies)
	for i := range d.Proxies {
		d.Proxies[i].Replica = r.ID
	}
	return d
}

// quarantinedIn says what the revision wrote that this replica can't build: proxies will never be sent it.
func (s *server) quarantinedIn(d *api.Delivery) {
	for _, q := range s.Quarantined() {
		if q.Revision == d.Revision {
			d.Quarantined = append(d.Quarantined, fmt.Sprintf("%s %s: %s", q.Kind, q.Key, q))
		}
	}
	if len(d.Quarantined) > 0 {
		d.Sum()
	}
}

// programmed is how far an object has come with the proxies of all replicas.
func (s *server) programmed(ctx context.Context, w *world.World, kind string, m manifest.Meta) api.Condition {
	d, err := s.objectDelivery(ctx, w, kind, m, false)
	return programmedOf(d, err)
}

func programmedOf(d api.Delivery, err error) api.Condition {
	c := api.Condition{Type: api.Programmed, Status: api.Unknown}
	if err != nil {
		c.Reason, c.Message = "NotRead", "the store was not read yet"
		if errors.Is(err, errNotTracked) {
			c.Reason, c.Message = "NotTracked", err.Error()
		}
		return c
	}
	d.Proxies = slices.Clone(d.Proxies)
	d.Tell(mostNamed, false)
	c.Message = d.Message
	switch d.State {
	case api.DeliveryRejected, api.DeliverySuperseded:
		c.Status, c.Reason = api.False, "Rejected"
	case api.DeliveryPending:
		if c.Status, c.Reason = api.False, "Pending"; d.Pending+d.Joining == 0 && len(d.Unreachable) > 0 {
			c.Status, c.Reason = api.Unknown, "Unreachable"
		}
	case api.DeliveryAcked:
		c.Status, c.Reason = api.True, "Acked"
	default:
		if c.Reason = "NoProxies"; d.Unsupported > 0 {
			c.Reason = "Unsupported"
		}
	}
	return c
}

// objectDelivery is how far an object has come; of a policy also who can enforce nothing of it.
func (s *server) objectDelivery(ctx context.Context, w *world.World, kind string, m manifest.Meta, here bool) (api.Delivery, error) {
	others := !here && len(s.Peers.Others()) > 0
	d, err := s.Book.Look().Object(ctx, kind, m.Key(), kind == policy.Kind || here || others)
	if err != nil {
		return d, err
	}
	d.Revision = m.Revision
	if p, ok := w.Policy(m.Key()); ok && kind == policy.Kind {
		markUnsupported(&d, w, p)
	}
	if !others {
		return d, nil
	}
	return s.withOthers(d, deliveriesOf(askOthers[api.StatusResponse](ctx, s.Peers, s.PeerWait, api.StatusPath(pluralOf[kind], m.Namespace, m.Name)+"?"+api.AtRevision(m.Revision).Encode()))), nil
}

// pluralOf is how paths name the kinds that have a delivery.
var pluralOf = map[string]string{policy.Kind: api.Policies, policy.GuardrailKind: api.Guardrails, catalog.Kind: api.Services}

// deliveriesOf takes the deliveries out of statuses.
func deliveriesOf(statuses []reply[api.StatusResponse]) []reply[api.Delivery] {
	list := make([]reply[api.Delivery], len(statuses))
	for i, r := range statuses {
		list[i] = reply[api.Delivery]{from: r.from, err: r.err}
		switch {
		case r.err != nil:
		case r.body.Delivery == nil:
			list[i].err = errors.New("it does not know what its proxies hold")
		default:
			list[i].body = *r.body.Delivery
		}
	}
	return list
}

// markUnsupported finds the proxies whose dialect enforces no field of p, whatever stands beside it.
func markUnsupported(d *api.Delivery, w *world.World, p *policy.Compiled) {
	known := make(map[envoy.Target]bool)
	for i := range d.Proxies {
		of := &d.Proxies[i]
		target := envoy.Target{Profile: of.Profile, Version: envoy.Tier(of.Version)}
		none, asked := known[target]
		if !asked {
			none = enforcesNothing(w, p, target)
			known[target] = none
		}
		if !none || of.State == api.DeliveryOffline {
			continue
		}
		if of.State == api.DeliveryAcked {
			d.Acked--
		}
		of.State = api.DeliveryUnsupported
	}
	d.Sum()
}

func enforcesNothing(w *world.World, p *policy.Compiled, t envoy.Target) bool {
	written := 0
	for _, f := range fidelityOf(w, p, t) {
		if f.Default {
			continue
		}
		if f.Level != api.Unsupported || f.Beside {
			return false
		}
		written++
	}
	return written > 0
}

func (s *server) proxyConfig(ctx context.Context, in *proxyInput) (*answer[api.ProxyConfig], error) {
	return s.held(ctx, in, false)
}

func (s *server) proxyDiff(ctx context.Context, in *proxyInput) (*answer[api.ProxyConfig], error) {
	return s.held(ctx, in, true)
}

// held is what the proxy should hold and holds, as the replica has it to which it is connected.
func (s *server) held(ctx context.Context, in *proxyInput, diff bool) (*answer[api.ProxyConfig], error) {
	here, err := s.here(in.OfReplica)
	if err != nil {
		return nil, err
	}
	held := make(map[string]api.ProxyConfig) // by replica: two may have the proxy, where it has just moved
	if s.Held != nil {
		own, err := s.Held(ctx, in.ID, diff)
		if err != nil {
			return nil, err
		}
		if own != nil {
			held[s.Peers.Self().ID] = *own
		}
	}
	var silent []api.Unreachable
	if !here {
		path := api.ProxyConfigPath(in.ID)
		if diff {
			path = api.ProxyDiffPath(in.ID)
		}
		replies := askHolders[api.ProxyConfig](ctx, s, path)
		silent = unreachable(replies)
		for _, r := range replies {
			if r.err == nil {
				held[r.from.ID] = r.body
			}
		}
	}
	if len(held) == 0 {
		return nil, missing(in.ID, silent)
	}
	holder := slices.Collect(maps.Keys(held))[0]
	if len(held) > 1 {
		p, err := s.proxy(ctx, in.ID, false)
		if err != nil {
			return nil, err
		}
		holder = p.Replica
	}
	c, ok := held[holder]
	if !ok {
		return nil, notConnected(in.ID) // it has just gone
	}
	return &answer[api.ProxyConfig]{Body: c}, nil
}
