package apiserver

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// Author is who writes, and why: both are kept in the history. Until the API knows identities it believes what it is told.
type Author struct {
	Actor  string `header:"X-Breakwater-Actor" maxLength:"128" doc:"Who writes, for the history."`
	Reason string `header:"X-Breakwater-Reason" maxLength:"512" doc:"Why, for the history."`
}

func (a Author) options() options { return options{who: or(a.Actor, "anonymous"), why: a.Reason} }

// Preconditions are those of a write to one object.
type Preconditions struct {
	IfMatch     string `header:"If-Match" doc:"Write only if the object's ETag is one of these."`
	IfNoneMatch string `header:"If-None-Match" doc:"\"*\": write only if the object does not exist."`
}

// apply reads the headers themselves: the framework knows neither an empty one from none nor a second one.
func (Preconditions) apply(ctx context.Context, o *options) error {
	match, none := preconditions(ctx)
	var faults []manifest.FieldError
	if none != nil && strings.TrimSpace(*none) != "*" {
		faults = append(faults, manifest.FieldError{Field: "header.If-None-Match", Message: `must be "*"`})
	}
	if match != nil && !wellFormed(*match) {
		faults = append(faults, manifest.FieldError{Field: "header.If-Match", Message: `must be "*" or quoted ETags, such as "4f1c-12"`})
	}
	if match != nil && none != nil {
		faults = append(faults, manifest.FieldError{Field: "header.If-Match", Message: "can't be sent together with If-None-Match"})
	}
	if len(faults) > 0 {
		return invalid(faults...)
	}
	if match != nil {
		o.ifMatch = *match
	}
	o.createOnly = none != nil
	return nil
}

// preconditions are the headers If-Match and If-None-Match, nil where there is none.
func preconditions(ctx context.Context) (match, none *string) {
	read := func(name string) *string {
		values := exchangeOf(ctx).request.Header.Values(name)
		if len(values) == 0 {
			return nil
		}
		joined := strings.Join(values, ", ")
		return &joined
	}
	return read("If-Match"), read("If-None-Match")
}

// unconditional refuses preconditions where they can't be kept.
func unconditional(ctx context.Context, why string) error {
	match, none := preconditions(ctx)
	var faults []manifest.FieldError
	if match != nil {
		faults = append(faults, manifest.FieldError{Field: "header.If-Match", Message: why})
	}
	if none != nil {
		faults = append(faults, manifest.FieldError{Field: "header.If-None-Match", Message: why})
	}
	if len(faults) > 0 {
		return invalid(faults...)
	}
	return nil
}

// entityTag is one entity tag of RFC 9110. A weak one is well-formed, and never matches.
const entityTag = `(W/)?"[\x21\x23-\x7e]*"`

func wellFormed(header string) bool {
	ok, _ := regexp.MatchString(`^\s*(\*|`+entityTag+`(\s*,\s*`+entityTag+`)*)\s*$`, header)
	return ok
}

// PutInput asks for a write of one object.
type PutInput struct {
	Named
	Preconditions
	Author
	Wideness
}

// Exactness is asked for by writes of policies.
type Exactness struct {
	RequireExact bool `query:"requireExact" doc:"Refuse policies of which a connected proxy that they concern, or a sidecar where there is none, does not enforce every field exactly, unless nothing that could be written gets nearer: of that, warn."`
}

type putPolicyInput struct {
	PutInput
	Exactness
}

// written is the answer to a write of one object: 201 if it was created.
type written[T any] struct {
	Status int
	ETag   string `header:"ETag" doc:"The object's uid and revision."`
	// Warnings of RFC 9110 are gone; these are ours, one each.
	Warnings []string `header:"X-Breakwater-Warning" doc:"What was let pass but should be known."`
	Body     T
}

func (s *server) putPolicy(ctx context.Context, in *putPolicyInput) (*written[api.PolicyResponse], error) {
	o := in.options()
	o.exact = in.RequireExact
	done, err := s.put(ctx, &in.PutInput, policy.Kind, o)
	if err != nil {
		return nil, err
	}
	c, ok := done.world.Policy(in.key())
	if !ok {
		return nil, invalidField("spec.expiresAt", done.steps[0].over)
	}
	return &written[api.PolicyResponse]{
		Status: done.status(), ETag: api.ETag(c.Policy.Metadata), Warnings: done.warningTexts(),
		Body: s.policyResponse(done.world, c, nil, s.programmedSoFar(ctx, done.world, policy.Kind, c.Policy.Metadata)),
	}, nil
}

func (s *server) putGuardrail(ctx context.Context, in *PutInput) (*written[api.GuardrailResponse], error) {
	done, err := s.put(ctx, in, policy.GuardrailKind, in.options())
	if err != nil {
		return nil, err
	}
	g, _ := done.world.Guardrail(in.key())
	return &written[api.GuardrailResponse]{
		Status: done.status(), ETag: api.ETag(g.Guardrail.Metadata), Warnings: done.warningTexts(),
		Body: s.guardrailResponse(done.world, g, nil, s.programmedSoFar(ctx, done.world, policy.GuardrailKind, g.Guardrail.Metadata)),
	}, nil
}

