package apiserver

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

const (
	inNS       = api.Base + "/namespaces/{namespace}"
	onePolicy  = inNS + "/policies/{name}"
	oneGuard   = inNS + "/guardrails/{name}"
	oneService = inNS + "/services/{name}"
	endpoints  = oneService + "/endpoints"
)

// routes is everything the API can do, in the order of its documentation.
func (s *server) routes(h huma.API) {
	get(h, "listAllPolicies", api.Base+"/policies", "List the policies of all namespaces", everywhere(s.listPolicies))
	get(h, "listPolicies", inNS+"/policies", "List the policies of a namespace", s.listPolicies)
	get(h, "getPolicy", onePolicy, "Read a policy", s.getPolicy)
	put(h, "putPolicy", onePolicy, "Create or replace a policy", s.putPolicy, typeOf[policy.Policy]())
	del(h, "deletePolicy", onePolicy, "Delete a policy", s.deletePolicy)
	get(h, "policyStatus", onePolicy+"/status", "How a policy stands", s.policyStatus)
	get(h, "policyHistory", onePolicy+"/history", "The edits of a policy, the newest first", s.history(policy.Kind))
	get(h, "pastPolicy", onePolicy+"/history/{generation}", "A policy as it was", pastObject[policy.Spec](s, policy.Kind))
	act(h, "rollbackPolicy", onePolicy+"/rollback", "Write a policy anew as it was", s.rollbackPolicy)
	get(h, "fidelity", onePolicy+"/fidelity", "How exactly the proxies enforce a policy, field by field", s.fidelity)

	get(h, "listAllGuardrails", api.Base+"/guardrails", "List the guardrails of all namespaces", everywhere(s.listGuardrails))
	get(h, "listGuardrails", inNS+"/guardrails", "List the guardrails of a namespace", s.listGuardrails)
	get(h, "getGuardrail", oneGuard, "Read a guardrail", s.getGuardrail)
	put(h, "putGuardrail", oneGuard, "Create or replace a guardrail", s.putGuardrail, typeOf[policy.Guardrail]())
	del(h, "deleteGuardrail", oneGuard, "Delete a guardrail", s.deleteGuardrail)
	get(h, "guardrailStatus", oneGuard+"/status", "How a guardrail stands", s.guardrailStatus)
	get(h, "guardrailHistory", oneGuard+"/history", "The edits of a guardrail, the newest first", s.history(policy.GuardrailKind))
	get(h, "pastGuardrail", oneGuard+"/history/{generation}", "A guardrail as it was", pastObject[policy.GuardrailSpec](s, policy.GuardrailKind))
	act(h, "rollbackGuardrail", oneGuard+"/rollback", "Write a guardrail anew as it was", s.rollback(policy.GuardrailKind))

	get(h, "listAllServices", api.Base+"/services", "List the services of all namespaces", everywhere(s.listServices))
	get(h, "listServices", inNS+"/services", "List the services of a namespace", s.listServices)
	get(h, "getService", oneService, "Read a service", s.getService)
	put(h, "putService", oneService, "Create or replace a service", s.putService, typeOf[catalog.Service]())
	del(h, "deleteService", oneService, "Delete a service and its registered endpoints", s.deleteService)
	get(h, "serviceHistory", oneService+"/history", "The edits of a service, the newest first", s.history(catalog.Kind))
	get(h, "pastService", oneService+"/history/{generation}", "A service as it was", pastObject[catalog.ServiceSpec](s, catalog.Kind))
	act(h, "rollbackService", oneService+"/rollback", "Write a service anew as it was", s.rollback(catalog.Kind))
	get(h, "serviceStatus", oneService+"/status", "How a service stands, and who has what it is made of", s.serviceStatus)
	get(h, "effective", oneService+"/effective", "What holds for calls to a service, each field with its origin", s.effective)

	get(h, "listEndpoints", endpoints, "List the endpoints of a service", s.listEndpoints)
	get(h, "getEndpoint", endpoints+"/{id}", "Read a registered endpoint", s.getEndpoint)
	put(h, "putEndpoint", endpoints+"/{id}", "Register or replace an endpoint", s.putEndpoint, typeOf[catalog.EndpointSpec]())
	del(h, "deleteEndpoint", endpoints+"/{id}", "Remove a registered endpoint", s.deleteEndpoint)

	post(h, "apply", api.ApplyPath, "Write many documents, and delete others, in one transaction", s.apply)
	post(h, "validate", api.ValidatePath, "Check what an apply would do, and write nothing", s.validate)

	get(h, "lint", api.LintPath, "What will hurt of the policies that are stored", s.lint)

	get(h, "delivery", api.DeliveryPath, "Which proxies hold a revision; waits for them if so asked", s.delivery)
	get(h, "listDeliveries", api.DeliveriesPath, "How far every policy and guardrail has come", s.deliveries)
	get(h, "listProxies", api.ProxiesPath, "List the connected proxies", s.listProxies)
	get(h, "getProxy", api.ProxiesPath+"/{id}", "What one proxy holds, and what it rejected", s.getProxy)
	get(h, "proxyConfig", api.ProxiesPath+"/{id}/config", "Every resource of one proxy: its version, the one that was accepted, the policies that shaped it", s.proxyConfig)
	get(h, "proxyDiff", api.ProxiesPath+"/{id}/diff", "Where what one proxy has accepted differs from what it should hold", s.proxyDiff)
	get(h, "listClasses", api.ClassesPath, "Count the connected proxies that get the same resources", s.listClasses)
	get(h, "listReplicas", api.ReplicasPath, "List the control planes over this one's store", s.listReplicas)
	get(h, "watch", api.WatchPath, "Changes as they come, as server-sent events", s.watch)
	documentEvents(h.OpenAPI().Paths[api.WatchPath].Get, schemaOf(h, typeOf[api.Watched]()))
	get(h, "version", api.VersionPath, "The build that answers", s.version)
}

