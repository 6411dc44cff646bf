package apiserver_test

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/internal/testkit/race"
	"github.com/breakwater-mesh/breakwater/pkg/api"
)

// doc is a policy of any namespace.
func doc(namespace, name, spec string) string {
	return "apiVersion: breakwater/v1alpha1\nkind: Policy\nmetadata: {namespace: " + namespace + ", name: " + name + "}\nspec: {" + spec + "}\n---\n"
}

// effective asks what holds and returns the fields by path, as "value < origin".
func (f *fixture) effective(service, from string) map[string]string {
	f.t.Helper()
	namespace, name, _ := strings.Cut(service, "/")
	e := parse[api.EffectiveResponse](f.t, f.want(http.StatusOK, "GET", api.EffectivePath(namespace, name, api.EffectiveQuery{From: from}), ""))
	fields := make(map[string]string)
	for _, field := range e.Fields {
		fields[field.Path] = strings.Trim(string(field.Value), `"`) + " < " + field.Origin.String()
	}
	return fields
}

func (f *fixture) wantFields(service, from string, want map[string]string) {
	f.t.Helper()
	got := f.effective(service, from)
	for path, text := range want {
		if got[path] != text {
			f.t.Errorf("%s from %s: %s is %q, want %q", service, from, path, got[path], text)
		}
	}
}

// condition is the status and reason of one condition of a policy, such as "False ServiceNotFound".
func (f *fixture) condition(policy, name string) (string, string) {
	f.t.Helper()
	s := parse[api.StatusResponse](f.t, f.want(http.StatusOK, "GET", policies+"/"+policy+"/status", ""))
	for _, c := range s.Conditions {
		if c.Type == name {
			return string(c.Status) + " " + c.Reason, c.Message
		}
	}
	f.t.Fatalf("policy %s has no condition %s: %+v", policy, name, s.Conditions)
	return "", ""
}

func TestNamespaceDefaultOptOutAndOverride(t *testing.T) {
	f := newFixture(t)
	f.apply(service("payments", "") + service("orders", "") + service("email", "") +
		doc("shop", "all", `to: {service: "*"}, retry: {numRetries: 2}, timeout: {request: 5s}`) +
		doc("shop", "email-off", `to: {service: email}, retry: {disabled: true}`) +
		doc("shop", "orders-to-payments", `to: {service: payments}, from: {service: orders}, timeout: {request: 3s}`))
	f.wantFields("shop/payments", "web", map[string]string{"timeout.request": "5s < shop/all (timeout.request)", "retry.numRetries": "2 < shop/all (retry.numRetries)"})
	f.wantFields("shop/payments", "orders", map[string]string{"timeout.request": "3s < shop/orders-to-payments (timeout.request)"})
	f.wantFields("shop/email", "orders", map[string]string{"retry": "null < shop/email-off (retry.disabled)", "timeout.request": "5s < shop/all (timeout.request)"})
}

func TestClassicBreakerReplacesOutlierDetectionBelow(t *testing.T) {
	f := newFixture(t)
	f.apply(service("payments", "") +
		doc("shop", "all", `to: {service: "*"}, outlierDetection: {consecutiveGatewayFailure: 9, baseEjectionTime: 1m}`) +
		doc("shop", "breaker", `to: {service: payments}, circuitBreaker: {failureThreshold: 5, recoveryTimeout: 30s}`))
	f.wantFields("shop/payments", "", map[string]string{
		"outlierDetection.consecutive5xx":   "5 < shop/breaker (circuitBreaker.failureThreshold)",
		"outlierDetection.baseEjectionTime": "30s < shop/breaker (circuitBreaker.recoveryTimeout)",
	})
	if got, ok := f.effective("shop/payments", "")["outlierDetection.consecutiveGatewayFailure"]; ok && !strings.HasPrefix(got, "null") {
		t.Errorf("the breaker left consecutiveGatewayFailure at %q", got)
	}
	if status, message := f.condition("all", api.Effective); status != "False Overridden" || !strings.Contains(message, "shop/breaker") {
		t.Errorf("Effective of the overridden policy is %s (%s), want False Overridden by shop/breaker", status, message)
	}
}

