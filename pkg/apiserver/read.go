package apiserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// At is the query of every read. The framework finds parameters in exported types only.
type At struct {
	Revision int64 `query:"revision" minimum:"0" doc:"Wait until this replica has seen that revision of the store, for at most 10 s."`
}

// InNamespace is the path of a namespace.
type InNamespace struct {
	Namespace string `path:"namespace" doc:"The object's namespace."`
}

// Named is the path of an object.
type Named struct {
	InNamespace
	Name string `path:"name" doc:"The object's name."`
}

func (n Named) key() manifest.Key { return manifest.Key{Namespace: n.Namespace, Name: n.Name} }

// answer is a body without an entity tag.
type answer[T any] struct {
	Body T
}

// tagged is a body with its entity tag.
type tagged[T any] struct {
	ETag string `header:"ETag" doc:"The object's uid and revision, for If-Match."`
	Body T
}

// worldAt is the world once it has reached a revision.
func (s *server) worldAt(ctx context.Context, revision int64) (*world.World, error) {
	if revision > 0 {
		wait, cancel := context.WithTimeout(ctx, s.ReadWait)
		defer cancel()
		if err := s.Worlds.Wait(wait, revision); err != nil {
			return nil, late(err, s.Worlds.World(), revision)
		}
	}
	w := s.Worlds.World()
	if w == nil {
		p := &api.Problem{
			Type: api.Unavailable, Title: "Not ready", Status: http.StatusServiceUnavailable,
			Detail: "this replica has not read the store yet",
		}
		return nil, huma.ErrorWithHeaders(p, http.Header{"Retry-After": {"1"}})
	}
	return w, nil
}

func late(err error, w *world.World, revision int64) error {
	if !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	var seen int64
	if w != nil {
		seen = w.Rev
	}
	return &api.Problem{
		Type: api.Late, Title: "Revision not seen", Status: http.StatusGatewayTimeout, Revision: seen,
		Detail: fmt.Sprintf("this replica is at revision %d and has not seen revision %d in time", seen, revision),
	}
}

// checkNames refuses a path whose names no object can have.
func checkNames(labelled ...string) error {
	var faults []manifest.FieldError
	for i := 0; i < len(labelled); i += 2 {
		if msg := manifest.CheckName(labelled[i+1]); msg != "" {
			faults = append(faults, manifest.FieldError{Field: labelled[i], Message: msg})
		}
	}
	if len(faults) > 0 {
		return invalid(faults...)
	}
	return nil
}

func (n Named) check() error { return checkNames("path.namespace", n.Namespace, "path.name", n.Name) }

func noSuch(kind string, key manifest.Key) error {
	return notFound(fmt.Sprintf("there is no %s %s", kind, key))
}

// GetInput asks for one object.
type GetInput struct {
	Named
	At
}

// objectAt is the object of a kind that is asked for, in its world, where find looks for it.
func objectAt[T any](ctx context.Context, s *server, in GetInput, kind string, find func(*world.World, manifest.Key) (T, bool)) (w *world.World, found T, err error) {
	if w, err = s.worldAt(ctx, in.Revision); err != nil {
		return nil, found, err
	}
	found, ok := find(w, in.key())
	if !ok {
		return nil, found, noSuch(kind, in.key())
	}
	return w, found, nil
}

// policyAt is the policy that is asked for, in its world.
func (s *server) policyAt(ctx context.Context, in GetInput) (*world.World, *policy.Compiled, error) {
	return objectAt(ctx, s, in, policy.Kind, (*world.World).Policy)
}

func (s *server) getPolicy(ctx context.Context, in *GetInput) (*tagged[api.PolicyResponse], error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	w, p, err := s.policyAt(ctx, *in)
	if err != nil {
		return nil, err
	}
	return &tagged[api.PolicyResponse]{ETag: api.ETag(p.Policy.Metadata), Body: s.policyResponse(w, p, nil, s.programmed(ctx, w, policy.Kind, p.Policy.Metadata))}, nil
}

func (s *server) getGuardrail(ctx context.Context, in *GetInput) (*tagged[api.GuardrailResponse], error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	w, g, err := objectAt(ctx, s, *in, policy.GuardrailKind, (*world.World).Guardrail)
	if err != nil {
		return nil, err
	}
	return &tagged[api.GuardrailResponse]{ETag: api.ETag(g.Guardrail.Metadata), Body: s.guardrailResponse(w, g, nil, s.programmed(ctx, w, policy.GuardrailKind, g.Guardrail.Metadata))}, nil
}