func get[I, O any](h huma.API, id, path, summary string, handler func(context.Context, *I) (*O, error)) {
	huma.Register(h, huma.Operation{OperationID: id, Method: http.MethodGet, Path: path, Summary: summary}, handler)
}

func put[I, O any](h huma.API, id, path, summary string, handler func(context.Context, *I) (*O, error), body schemaType) {
	op := huma.Operation{OperationID: id, Method: http.MethodPut, Path: path, Summary: summary}
	huma.Register(h, op, handler)
	doc := h.OpenAPI().Paths[path].Put
	documentBody(doc, schemaOf(h, body), true)
	created := *doc.Responses["200"]
	created.Description = "Created"
	doc.Responses["201"] = &created
}

func del[I, O any](h huma.API, id, path, summary string, handler func(context.Context, *I) (*O, error)) {
	huma.Register(h, huma.Operation{OperationID: id, Method: http.MethodDelete, Path: path, Summary: summary}, handler)
}

// act is a POST without a body.
func act[I, O any](h huma.API, id, path, summary string, handler func(context.Context, *I) (*O, error)) {
	huma.Register(h, huma.Operation{OperationID: id, Method: http.MethodPost, Path: path, Summary: summary}, handler)
}

func post[I, O any](h huma.API, id, path, summary string, handler func(context.Context, *I) (*O, error)) {
	op := huma.Operation{OperationID: id, Method: http.MethodPost, Path: path, Summary: summary}
	huma.Register(h, op, handler)
	either := &huma.Schema{OneOf: []*huma.Schema{schemaOf(h, typeOf[policy.Policy]()), schemaOf(h, typeOf[policy.Guardrail]()), schemaOf(h, typeOf[catalog.Service]())}}
	documentBody(h.OpenAPI().Paths[path].Post, either, false) // deletions alone need none
}