// programmedSoFar is how far what was just written has come.
func (s *server) programmedSoFar(ctx context.Context, w *world.World, kind string, m manifest.Meta) api.Condition {
	return s.tally(ctx, w, api.DeliveriesQuery{Kind: kind, Namespace: m.Namespace, Name: m.Name}, false).programmed(ctx, kind, m)
}

type putServiceInput struct {
	PutInput
	Shrinking
}

func (s *server) putService(ctx context.Context, in *putServiceInput) (*written[api.ServiceResponse], error) {
	o := in.options()
	o.allowShrink = in.AllowShrink
	done, err := s.put(ctx, &in.PutInput, catalog.Kind, o)
	if err != nil {
		return nil, err
	}
	svc, _ := done.world.Service(in.key())
	return &written[api.ServiceResponse]{
		Status: done.status(), ETag: api.ETag(svc.Metadata), Warnings: done.warningTexts(),
		Body: serviceResponse(done.world, svc),
	}, nil
}

func (s *server) put(ctx context.Context, in *PutInput, kind string, o options) (*outcome, error) {
	o.wide = in.Wide
	if err := in.Preconditions.apply(ctx, &o); err != nil {
		return nil, err
	}
	if err := in.check(); err != nil {
		return nil, err
	}
	body, format, err := readBody(ctx, api.MaxObjectBytes)
	if err != nil {
		return nil, err
	}
	c, err := decodeOne(body, format, kind, in.key())
	if err != nil {
		return nil, err
	}
	return s.writer.write(ctx, []*change{c}, o)
}

func (o *outcome) status() int {
	if o.steps[0].action == api.Created {
		return http.StatusCreated
	}
	return http.StatusOK
}

func (o *outcome) warningTexts() []string {
	texts := make([]string, len(o.warnings))
	for i, w := range o.warnings {
		texts[i] = w.String()
	}
	for _, f := range o.findings {
		if f.Severity != api.SeverityInfo {
			texts = append(texts, f.String())
		}
	}
	return texts
}

func (o *outcome) applied() api.ApplyResult {
	return api.ApplyResult{
		Revision: o.revision, Results: o.results(),
		Warnings: append([]api.Warning{}, o.warnings...), Findings: append([]api.Finding{}, o.findings...), Impact: o.impact,
	}
}

// DeleteInput asks for the end of one object.
type DeleteInput struct {
	Named
	Preconditions
	Author
	Wideness
}

func (s *server) deleteGuardrail(ctx context.Context, in *DeleteInput) (*answer[api.ApplyResult], error) {
	return s.remove(ctx, in, &change{kind: policy.GuardrailKind, key: in.key()}, in.options())
}

type deleteServiceInput struct {
	DeleteInput
	Force bool `query:"force" doc:"Delete it though policies or other services name it."`
	Shrinking
}

func (s *server) deletePolicy(ctx context.Context, in *DeleteInput) (*answer[api.ApplyResult], error) {
	return s.remove(ctx, in, &change{kind: policy.Kind, key: in.key()}, in.options())
}

func (s *server) deleteService(ctx context.Context, in *deleteServiceInput) (*answer[api.ApplyResult], error) {
	o := in.options()
	o.force, o.allowShrink = in.Force, in.AllowShrink
	return s.remove(ctx, &in.DeleteInput, &change{kind: catalog.Kind, key: in.key()}, o)
}

func (s *server) remove(ctx context.Context, in *DeleteInput, c *change, o options) (*answer[api.ApplyResult], error) {
	o.wide = in.Wide
	if err := in.Preconditions.apply(ctx, &o); err != nil {
		return nil, err
	}
	if err := in.check(); err != nil {
		return nil, err
	}
	done, err := s.writer.write(ctx, []*change{c}, o)
	if err != nil {
		return nil, err
	}
	if done.steps[0].action == api.Unchanged {
		return nil, noSuch(c.kind, c.key)
	}
	return &answer[api.ApplyResult]{Body: done.applied()}, nil
}

// EndpointInput asks for a write of one endpoint.
type EndpointInput struct {
	EndpointName
	Author
}

func (in *EndpointInput) prepare(ctx context.Context) (options, error) {
	if err := unconditional(ctx, "endpoints have no ETag: send neither If-Match nor If-None-Match"); err != nil {
		return options{}, err
	}
	return in.options(), in.check()
}

type putEndpointInput struct {
	EndpointInput
	Lease string `query:"lease" doc:"Register it by lease, such as 60s: it is stale unless the same request comes again within that time."`
}