func (s *server) getService(ctx context.Context, in *GetInput) (*tagged[api.ServiceResponse], error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	w, svc, err := objectAt(ctx, s, *in, catalog.Kind, (*world.World).Service)
	if err != nil {
		return nil, err
	}
	return &tagged[api.ServiceResponse]{ETag: api.ETag(svc.Metadata), Body: serviceResponse(w, svc)}, nil
}

func (s *server) policyStatus(ctx context.Context, in *statusInput) (*answer[api.StatusResponse], error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	w, p, err := s.policyAt(ctx, in.GetInput)
	if err != nil {
		return nil, err
	}
	body, err := s.status(ctx, in, w, policy.Kind, p.Policy.Metadata, func(delivered api.Condition) api.Status {
		return s.policyResponse(w, p, nil, delivered).Status
	})
	if err != nil {
		return nil, err
	}
	body.Body.ExpiresAt = p.Policy.Spec.ExpiresAt
	return body, nil
}

func (s *server) guardrailStatus(ctx context.Context, in *statusInput) (*answer[api.StatusResponse], error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	w, g, err := objectAt(ctx, s, in.GetInput, policy.GuardrailKind, (*world.World).Guardrail)
	if err != nil {
		return nil, err
	}
	return s.status(ctx, in, w, policy.GuardrailKind, g.Guardrail.Metadata, func(delivered api.Condition) api.Status {
		return s.guardrailResponse(w, g, nil, delivered).Status
	})
}

func (s *server) serviceStatus(ctx context.Context, in *statusInput) (*answer[api.StatusResponse], error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	w, svc, err := objectAt(ctx, s, in.GetInput, catalog.Kind, (*world.World).Service)
	if err != nil {
		return nil, err
	}
	return s.status(ctx, in, w, catalog.Kind, svc.Metadata, func(delivered api.Condition) api.Status {
		status := serviceResponse(w, svc).Status
		return observed(append(status.Conditions, delivered), svc.Metadata.Generation)
	})
}

// statusInput asks for the status of one object.
type statusInput struct {
	GetInput
	OfReplica
}

// status is how an object stands; the condition of its delivery and the delivery itself are of one moment. To another replica all proxies
// are named: it sums up.
func (s *server) status(ctx context.Context, in *statusInput, w *world.World, kind string, m manifest.Meta, stand func(delivered api.Condition) api.Status) (*answer[api.StatusResponse], error) {
	here, err := s.here(in.OfReplica)
	if err != nil {
		return nil, err
	}
	d, err := s.objectDelivery(ctx, w, kind, m, here)
	body := api.StatusResponse{
		Namespace: m.Namespace, Name: m.Name, Revision: m.Revision, Generation: m.Generation, Conditions: stand(programmedOf(d, err)).Conditions,
	}
	if err == nil {
		d.Tell(mostNamed, here)
		body.Delivery = &d
	}
	return &answer[api.StatusResponse]{Body: body}, nil
}

type listInput struct {
	InNamespace
	At
}

func (s *server) listPolicies(ctx context.Context, in *listInput) (*answer[api.PolicyList], error) {
	w, err := s.listWorld(ctx, in)
	if err != nil {
		return nil, err
	}
	list := api.PolicyList{Items: []api.PolicyResponse{}, Revision: w.Rev}
	fares, tally := s.surveys.get(w), s.tally(ctx, w, api.DeliveriesQuery{Kind: policy.Kind, Namespace: in.Namespace}, false)
	for _, p := range w.Policies() {
		if in.Namespace == "" || p.Policy.Metadata.Namespace == in.Namespace {
			list.Items = append(list.Items, s.policyResponse(w, p, fares, tally.programmed(ctx, policy.Kind, p.Policy.Metadata)))
		}
	}
	return &answer[api.PolicyList]{Body: list}, nil
}

func (s *server) listGuardrails(ctx context.Context, in *listInput) (*answer[api.GuardrailList], error) {
	w, err := s.listWorld(ctx, in)
	if err != nil {
		return nil, err
	}
	list := api.GuardrailList{Items: []api.GuardrailResponse{}, Revision: w.Rev}
	fares, tally := s.surveys.get(w), s.tally(ctx, w, api.DeliveriesQuery{Kind: policy.GuardrailKind, Namespace: in.Namespace}, false)
	for _, g := range w.Guardrails() {
		if in.Namespace == "" || g.Policy.Metadata.Namespace == in.Namespace {
			list.Items = append(list.Items, s.guardrailResponse(w, g, fares, tally.programmed(ctx, policy.GuardrailKind, g.Guardrail.Metadata)))
		}
	}
	return &answer[api.GuardrailList]{Body: list}, nil
}

