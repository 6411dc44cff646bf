package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/catalog"
)

// Policy reads a policy.
func (c *Client) Policy(ctx context.Context, namespace, name string) (*api.PolicyResponse, error) {
	return read[api.PolicyResponse](ctx, c, http.MethodGet, api.ObjectPath(api.Policies, namespace, name), nil)
}

// Policies lists the policies of a namespace, or of all if it is "".
func (c *Client) Policies(ctx context.Context, namespace string) (*api.PolicyList, error) {
	return read[api.PolicyList](ctx, c, http.MethodGet, api.ListPath(api.Policies, namespace), nil)
}

// Guardrail reads a guardrail.
func (c *Client) Guardrail(ctx context.Context, namespace, name string) (*api.GuardrailResponse, error) {
	return read[api.GuardrailResponse](ctx, c, http.MethodGet, api.ObjectPath(api.Guardrails, namespace, name), nil)
}

// Guardrails lists the guardrails of a namespace, or of all if it is "".
func (c *Client) Guardrails(ctx context.Context, namespace string) (*api.GuardrailList, error) {
	return read[api.GuardrailList](ctx, c, http.MethodGet, api.ListPath(api.Guardrails, namespace), nil)
}

// Status reads how an object of a plural (api.Policies, api.Guardrails, api.Services) stands.
func (c *Client) Status(ctx context.Context, plural, namespace, name string) (*api.StatusResponse, error) {
	return read[api.StatusResponse](ctx, c, http.MethodGet, api.StatusPath(plural, namespace, name), nil)
}

// Delivery reads how far a revision has come, and waits for it if so asked.
func (c *Client) Delivery(ctx context.Context, q api.DeliveryQuery) (*api.Delivery, error) {
	return read[api.Delivery](ctx, c, http.MethodGet, api.DeliveryFor(q), nil)
}

// Service reads a service.
func (c *Client) Service(ctx context.Context, namespace, name string) (*api.ServiceResponse, error) {
	return read[api.ServiceResponse](ctx, c, http.MethodGet, api.ObjectPath(api.Services, namespace, name), nil)
}

// Services lists the services of a namespace, or of all if it is "".
func (c *Client) Services(ctx context.Context, namespace string) (*api.ServiceList, error) {
	return read[api.ServiceList](ctx, c, http.MethodGet, api.ListPath(api.Services, namespace), nil)
}

// DeleteOptions go beyond the name of what is deleted.
type DeleteOptions struct {
	IfMatch     string // only this version is deleted; "": whichever there is
	Force       bool   // delete a service though others name it
	Wide        bool   // rebuild clusters of many services on many proxies
	AllowShrink bool   // delete a service with more than a few endpoints
}

// Delete deletes an object of a plural (api.Policies, api.Guardrails, api.Services).
func (c *Client) Delete(ctx context.Context, plural, namespace, name string, o DeleteOptions) (*api.ApplyResult, error) {
	q := url.Values{}
	for name, set := range map[string]bool{"force": o.Force, "wide": o.Wide, "allowShrink": o.AllowShrink} {
		if set {
			q.Set(name, "true")
		}
	}
	return read[api.ApplyResult](ctx, c, http.MethodDelete, api.ObjectPath(plural, namespace, name)+"?"+q.Encode(), nil, "If-Match", o.IfMatch)
}

// History reads the edits of an object of a plural (api.Policies, api.Guardrails, api.Services), also of one that was deleted.
func (c *Client) History(ctx context.Context, plural, namespace, name string) (*api.History, error) {
	return read[api.History](ctx, c, http.MethodGet, api.HistoryPath(plural, namespace, name), nil)
}

// Generation reads an object of a plural as it was; its spec is left as JSON.
func (c *Client) Generation(ctx context.Context, plural, namespace, name string, generation int64) (*api.Past[json.RawMessage], error) {
	return read[api.Past[json.RawMessage]](ctx, c, http.MethodGet, api.GenerationPath(plural, namespace, name, generation), nil)
}

// RollbackOptions go beyond the object and its generation.
type RollbackOptions struct {
	IfMatch     string // only this version is replaced; "": whichever there is
	IfNoneMatch string // "*": only if there is none
	Strict      bool   // refuse what lint finds errors in
	Wide        bool   // rebuild clusters of many services on many proxies
	DryRun      bool   // write nothing, and work out the impact
	Exact       bool   // refuse a policy of which a proxy does not enforce every field exactly; of policies alone
}

// Rollback writes an object of a plural anew as it was at a generation.
func (c *Client) Rollback(ctx context.Context, plural, namespace, name string, generation int64, o RollbackOptions) (*api.ApplyResult, error) {
	path := api.RollbackPath(plural, namespace, name, generation)
	for _, option := range []struct {
		name string
		set  bool
	}{{"strict", o.Strict}, {"wide", o.Wide}, {"dryRun", o.DryRun}, {"requireExact", o.Exact}} {
		if option.set {
			path += "&" + option.name + "=true"
		}
	}
	return read[api.ApplyResult](ctx, c, http.MethodPost, path, nil, "If-Match", o.IfMatch, "If-None-Match", o.IfNoneMatch)
}

// Endpoints lists the endpoints of a service.
func (c *Client) Endpoints(ctx context.Context, namespace, service string) (*api.EndpointList, error) {
	return read[api.EndpointList](ctx, c, http.MethodGet, api.EndpointsPath(namespace, service), nil)
}

// Endpoint reads a registered endpoint.
func (c *Client) Endpoint(ctx context.Context, namespace, service, id string) (*api.Endpoint, error) {
	return read[api.Endpoint](ctx, c, http.MethodGet, api.EndpointPath(namespace, service, id), nil)
}