func (s *server) putEndpoint(ctx context.Context, in *putEndpointInput) (*written[api.Endpoint], error) {
	o, err := in.prepare(ctx)
	if err != nil {
		return nil, err
	}
	lease, err := parseLease(in.Lease)
	if err != nil {
		return nil, err
	}
	body, _, err := readBody(ctx, api.MaxObjectBytes)
	if err != nil {
		return nil, err
	}
	var svc *catalog.Service
	if w := s.Worlds.World(); w != nil {
		svc, _ = w.Service(in.key())
	}
	spec, err := decodeEndpoint(body, in.EndpointName, svc, lease)
	if err != nil {
		return nil, err
	}
	e := catalog.Endpoint{Service: in.key(), ID: in.ID, Spec: *spec, Lease: lease}
	if renewed, err := s.writer.renew(ctx, e); err != nil {
		return nil, err
	} else if renewed {
		return &written[api.Endpoint]{Status: http.StatusOK, Body: endpointAt(e, world.Live, time.Time{})}, nil
	}
	c := &change{kind: endpointKind, key: in.key(), id: in.ID, endpoint: spec, lease: lease}
	done, err := s.writer.write(ctx, []*change{c}, o)
	if err != nil {
		return nil, err
	}
	return &written[api.Endpoint]{Status: done.status(), Body: endpointAt(e, world.Live, time.Time{})}, nil
}

func (s *server) deleteEndpoint(ctx context.Context, in *EndpointInput) (*answer[api.ApplyResult], error) {
	o, err := in.prepare(ctx)
	if err != nil {
		return nil, err
	}
	c := &change{kind: endpointKind, key: in.key(), id: in.ID}
	done, err := s.writer.write(ctx, []*change{c}, o)
	if err != nil {
		return nil, err
	}
	if done.steps[0].action == api.Unchanged {
		return nil, notFound(fmt.Sprintf("there is no endpoint %s of Service %s", in.ID, in.key()))
	}
	return &answer[api.ApplyResult]{Body: done.applied()}, nil
}

type applyInput struct {
	Author
	Exactness
	Delete []string `query:"delete,explode" doc:"An object to delete in the same transaction, as Kind/namespace/name. May be repeated."`
	Force  bool     `query:"force" doc:"Delete services though others name them."`
	Strict bool     `query:"strict" doc:"Refuse what lint finds errors in."`
	DryRun bool     `query:"dryRun" doc:"Write nothing, and say what an apply would do to the connected proxies."`
	Wideness
	Shrinking
}

func (s *server) apply(ctx context.Context, in *applyInput) (*answer[api.ApplyResult], error) {
	done, err := s.applyOrTry(ctx, in, in.DryRun)
	if err != nil {
		return nil, err
	}
	return &answer[api.ApplyResult]{Body: done.applied()}, nil
}

func (s *server) validate(ctx context.Context, in *applyInput) (*answer[api.ValidateResult], error) {
	done, err := s.applyOrTry(ctx, in, true)
	if err != nil {
		return nil, err
	}
	r := done.applied()
	return &answer[api.ValidateResult]{Body: api.ValidateResult{Valid: true, Results: r.Results, Warnings: r.Warnings, Findings: r.Findings}}, nil
}

func (s *server) applyOrTry(ctx context.Context, in *applyInput, dryRun bool) (*outcome, error) {
	o := in.options()
	o.force, o.strict, o.exact, o.dryRun = in.Force, in.Strict, in.RequireExact, dryRun
	o.wide, o.allowShrink, o.tell = in.Wide, in.AllowShrink, in.DryRun
	if err := unconditional(ctx, "is for one object: write it by PUT"); err != nil {
		return nil, err
	}
	changes, err := deletions(in.Delete)
	if err != nil {
		return nil, err
	}
	body, format, err := readBody(ctx, api.MaxApplyBytes)
	if err != nil {
		return nil, err
	}
	if len(changes) == 0 || len(bytes.TrimSpace(body)) > 0 { // an apply of deletions alone needs no body
		documents, err := decodeMany(body, format)
		if err != nil {
			return nil, err
		}
		changes = append(documents, changes...)
	}
	return s.writer.write(ctx, changes, o)
}

// deletions reads the delete parameters of an apply.
func deletions(refs []string) ([]*change, error) {
	var list []*change
	var faults []manifest.FieldError
	for _, text := range refs {
		kind, rest, _ := strings.Cut(text, "/")
		namespace, name, ok := strings.Cut(rest, "/")
		if !ok || !slices.Contains(kinds, kind) || manifest.CheckName(namespace) != "" || manifest.CheckName(name) != "" {
			faults = append(faults, manifest.FieldError{
				Field: "query.delete", Message: fmt.Sprintf("%q must be Policy/namespace/name, Guardrail/namespace/name or Service/namespace/name", text),
			})
			continue
		}
		list = append(list, &change{kind: kind, key: manifest.Key{Namespace: namespace, Name: name}})
	}
	if len(faults) > 0 {
		return nil, invalid(faults...)
	}
	return list, nil
}