func (s *server) listServices(ctx context.Context, in *listInput) (*answer[api.ServiceList], error) {
	w, err := s.listWorld(ctx, in)
	if err != nil {
		return nil, err
	}
	list := api.ServiceList{Items: []api.ServiceResponse{}, Revision: w.Rev}
	for _, svc := range w.Services() {
		if in.Namespace == "" || svc.Metadata.Namespace == in.Namespace {
			list.Items = append(list.Items, serviceResponse(w, svc))
		}
	}
	return &answer[api.ServiceList]{Body: list}, nil
}

// listWorld serves both lists: an empty namespace means all of them.
func (s *server) listWorld(ctx context.Context, in *listInput) (*world.World, error) {
	if in.Namespace != "" {
		if err := checkNames("path.namespace", in.Namespace); err != nil {
			return nil, err
		}
	}
	return s.worldAt(ctx, in.Revision)
}

// everywhere turns a list of one namespace into a list of all.
func everywhere[O any](list func(context.Context, *listInput) (*O, error)) func(context.Context, *At) (*O, error) {
	return func(ctx context.Context, in *At) (*O, error) { return list(ctx, &listInput{At: *in}) }
}

func (s *server) listEndpoints(ctx context.Context, in *GetInput) (*answer[api.EndpointList], error) {
	got, err := s.getService(ctx, in)
	if err != nil {
		return nil, err
	}
	w, err := s.worldAt(ctx, in.Revision)
	if err != nil {
		return nil, err
	}
	list := api.EndpointList{Items: []api.Endpoint{}, Revision: w.Rev}
	for _, spec := range got.Body.Spec.Endpoints {
		list.Items = append(list.Items, api.Endpoint{Namespace: in.Namespace, Service: in.Name, Source: api.SourceStatic, Spec: spec})
	}
	for _, e := range w.Endpoints(in.key()) {
		list.Items = append(list.Items, endpointResponse(w, e))
	}
	return &answer[api.EndpointList]{Body: list}, nil
}

// EndpointName is the path of an endpoint.
type EndpointName struct {
	Named
	ID string `path:"id" doc:"The endpoint's id: a DNS label."`
}

func (n EndpointName) check() error {
	return checkNames("path.namespace", n.Namespace, "path.name", n.Name, "path.id", n.ID)
}

type getEndpointInput struct {
	EndpointName
	At
}

func (s *server) getEndpoint(ctx context.Context, in *getEndpointInput) (*answer[api.Endpoint], error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	w, err := s.worldAt(ctx, in.Revision)
	if err != nil {
		return nil, err
	}
	e, ok := w.Endpoint(world.EndpointKey{Service: in.key(), ID: in.ID})
	if !ok {
		return nil, notFound(fmt.Sprintf("there is no endpoint %s of Service %s", in.ID, in.key()))
	}
	return &answer[api.Endpoint]{Body: endpointResponse(w, e)}, nil
}

type effectiveInput struct {
	GetInput
	From   string `query:"from" doc:"The calling service: a name in the called service's namespace, or namespace/name. Absent: any other caller."`
	Proxy  string `query:"proxy" doc:"The node id of a connected proxy, in place of from: what holds for its caller."`
	Subset string `query:"subset" doc:"A subset of the service: only the fields of scope cluster are answered then, those of scope route too if a route is asked for."`
	Route  string `query:"route" doc:"A route of the service, or default: only the fields of scope route are answered then, those of scope cluster too if a subset is asked for."`
}

// callerOf puts the caller in the place of the proxy that is asked for.
func (s *server) callerOf(ctx context.Context, in *effectiveInput) error {
	if in.Proxy == "" {
		return nil
	}
	if in.From != "" {
		return invalidField("query.proxy", "can't stand beside from: a proxy has a caller")
	}
	p, err := s.proxy(ctx, in.Proxy, false)
	if err != nil {
		return err
	}
	in.From = p.Namespace + "/" + p.Service
	return nil
}

