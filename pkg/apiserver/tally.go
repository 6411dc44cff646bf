package apiserver

import (
	"context"
	"slices"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/envoy"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// tally says of many objects how far each has come, with the proxies of all replicas that answered, of whom each names only some.
type tally struct {
	world *world.World
	kinds []envoy.Target // that proxies of this replica are
	own   Fleet

	powerless *powerless
	others    []said
	silent    []api.Unreachable
}

// said is what another replica says of its proxies.
type said struct {
	revision int64 // that it has seen
	of       map[object]api.Delivery
}

// tally asks the other replicas for the deliveries of some objects, unless this one is to speak for itself alone.
func (s *server) tally(ctx context.Context, w *world.World, q api.DeliveriesQuery, here bool) *tally {
	t := &tally{world: w, own: s.Book.Look(), powerless: &s.powerless}
	for key := range s.Classes() {
		if kind := (envoy.Target{Profile: key.Profile, Version: key.Tier}); !slices.Contains(t.kinds, kind) {
			t.kinds = append(t.kinds, kind)
		}
	}
	if here {
		return t
	}
	replies := askOthers[api.DeliveryList](ctx, s.Peers, s.askWait(), api.DeliveriesFor(q))
	t.silent = unreachable(replies)
	for _, r := range replies {
		if r.err != nil {
			continue
		}
		one := said{r.body.Revision, make(map[object]api.Delivery, len(r.body.Items))}
		for _, item := range r.body.Items {
			one.of[object{item.Kind, manifest.Key{Namespace: item.Namespace, Name: item.Name}}] = item.Delivery
		}
		t.others = append(t.others, one)
	}
	return t
}

// of is how far an object has come. While some replica has not seen its last edit, that is not all there is to come.
func (t *tally) of(ctx context.Context, kind string, m manifest.Meta) (api.Delivery, error) {
	p := t.unsupported(kind, m)
	d, err := t.own.Object(ctx, kind, m.Key(), p != nil)
	if err != nil {
		return d, err
	}
	if p != nil {
		markUnsupported(&d, t.world, p)
	}
	d.Revision = m.Revision
	if len(t.others)+len(t.silent) > 0 {
		d.Unreachable = t.silent
		list := []api.Delivery{d}
		for _, other := range t.others {
			theirs, there := other.of[object{kind, m.Key()}]
			if !there {
				theirs = api.Delivery{World: min(other.revision, m.Revision-1), State: api.DeliveryUnconcerned}
			}
			list = append(list, theirs)
		}
		d = api.AddDeliveries(list...)
	}
	d.World = min(d.World, d.Revision) // or it would be another one at each revision of anything
	return d, nil
}

// unsupported is the policy, where some proxies here enforce nothing of it; else nil.
func (t *tally) unsupported(kind string, m manifest.Meta) *policy.Compiled {
	if kind != policy.Kind {
		return nil
	}
	p, ok := t.world.Policy(m.Key())
	if !ok || !t.powerless.any(t.world, p, t.kinds) {
		return nil
	}
	return p
}

// programmed is the condition of that.
func (t *tally) programmed(ctx context.Context, kind string, m manifest.Meta) api.Condition {
	return programmedOf(t.of(ctx, kind, m))
}

// mostWatched is how many proxies a delivery names where there are many deliveries.
const mostWatched = 10

// all are the deliveries of some policies and guardrails.
func (t *tally) all(ctx context.Context, w *world.World, q api.DeliveriesQuery) ([]api.ObjectDelivery, error) {
	list := []api.ObjectDelivery{}
	add := func(kind string, m manifest.Meta) error {
		if q.Kind != "" && q.Kind != kind || q.Namespace != "" && q.Namespace != m.Namespace || q.Name != "" && q.Name != m.Name {
			return nil
		}
		d, err := t.of(ctx, kind, m)
		if err != nil {
			return err
		}
		d.Tell(mostWatched, false)
		list = append(list, api.ObjectDelivery{Kind: kind, Namespace: m.Namespace, Name: m.Name, Delivery: d})
		return nil
	}
	for _, p := range w.Policies() {
		if err := add(policy.Kind, p.Policy.Metadata); err != nil {
			return nil, err
		}
	}
	for _, g := range w.Guardrails() {
		if err := add(policy.GuardrailKind, g.Guardrail.Metadata); err != nil {
			return nil, err
		}
	}
	return list, nil
}

type deliveriesInput struct {
	OfReplica
	Kind      string `query:"kind" enum:"Policy,Guardrail" doc:"Only of this kind."`
	Namespace string `query:"namespace" doc:"Only of this namespace."`
	Name      string `query:"name" doc:"Only of this name."`
}

func (s *server) deliveries(ctx context.Context, in *deliveriesInput) (*answer[api.DeliveryList], error) {
	here, err := s.here(in.OfReplica)
	if err != nil {
		return nil, err
	}
	w, err := s.worldAt(ctx, 0)
	if err != nil {
		return nil, err
	}
	q := api.DeliveriesQuery{Kind: in.Kind, Namespace: in.Namespace, Name: in.Name}
	items, err := s.tally(ctx, w, q, here).all(ctx, w, q)
	if err != nil {
		return nil, &api.Problem{Type: api.Unavailable, Title: "Not known", Status: 503, Detail: err.Error()}
	}
	return &answer[api.DeliveryList]{Body: api.DeliveryList{Items: items, Revision: w.Rev}}, nil
}
