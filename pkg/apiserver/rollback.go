package apiserver

import (
	"context"
	"fmt"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// RollbackInput asks that an object be again what it was at a generation.
type RollbackInput struct {
	Named
	Preconditions
	Author
	Wideness
	Generation int64 `query:"generation" required:"true" minimum:"1" doc:"The generation whose labels, annotations and spec are written anew."`
	Strict     bool  `query:"strict" doc:"Refuse what lint finds errors in."`
	DryRun     bool  `query:"dryRun" doc:"Write nothing, and say what it would do to the connected proxies."`
}

type rollbackPolicyInput struct {
	RollbackInput
	Exactness
}

func (s *server) rollbackPolicy(ctx context.Context, in *rollbackPolicyInput) (*answer[api.ApplyResult], error) {
	return s.rollBack(ctx, policy.Kind, &in.RollbackInput, in.RequireExact)
}

// rollback is that of a kind that nothing is asked of beyond RollbackInput.
func (s *server) rollback(kind string) func(context.Context, *RollbackInput) (*answer[api.ApplyResult], error) {
	return func(ctx context.Context, in *RollbackInput) (*answer[api.ApplyResult], error) {
		return s.rollBack(ctx, kind, in, false)
	}
}

func (s *server) rollBack(ctx context.Context, kind string, in *RollbackInput, exact bool) (*answer[api.ApplyResult], error) {
	o := in.options()
	o.exact, o.strict, o.wide, o.dryRun, o.tell = exact, in.Strict, in.Wide, in.DryRun, in.DryRun
	if err := in.Preconditions.apply(ctx, &o); err != nil {
		return nil, err
	}
	if err := in.check(); err != nil {
		return nil, err
	}
	if n, _ := exchangeOf(ctx).request.Body.Read(make([]byte, 1)); n > 0 {
		return nil, invalidField("body", "must be empty: what is written comes from the history; say ?generation=N")
	}
	c, err := s.asItWas(ctx, kind, in)
	if err != nil {
		return nil, err
	}
	if o.why == "" {
		o.why = fmt.Sprintf("rollback to generation %d", in.Generation)
	}
	done, err := s.writer.write(ctx, []*change{c}, o)
	if err != nil {
		return nil, err
	}
	if st := done.steps[0]; st.over != "" && st.removes() {
		return nil, invalidField("spec.expiresAt", st.over)
	}
	return &answer[api.ApplyResult]{Body: done.applied()}, nil
}

// asItWas is the change that makes an object what it was at a generation.
func (s *server) asItWas(ctx context.Context, kind string, in *RollbackInput) (*change, error) {
	list, i, err := s.generation(ctx, kind, in.key(), in.Generation)
	if err != nil {
		return nil, err
	}
	if list[i].Deleted {
		return nil, invalidField("query.generation", fmt.Sprintf("%s %s was deleted at generation %d: name one before it, or delete it", kind, in.key(), in.Generation))
	}
	c, err := restored(kind, in.key(), list[i].Object)
	if err != nil {
		return nil, fmt.Errorf("read generation %d of %s %s: %w", in.Generation, kind, in.key(), err)
	}
	if found := c.invalid(); len(found) > 0 {
		return nil, faulty(found.Sorted())
	}
	return c, nil
}

// restored is the change that writes an object as it was stored.
func restored(kind string, key manifest.Key, image []byte) (c *change, err error) {
	c = &change{kind: kind, key: key, image: image}
	switch kind {
	case policy.Kind:
		c.policy, err = manifest.DecodeStored[policy.Spec](image)
	case policy.GuardrailKind:
		c.guardrail, err = manifest.DecodeStored[policy.GuardrailSpec](image)
	default:
		c.service, err = manifest.DecodeStored[catalog.ServiceSpec](image)
	}
	return c, err
}

// invalid is what is wrong with the object by itself: an earlier version may have taken it.
func (c *change) invalid() manifest.FieldErrors {
	switch {
	case c.policy != nil:
		return policy.Validate(c.policy)
	case c.guardrail != nil:
		return policy.ValidateGuardrail(c.guardrail)
	}
	return catalog.Validate(c.service)
}