func (s *server) effective(ctx context.Context, in *effectiveInput) (*answer[api.EffectiveResponse], error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	if err := s.callerOf(ctx, in); err != nil {
		return nil, err
	}
	from, err := parseFrom(in.From, in.Namespace)
	if err != nil {
		return nil, err
	}
	w, err := s.worldAt(ctx, in.Revision)
	if err != nil {
		return nil, err
	}
	svc, ok := w.Service(in.key())
	if !ok {
		return nil, noSuch(catalog.Kind, in.key())
	}
	for _, missing := range partNames("query", in.key(), in.Subset, in.Route) {
		if text := missing.lacking(svc); text != "" {
			return nil, notFound(text)
		}
	}
	eff, problems := w.Effective(w.Caller(from), in.key())
	eff = eff.Of(in.Subset, in.Route)
	body := api.EffectiveResponse{
		Service: in.key().String(), Subset: in.Subset, Route: in.Route, Revision: w.Rev, Policies: []string{}, Fields: []api.EffectiveField{},
	}
	if in.From != "" {
		body.From = from.String()
		if _, ok := w.Service(from); !ok {
			body.Problems = append(body.Problems, fmt.Sprintf("the caller %s is not in the catalogue: this would hold for a Service of that name without labels", from))
		}
	}
	for _, key := range eff.Policies {
		body.Policies = append(body.Policies, key.String())
		if c, ok := w.Policy(key); ok && c.Policy.Spec.ExpiresAt != nil {
			body.Expiring = append(body.Expiring, api.Expiring{Policy: key.String(), ExpiresAt: *c.Policy.Spec.ExpiresAt})
		}
	}
	for _, key := range eff.Guardrails {
		body.Guardrails = append(body.Guardrails, key.String())
	}
	for _, f := range eff.Fields {
		body.Fields = append(body.Fields, effectiveField(f))
	}
	if eff.Observed != nil {
		for _, f := range eff.Observed.Fields {
			body.Observed = append(body.Observed, effectiveField(f))
		}
	}
	for _, p := range problems {
		body.Problems = append(body.Problems, p.Message)
	}
	return &answer[api.EffectiveResponse]{Body: body}, nil
}

// parseFrom reads "name" or "namespace/name".
func parseFrom(text, namespace string) (manifest.Key, error) {
	if text == "" {
		return manifest.Key{}, nil
	}
	key := manifest.Key{Namespace: namespace, Name: text}
	if ns, name, ok := strings.Cut(text, "/"); ok {
		key = manifest.Key{Namespace: ns, Name: name}
	}
	for _, name := range []string{key.Namespace, key.Name} {
		if msg := manifest.CheckName(name); msg != "" {
			return key, invalidField("query.from", msg)
		}
	}
	return key, nil
}

func effectiveField(f policy.Field) api.EffectiveField {
	field := api.EffectiveField{Path: f.Path, Value: rawJSON(f.Value), Origin: origin(f.Origin)}
	if f.Clamp != nil {
		field.Origin.ClampedFrom, field.Origin.ClampedTo, field.Origin.ClampedBy = rawJSON(f.Clamp.From), rawJSON(f.Clamp.To), f.Clamp.By.String()
	}
	for _, l := range f.Losers {
		field.Losers = append(field.Losers, api.EffectiveLoser{Value: rawJSON(l.Value), Origin: origin(l.Origin)})
	}
	return field
}

func origin(o policy.Origin) api.Origin {
	if o.Default {
		return api.Origin{Default: true}
	}
	return api.Origin{Policy: o.Policy.String(), Revision: o.Revision, Path: o.Path}
}

func rawJSON(v any) json.RawMessage {
	text, err := json.Marshal(v)
	if err != nil {
		text, _ = json.Marshal(fmt.Sprint(v))
	}
	return text
}

type proxiesInput struct {
	At
	OfReplica
}

func (s *server) listProxies(ctx context.Context, in *proxiesInput) (*answer[api.ProxyList], error) {
	here, err := s.here(in.OfReplica)
	if err != nil {
		return nil, err
	}
	w, err := s.worldAt(ctx, in.Revision)
	if err != nil {
		return nil, err
	}
	list, silent := s.proxies(ctx, here)
	list = append([]api.Proxy{}, list...)
	slices.SortFunc(list, func(a, b api.Proxy) int { return strings.Compare(a.ID, b.ID) })
	return &answer[api.ProxyList]{Body: api.ProxyList{Items: list, Revision: w.Rev, Unreachable: silent}}, nil
}

type proxyInput struct {
	ID string `path:"id" doc:"The proxy's node id."`
	OfReplica
}

func (s *server) getProxy(ctx context.Context, in *proxyInput) (*answer[api.Proxy], error) {
	here, err := s.here(in.OfReplica)
	if err != nil {
		return nil, err
	}
	p, err := s.proxy(ctx, in.ID, here)
	if err != nil {
		return nil, err
	}
	return &answer[api.Proxy]{Body: *p}, nil
}

func notConnected(id string) error {
	return notFound(fmt.Sprintf("no proxy %q is connected", id))
}

func (s *server) version(context.Context, *struct{}) (*answer[api.Version], error) {
	return &answer[api.Version]{Body: api.Version{Version: s.Version, APIVersion: manifest.APIVersion}}, nil
}