func TestSameRankIs409UntilPrecedenceDecides(t *testing.T) {
	f := newFixture(t)
	f.apply(service("payments", "") + doc("shop", "a", "to: {service: payments}, timeout: {request: 3s}"))
	p := f.refused(http.StatusConflict, doc("shop", "b", "to: {service: payments}, timeout: {request: 4s}"))
	if p.Type != api.PolicyConflict || len(p.Conflicts) != 1 || p.Conflicts[0].Name != "a" || !strings.Contains(p.Conflicts[0].Message, "set precedence") {
		t.Errorf("problem %+v, want a conflict with policy a that says: set precedence", p)
	}
	f.apply(doc("shop", "b", "to: {service: payments}, precedence: 1, timeout: {request: 4s}"))
	f.wantFields("shop/payments", "", map[string]string{"timeout.request": "4s < shop/b (timeout.request)"})
	// The final state counts: the same policy without precedence is fine when the other one goes.
	f.want(http.StatusOK, "POST", api.ApplyPath+"?delete=Policy/shop/a", doc("shop", "b", "to: {service: payments}, timeout: {request: 4s}"))
	f.want(http.StatusNotFound, "GET", policies+"/a", "")
	f.want(http.StatusOK, "POST", api.ApplyPath+"?delete=Policy/shop/b", "") // deletions alone need no body
}

func TestCallerThatIsNotInTheCatalogue(t *testing.T) {
	f := newFixture(t)
	f.apply(service("payments", "") + service("orders", "") + doc("shop", "p", "to: {service: payments}, from: {service: nope}, timeout: {request: 3s}"))
	for from, want := range map[string]int{"": 0, "orders": 0, "nope": 1, "web/orders": 1} {
		e := parse[api.EffectiveResponse](t, f.want(http.StatusOK, "GET", api.EffectivePath("shop", "payments", api.EffectiveQuery{From: from}), ""))
		if len(e.Problems) != want || want > 0 && !strings.Contains(e.Problems[0], "is not in the catalogue") {
			t.Errorf("problems from %q: %q, want %d", from, e.Problems, want)
		}
	}
	f.wantFields("shop/payments", "nope", map[string]string{"timeout.request": "3s < shop/p (timeout.request)"})
}

func TestConditionOfAPolicyOverriddenInPart(t *testing.T) {
	f := newFixture(t)
	f.apply(service("payments", "") + service("email", "") +
		doc("shop", "all", `to: {service: "*"}, timeout: {request: 5s}`) + doc("shop", "one", `to: {service: email}, timeout: {request: 3s}`))
	if status, message := f.condition("all", api.Effective); status != "True Effective" || message != "shop/one overrides a part of it in some results" {
		t.Errorf("Effective is %s (%s)", status, message)
	}
}

func TestProblemsAreIndented(t *testing.T) {
	f := newFixture(t)
	for _, request := range [][2]string{{"GET", "/nothing"}, {"PATCH", policies + "/p"}, {"GET", policies + "/p"}} {
		if r := f.do(request[0], request[1], ""); !strings.HasPrefix(r.body, "{\n  \"type\": ") {
			t.Errorf("%s %s is answered with\n%s", request[0], request[1], r.body)
		}
	}
}

func TestConsumerPolicyOfAnotherNamespace(t *testing.T) {
	f := newFixture(t)
	f.apply(service("payments", "") + doc("shop", "own", "to: {service: payments}, timeout: {request: 3s}") +
		doc("web", "theirs", "to: {namespace: shop, service: payments}, timeout: {request: 1s}"))
	f.wantFields("shop/payments", "web/front", map[string]string{"timeout.request": "1s < web/theirs (timeout.request)"})
	f.wantFields("shop/payments", "shop/orders", map[string]string{"timeout.request": "3s < shop/own (timeout.request)"})
}

func TestHostBelongsToOneServiceAndMovesInOneApply(t *testing.T) {
	f := newFixture(t)
	f.apply(service("a", ", hosts: [pay.example]"))
	p := f.refused(http.StatusConflict, service("b", ", hosts: [pay.example]"))
	if p.Type != api.HostConflict || len(p.Conflicts) != 1 || p.Conflicts[0].Name != "a" {
		t.Errorf("problem %+v, want a host conflict that names a", p)
	}
	f.apply(service("b", ", hosts: [pay.example]") + service("a", ""))
	if owner, ok := f.loop.World().HostOwner("pay.example"); !ok || owner.Name != "b" {
		t.Errorf("pay.example belongs to %v, want shop/b", owner)
	}
	// A freed host can be claimed, and a deleted service frees all of its hosts.
	f.want(http.StatusOK, "DELETE", services+"/b", "")
	f.apply(service("c", ", hosts: [pay.example, b.shop]"))
	f.refused(http.StatusConflict, service("b", ""))
}