// PutEndpoint registers or replaces an endpoint.
func (c *Client) PutEndpoint(ctx context.Context, namespace, service, id string, spec catalog.EndpointSpec) (*api.Endpoint, error) {
	return c.putEndpoint(ctx, api.EndpointPath(namespace, service, id), id, spec)
}

// LeaseEndpoint registers or replaces an endpoint, or renews it where it is registered so already: it becomes stale when this is not
// called again within lease, which must lie between api.MinLease and api.MaxLease.
func (c *Client) LeaseEndpoint(ctx context.Context, namespace, service, id string, spec catalog.EndpointSpec, lease time.Duration) (*api.Endpoint, error) {
	return c.putEndpoint(ctx, api.LeasedPath(namespace, service, id, lease), id, spec)
}

func (c *Client) putEndpoint(ctx context.Context, path, id string, spec catalog.EndpointSpec) (*api.Endpoint, error) {
	body, err := json.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("encode endpoint %s: %w", id, err)
	}
	return read[api.Endpoint](ctx, c, http.MethodPut, path, body)
}

// DeleteEndpoint removes a registered endpoint.
func (c *Client) DeleteEndpoint(ctx context.Context, namespace, service, id string) (*api.ApplyResult, error) {
	return read[api.ApplyResult](ctx, c, http.MethodDelete, api.EndpointPath(namespace, service, id), nil)
}

// ApplyOptions go beyond the documents of an apply.
type ApplyOptions struct {
	Delete      []string // what to delete in the same transaction: see api.DeleteRef
	Force       bool     // delete services though others name them
	Strict      bool     // refuse what lint finds errors in
	Wide        bool     // rebuild clusters of many services on many proxies
	AllowShrink bool     // take away much of a namespace's services or of a service's endpoints
	DryRun      bool     // write nothing, and work out the impact
	Exact       bool     // refuse policies of which a proxy does not enforce every field exactly
}

func (o ApplyOptions) query() string {
	q := url.Values{}
	for _, ref := range o.Delete {
		q.Add("delete", ref)
	}
	if o.Force {
		q.Set("force", "true")
	}
	for name, set := range map[string]bool{"strict": o.Strict, "wide": o.Wide, "allowShrink": o.AllowShrink, "dryRun": o.DryRun} {
		if set {
			q.Set(name, "true")
		}
	}
	if o.Exact {
		q.Set("requireExact", "true")
	}
	if len(q) == 0 {
		return ""
	}
	return "?" + q.Encode()
}

// Apply writes all documents, YAML or JSON, in one transaction.
func (c *Client) Apply(ctx context.Context, documents []byte, o ApplyOptions) (*api.ApplyResult, error) {
	return read[api.ApplyResult](ctx, c, http.MethodPost, api.ApplyPath+o.query(), documents)
}

// Validate checks what Apply would do, and writes nothing.
func (c *Client) Validate(ctx context.Context, documents []byte, o ApplyOptions) (*api.ValidateResult, error) {
	return read[api.ValidateResult](ctx, c, http.MethodPost, api.ValidatePath+o.query(), documents)
}

// Lint reads what will hurt, of that severity and worse, in one namespace, or in all if it is "".
func (c *Client) Lint(ctx context.Context, namespace string, severity api.Severity) (*api.LintResponse, error) {
	return read[api.LintResponse](ctx, c, http.MethodGet, api.LintFor(namespace, severity), nil)
}

// Effective reads what holds for calls to a service.
func (c *Client) Effective(ctx context.Context, namespace, service string, q api.EffectiveQuery) (*api.EffectiveResponse, error) {
	return read[api.EffectiveResponse](ctx, c, http.MethodGet, api.EffectivePath(namespace, service, q), nil)
}

// Fidelity reads how well a policy is enforced by some dialects, or by those in use if none is named; version is that of their Envoys, ""
// for the newest.
func (c *Client) Fidelity(ctx context.Context, namespace, name, version string, dialects ...string) (*api.FidelityResponse, error) {
	return read[api.FidelityResponse](ctx, c, http.MethodGet, api.FidelityPath(namespace, name, version, dialects...), nil)
}

// Proxies lists the connected proxies.
func (c *Client) Proxies(ctx context.Context) (*api.ProxyList, error) {
	return read[api.ProxyList](ctx, c, http.MethodGet, api.ProxiesPath, nil)
}

// Proxy reads what one proxy holds.
func (c *Client) Proxy(ctx context.Context, id string) (*api.Proxy, error) {
	return read[api.Proxy](ctx, c, http.MethodGet, api.ProxyPath(id), nil)
}

// ProxyConfig reads what one proxy should hold and holds; with diff, only where that differs, line by line.
func (c *Client) ProxyConfig(ctx context.Context, id string, diff bool) (*api.ProxyConfig, error) {
	path := api.ProxyConfigPath(id)
	if diff {
		path = api.ProxyDiffPath(id)
	}
	return read[api.ProxyConfig](ctx, c, http.MethodGet, path, nil)
}

// Replicas lists the control planes over the server's store.
func (c *Client) Replicas(ctx context.Context) (*api.ReplicaList, error) {
	return read[api.ReplicaList](ctx, c, http.MethodGet, api.ReplicasPath, nil)
}

// Version reads which build answers.
func (c *Client) Version(ctx context.Context) (*api.Version, error) {
	return read[api.Version](ctx, c, http.MethodGet, api.VersionPath, nil)
}
