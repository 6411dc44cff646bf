package apiserver_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/api"
)

const guardrails = "/api/v1/namespaces/shop/guardrails"

func guardrail(namespace, name, spec string) string {
	return "---\napiVersion: breakwater/v1alpha1\nkind: Guardrail\nmetadata: {namespace: " + namespace + ", name: " + name + "}\nspec: {" + spec + "}\n"
}

// TestGuardrailClampsWhatIsEffective writes a guardrail, reads it back, sees what it moves and by whose word, and takes it away again.
func TestGuardrailClampsWhatIsEffective(t *testing.T) {
	f := newFixture(t)
	f.apply(service("payments", "") + doc("shop", "p", "to: {service: payments}, bulkhead: {maxConcurrent: 200}") +
		guardrail("shop", "guard", `to: {service: "*"}, bounds: [{field: limits.maxRequests, max: 50}, {field: timeout.request, max: 10s}]`))
	e := parse[api.EffectiveResponse](t, f.want(http.StatusOK, "GET", services+"/payments/effective", ""))
	clamped := map[string]string{}
	for _, field := range e.Fields {
		clamped[field.Path] = string(field.Value) + ": " + field.Origin.String() + " " + field.Origin.Clamped()
	}
	for path, want := range map[string]string{
		"limits.maxRequests":        "50: shop/p (bulkhead.maxConcurrent) 200, clamped to 50 by shop/guard",
		"limits.maxPendingRequests": "50: shop/p (bulkhead.maxConcurrent) 200, clamped to 50 by shop/guard",
		"timeout.request":           `"10s": default none, clamped to 10s by shop/guard`,
	} {
		if clamped[path] != want {
			t.Errorf("%s is %q, want %q", path, clamped[path], want)
		}
	}
	if len(e.Guardrails) != 1 || e.Guardrails[0] != "shop/guard" || len(e.Policies) != 1 {
		t.Errorf("guardrails %v and policies %v, want one of each", e.Guardrails, e.Policies)
	}
	list := parse[api.GuardrailList](t, f.want(http.StatusOK, "GET", "/api/v1/guardrails", ""))
	if len(list.Items) != 1 || list.Items[0].Metadata.Generation != 1 || string(*list.Items[0].Spec.Bounds[0].Max) != "50" {
		t.Errorf("guardrails %+v, want the one of generation 1 with max 50", list.Items)
	}
	back := f.want(http.StatusOK, "GET", guardrails+"/guard", "", "Accept: application/yaml").body
	if again := f.want(http.StatusOK, "PUT", guardrails+"/guard", back); !strings.Contains(again.body, `"generation":1`) && !strings.Contains(again.body, `"generation": 1`) {
		t.Errorf("what a GET answers is another guardrail to a PUT: %s", again.body)
	}
	f.want(http.StatusOK, "DELETE", guardrails+"/guard", "")
	f.wantFields("shop/payments", "", map[string]string{"limits.maxRequests": "200 < shop/p (bulkhead.maxConcurrent)"})
}

func TestGuardrailsThatAreRefused(t *testing.T) {
	f := newFixture(t)
	for spec, want := range map[string]string{
		`to: {namespace: bank, service: "*"}, bounds: [{field: limits.maxRequests, max: 5}]`: "spec.to.namespace",
		`to: {service: "*"}`: "spec.bounds",
		`to: {service: "*"}, bounds: [{field: bulkhead.maxConcurrent, max: 5}]`:                      "limits.maxRequests",
		`to: {service: "*"}, bounds: [{field: limits.maxRequest, max: 5}]`:                           "did you mean limits.maxRequests",
		`to: {service: "*"}, bounds: [{field: limits.maxRequests}]`:                                  "needs max or min",
		`to: {service: "*"}, bounds: [{field: limits.maxRequests, max: 5s}]`:                         "must be a number",
		`to: {service: "*"}, bounds: [{field: timeout.request, max: 5}]`:                             "unit",
		`to: {service: "*"}, bounds: [{field: timeout.request, max: 1s, min: 2s}]`:                   "at most max",
		`to: {service: "*"}, bounds: [{field: limits.maxRequests, max: unlimited}]`:                  "must be a number",
		`to: {service: "*"}, bounds: [{field: loadBalancing.panicThreshold, max: 101}]`:              "at most 100",
		`to: {service: "*"}, bounds: [{field: retry.numRetries, max: 1}, {field: retry.numRetries}]`: "twice",
	} {
		p := f.refused(http.StatusUnprocessableEntity, guardrail("shop", "g", spec))
		if text := p.Error(); !strings.Contains(text, want) {
			t.Errorf("%s: %s, want something of %q", spec, text, want)
		}
	}
	f.apply(guardrail("breakwater-system", "root", `to: {namespace: "*", service: "*"}, bounds: [{field: limits.maxRequests, max: 5}]`))
}

// TestGuardrailSaysWhatItMoves goes through what a guardrail's condition Effective may say.
func TestGuardrailSaysWhatItMoves(t *testing.T) {
	f := newFixture(t)
	f.apply(service("payments", "") + doc("shop", "p", "to: {service: payments}, bulkhead: {maxConcurrent: 200}") +
		guardrail("shop", "moves", `to: {service: payments}, bounds: [{field: limits.maxRequests, max: 50}, {field: retry.numRetries, max: 2}]`) +
		guardrail("shop", "wide", `to: {service: payments}, bounds: [{field: limits.maxRequests, max: 500}]`) +
		guardrail("shop", "idle", `to: {service: payments}, bounds: [{field: outlierDetection.maxEjectionPercent, max: 50}]`) +
		guardrail("shop", "nobody", `to: {service: billing}, bounds: [{field: limits.maxRequests, max: 5}]`))
	f.apply(doc("shop", "moves", "to: {service: billing}, timeout: {request: 1s}")) // of the same name, and another matter
	for name, want := range map[string]string{
		"moves":  "True Effective moves limits.maxPendingRequests, limits.maxRequests",
		"wide":   "False Overridden tighter bounds hold wherever it applies, among them those of guardrail shop/moves",
		"idle":   "True Effective nothing that holds is beyond its bounds",
		"nobody": "Unknown NoService it covers no service that exists",
	} {
		got := map[string]string{}
		for _, c := range parse[api.GuardrailResponse](t, f.want(http.StatusOK, "GET", guardrails+"/"+name, "")).Status.Conditions {
			got[c.Type] = string(c.Status) + " " + c.Reason + " " + c.Message
		}
		if got[api.Effective] != want {
			t.Errorf("%s: Effective is %q, want %q", name, got[api.Effective], want)
		}
		if !strings.HasPrefix(got[api.Accepted], "True") || got[api.Programmed] != "Unknown NotTracked this server does not track proxies" {
			t.Errorf("%s: Accepted is %q, Programmed %q; want it accepted, and what the book says", name, got[api.Accepted], got[api.Programmed])
		}
	}
	list := parse[api.GuardrailList](t, f.want(http.StatusOK, "GET", guardrails, ""))
	for _, g := range list.Items {
		one := parse[api.GuardrailResponse](t, f.want(http.StatusOK, "GET", guardrails+"/"+g.Metadata.Name, ""))
		if len(g.Status.Conditions) != 4 || g.Status.Conditions[2] != one.Status.Conditions[2] {
			t.Errorf("%s is listed with %+v, alone it has %+v", g.Metadata.Name, g.Status.Conditions, one.Status.Conditions)
		}
	}
}