func TestServiceRenamedUnderItsPolicies(t *testing.T) {
	f := newFixture(t)
	f.apply(service("payments", "") + doc("shop", "p", "to: {service: payments}, timeout: {request: 3s}"))
	if status, _ := f.condition("p", api.ResolvedRefs); status != "True Resolved" {
		t.Errorf("ResolvedRefs is %s, want True", status)
	}
	refused := parse[api.Problem](t, f.want(http.StatusConflict, "DELETE", services+"/payments", ""))
	if refused.Type != api.Referenced || len(refused.Conflicts) != 1 || refused.Conflicts[0].Name != "p" {
		t.Errorf("problem %+v, want one that names policy p", refused)
	}
	f.want(http.StatusOK, "POST", api.ApplyPath+"?force=true&delete=Service/shop/payments", service("payments2", ""))
	if status, message := f.condition("p", api.ResolvedRefs); status != "False ServiceNotFound" || !strings.Contains(message, "shop/payments") {
		t.Errorf("ResolvedRefs is %s (%s), want False ServiceNotFound naming shop/payments", status, message)
	}
	result := f.apply(doc("shop", "p", "to: {service: payments}, timeout: {request: 4s}"))
	if len(result.Warnings) != 1 || result.Warnings[0].Message != "there is no Service shop/payments" {
		t.Errorf("warnings %+v, want one for the missing service", result.Warnings)
	}
	put := f.want(http.StatusOK, "PUT", policies+"/p", doc("shop", "p", "to: {service: payments}, timeout: {request: 5s}"))
	if got := put.header.Values("X-Breakwater-Warning"); len(got) != 1 || got[0] != "Policy shop/p: spec.to.service: there is no Service shop/payments" {
		t.Errorf("warnings of a PUT: %q", got)
	}
}

