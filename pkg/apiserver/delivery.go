package apiserver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/api"
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
	d := s.awaitDelivery(ctx, in, wait)
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

// awaitDelivery looks again whenever something has come of it. Where a look takes long, as it does in a large fleet, there are few.
func (s *server) awaitDelivery(ctx context.Context, in *deliveryInput, wait time.Duration) api.Delivery {
	ctx, cancel := context.WithTimeout(ctx, wait)
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
		d := s.Book.Look().Revision(in.Revision, in.All)
		s.quarantinedIn(&d)
		if ctx.Err() != nil || d.Done(in.MinAcked) {
			return d
		}
		pause := time.NewTimer(5*time.Millisecond + 4*time.Since(begun))
		select {
		case <-ctx.Done():
			continue // a last look
		case <-pause.C:
		}
		select {
		case <-ctx.Done():
		case <-changed:
		}
	}
}

// quarantinedIn says what the revision wrote that this replica can't build: proxies will never be sent it.
func (s *server) quarantinedIn(d *api.Delivery) {
	for _, q := range s.Quarantined() {
		if q.Revision == d.Revision {
			d.Quarantined = append(d.Quarantined, fmt.Sprintf("%s %s: %s", q.Kind, q.Key, q))
		}
	}
	d.Sum()
}

// programmed is how far a policy or a guardrail has come with the proxies of fleet.
func programmed(fleet Fleet, kind string, key manifest.Key) api.Condition {
	d, err := fleet.Object(context.Background(), kind, key, false)
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
		c.Status, c.Reason = api.False, "Pending"
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
func (s *server) objectDelivery(ctx context.Context, w *world.World, kind string, m manifest.Meta) (api.Delivery, error) {
	d, err := s.Book.Look().Object(ctx, kind, m.Key(), kind == policy.Kind)
	if err != nil {
		return d, err
	}
	d.Revision = m.Revision
	if p, ok := w.Policy(m.Key()); ok && kind == policy.Kind {
		markUnsupported(&d, w, p)
	}
	return d, nil
}

// markUnsupported finds the proxies whose dialect enforces no field of p.
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
		if f.Level != api.Unsupported {
			return false
		}
		written++
	}
	return written > 0
}

func (s *server) proxyConfig(ctx context.Context, in *proxyInput) (*answer[api.ProxyConfig], error) {
	return s.held(ctx, in.ID, false)
}

func (s *server) proxyDiff(ctx context.Context, in *proxyInput) (*answer[api.ProxyConfig], error) {
	return s.held(ctx, in.ID, true)
}

func (s *server) held(ctx context.Context, id string, diff bool) (*answer[api.ProxyConfig], error) {
	var c *api.ProxyConfig
	if s.Held != nil {
		var err error
		if c, err = s.Held(ctx, id, diff); err != nil {
			return nil, err
		}
	}
	if c == nil {
		return nil, notConnected(id)
	}
	return &answer[api.ProxyConfig]{Body: *c}, nil
}