func TestExamplesApply(t *testing.T) {
	f := newFixture(t)
	for _, name := range []string{"services", "chain", "article"} {
		text, err := os.ReadFile("../../examples/" + name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		if name == "article" { // stands alone
			f = newFixture(t)
		}
		if result := f.apply(string(text)); len(result.Results) == 0 {
			t.Errorf("%s: nothing was applied", name)
		}
	}
}

func TestEndpoints(t *testing.T) {
	f := newFixture(t)
	f.apply(service("payments", ", endpoints: [{address: 10.0.0.1}]"))
	one := services + "/payments/endpoints/one"
	f.want(http.StatusCreated, "PUT", one, `{"address": "10.0.0.2", "port": 8080}`, "Content-Type: application/json")
	before := f.revision()
	f.want(http.StatusOK, "PUT", one, "{address: 10.0.0.2, port: 8080}")
	if f.revision() != before {
		t.Error("the same endpoint again was written")
	}
	list := parse[api.EndpointList](t, f.want(http.StatusOK, "GET", services+"/payments/endpoints", ""))
	if len(list.Items) != 2 || list.Items[0].Source != api.SourceStatic || list.Items[1].ID != "one" {
		t.Errorf("endpoints %+v, want the static one and then one", list.Items)
	}
	f.want(http.StatusOK, "DELETE", services+"/payments", "")
	f.apply(service("payments", ""))
	if list := parse[api.EndpointList](t, f.want(http.StatusOK, "GET", services+"/payments/endpoints", "")); len(list.Items) != 0 {
		t.Errorf("the endpoints of the deleted service came back: %+v", list.Items)
	}
}

func TestEndpointIsWrittenAsItIsRead(t *testing.T) {
	f := newFixture(t)
	f.apply(service("payments", ""))
	one := services + "/payments/endpoints/one"
	f.want(http.StatusCreated, "PUT", one, "{address: 10.0.0.2, weight: 3, locality: {region: a}}")
	before := f.revision()
	for _, format := range []string{"application/json", "application/yaml"} {
		read := f.want(http.StatusOK, "GET", one, "", "Accept: "+format)
		f.want(http.StatusOK, "PUT", one, read.body, "Content-Type: "+format)
		if after := f.revision(); after != before {
			t.Errorf("writing back what was read as %s moved the store from %d to %d", format, before, after)
		}
		f.want(http.StatusOK, "PUT", one, strings.Replace(read.body, "10.0.0.2", "10.0.0.3", 1), "Content-Type: "+format)
		f.want(http.StatusOK, "PUT", one, read.body, "Content-Type: "+format)
		before = f.revision()
	}
}

func TestListIsWrittenAsItIsRead(t *testing.T) {
	f := newFixture(t)
	f.apply(service("payments", "") + doc("shop", "a", simple) + doc("shop", "b", `to: {service: "*"}, timeout: {request: 9s}`))
	before := f.revision()
	for _, path := range []string{policies, services} {
		list := f.want(http.StatusOK, "GET", path, "").body
		result := f.apply(list)
		for _, r := range result.Results {
			if r.Action != api.Unchanged {
				t.Errorf("%s %s is %s", r.Kind, r.Name, r.Action)
			}
		}
		if len(result.Results) == 0 || f.revision() != before {
			t.Errorf("%s: %d results, store at revision %d, want some at %d", path, len(result.Results), f.revision(), before)
		}
	}
}

func TestFormats(t *testing.T) {
	f := newFixture(t)
	f.apply(service("payments", "") + doc("shop", "p", "to: {service: payments}, timeout: {request: 3s}, limits: {maxRequests: unlimited}"))
	text := f.want(http.StatusOK, "GET", policies+"/p", "", "Accept: application/yaml")
	if got := text.header.Get("Content-Type"); got != "application/yaml" {
		t.Errorf("Content-Type %q, want application/yaml", got)
	}
	before := f.revision()
	f.want(http.StatusOK, "PUT", policies+"/p", text.body, "Content-Type: application/yaml")
	asJSON := f.want(http.StatusOK, "GET", policies+"/p", "")
	f.want(http.StatusOK, "PUT", policies+"/p", asJSON.body, "Content-Type: application/json")
	if after := f.revision(); after != before {
		t.Errorf("writing back what was read moved the store from %d to %d", before, after)
	}
	problem := f.want(http.StatusNotFound, "GET", policies+"/q", "", "Accept: application/yaml")
	if got := problem.header.Get("Content-Type"); got != "application/problem+yaml" {
		t.Errorf("Content-Type of a problem in YAML is %q", got)
	}
}

func TestAccept(t *testing.T) {
	f := newFixture(t)
	f.apply(service("payments", ""))
	const asJSON, asYAML = "application/json", "application/yaml"
	for accept, want := range map[string]string{
		"": asJSON, "*/*": asJSON, "text/html": asJSON, "json": asJSON, "application/json": asJSON, "text/json": asJSON, "JSON": asJSON,
		"yaml": asYAML, "text/yaml": asYAML, "application/yaml": asYAML, "application/x-yaml": asYAML, "text/x-yaml; q=0.9": asYAML,
		"text/html, yaml": asYAML, "yaml;q=0.1, json;q=0.9": asJSON,
	} {
		r := f.want(http.StatusOK, "GET", services+"/payments", "", "Accept: "+accept)
		if got := r.header.Get("Content-Type"); got != want {
			t.Errorf("Accept %q is answered with %q, want %q", accept, got, want)
		}
		if isJSON := strings.HasPrefix(r.body, "{"); isJSON != (want == asJSON) {
			t.Errorf("Accept %q is answered with\n%s", accept, r.body)
		}
	}
}

func TestValidateWritesNothing(t *testing.T) {
	f := newFixture(t)
	f.apply(service("payments", ""))
	before := f.revision()
	v := parse[api.ValidateResult](t, f.want(http.StatusOK, "POST", api.ValidatePath, service("payments", ", hosts: [pay.example]")+doc("shop", "p", "to: {service: nobody}, timeout: {request: 3s}")))
	if !v.Valid || len(v.Results) != 2 || v.Results[0].Action != api.Updated || v.Results[1].Action != api.Created || len(v.Warnings) != 1 {
		t.Errorf("validate says %+v, want one update, one creation and one warning", v)
	}
	if after := f.revision(); after != before {
		t.Errorf("validate moved the store from %d to %d", before, after)
	}
}

// TestLargeCatalogue bounds what a write may cost: every effective result it touches is checked.
func TestLargeCatalogue(t *testing.T) {
	f := newFixture(t)
	many := race.Rounds(1000)
	for batch := range 4 {
		var text strings.Builder
		for i := batch * many / 4; i < (batch+1)*many/4; i++ {
			text.WriteString(service(fmt.Sprintf("s%d", i), ", dependsOn: []"))
			if i%2 == 0 {
				text.WriteString(doc("shop", fmt.Sprintf("p%d", i), fmt.Sprintf("to: {service: s%d}, from: {service: s%d}, timeout: {request: 3s}", i, i+1)))
			}
		}
		f.apply(text.String())
	}
	begun := time.Now()
	f.apply(doc("shop", "all", `to: {service: "*"}, timeout: {request: 9s}, retry: {numRetries: 2}`))
	if took := time.Since(begun); took > 20*time.Second { // 1 s alone; a busy machine takes its time
		t.Errorf("a policy for %d services took %v", many, took)
	}
	t.Logf("a policy for %d services took %v", many, time.Since(begun))
	begun = time.Now()
	f.want(http.StatusOK, "GET", policies, "")
	t.Logf("listing its policies took %v", time.Since(begun))
}
