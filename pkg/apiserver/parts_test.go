package apiserver_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/api"
)

const parted = "subsets: {v1: {version: v1}, v2: {version: v2}}, routes: [{name: reads, match: {methods: [GET]}, backends: [{subset: v1}]}]"

// effectivePart asks for a part of shop/payments and returns the paths that an author wrote, with their values.
func (f *fixture) effectivePart(q api.EffectiveQuery) string {
	f.t.Helper()
	e := parse[api.EffectiveResponse](f.t, f.want(http.StatusOK, "GET", api.EffectivePath("shop", "payments", q), ""))
	if e.Subset != q.Subset || e.Route != q.Route {
		f.t.Errorf("asked for %+v, the answer is of subset %q, route %q", q, e.Subset, e.Route)
	}
	var list []string
	for _, field := range e.Fields {
		if !field.Origin.Default {
			list = append(list, field.Path+"="+strings.Trim(string(field.Value), `"`))
		}
	}
	return strings.Join(list, " ")
}

func TestEffectiveOfParts(t *testing.T) {
	f := newFixture(t)
	f.apply(service("payments", ", "+parted) +
		doc("shop", "all", "to: {service: payments}, timeout: {request: 2s, connect: 1s}, limits: {maxRequests: 9}") +
		doc("shop", "reads", "to: {service: payments, route: reads}, timeout: {request: 1s}") +
		doc("shop", "v2", "to: {service: payments, subset: v2}, limits: {maxRequests: 3}"))
	for q, want := range map[api.EffectiveQuery]string{
		{}:                               "limits.maxRequests=9 timeout.connect=1s timeout.request=2s",
		{Route: "reads"}:                 "timeout.request=1s",
		{Route: "default"}:               "timeout.request=2s",
		{Subset: "v1"}:                   "limits.maxRequests=9 timeout.connect=1s",
		{Subset: "v2"}:                   "limits.maxRequests=3 timeout.connect=1s",
		{Subset: "v2", Route: "reads"}:   "limits.maxRequests=3 timeout.connect=1s timeout.request=1s",
		{From: "orders", Route: "reads"}: "timeout.request=1s",
	} {
		if got := f.effectivePart(q); got != want {
			t.Errorf("%+v: %s, want %s", q, got, want)
		}
	}
	for _, q := range []api.EffectiveQuery{{Subset: "v9"}, {Route: "writes"}} {
		f.want(http.StatusNotFound, "GET", api.EffectivePath("shop", "payments", q), "")
	}
	if status, message := f.condition("v2", api.Effective); status != "True Effective" {
		t.Errorf("Effective of the policy for a subset is %s (%s)", status, message)
	}
}

// A policy that makes a route's result invalid is refused like any other, and both policies are named.
func TestInvalidResultOfARouteIsRefused(t *testing.T) {
	f := newFixture(t)
	f.apply(service("payments", ", "+parted) + doc("shop", "all", "to: {service: payments}, timeout: {request: 1s}"))
	p := f.refused(http.StatusUnprocessableEntity, doc("shop", "reads", "to: {service: payments, route: reads}, timeout: {perTry: 2s}"))
	if text := p.Error(); !strings.Contains(text, "shop/reads") || !strings.Contains(text, "shop/all") {
		t.Errorf("the refusal names not both policies: %s", text)
	}
}

// A subset that is not there is said, and so is one that goes while a policy names it.
func TestPartsThatAreNotThere(t *testing.T) {
	f := newFixture(t)
	r := f.apply(service("payments", ", "+parted) + service("orders", ", routes: [{name: a, match: {methods: [GET]}, backends: [{service: payments, subset: v9}, {service: gone}]}]") +
		doc("shop", "v2", "to: {service: payments, subset: v2}, limits: {maxRequests: 3}") +
		doc("shop", "writes", "to: {service: payments, route: writes}, timeout: {request: 3s}"))
	warned := warnings(r)
	for _, want := range []string{
		"spec.to.route: there is no route writes in Service shop/payments",
		"spec.routes[0].backends[0].subset: there is no subset v9 in Service shop/payments",
		"spec.routes[0].backends[1].service: there is no Service shop/gone",
	} {
		if !slices.Contains(warned, want) {
			t.Errorf("warnings %q, want among them %q", warned, want)
		}
	}
	if status, _ := f.condition("writes", api.ResolvedRefs); status != "False RouteNotFound" {
		t.Errorf("ResolvedRefs is %s, want False RouteNotFound", status)
	}
	warned = warnings(f.apply(service("payments", ", subsets: {v1: {version: v1}}")))
	if want := ": spec.to.subset of Policy shop/v2: there is no subset v2 in Service shop/payments any more"; !slices.Contains(warned, want) {
		t.Errorf("warnings %q, want among them %q", warned, want)
	}
	if status, _ := f.condition("v2", api.ResolvedRefs); status != "False SubsetNotFound" {
		t.Errorf("ResolvedRefs is %s, want False SubsetNotFound", status)
	}
	if p := parse[api.Problem](t, f.want(http.StatusConflict, "DELETE", services+"/payments", "")); len(p.Conflicts) != 3 {
		t.Errorf("deleting the service is refused by %+v, want two policies and a backend", p.Conflicts)
	}
}

func warnings(r api.ApplyResult) []string {
	var list []string
	for _, w := range r.Warnings {
		list = append(list, w.Field+": "+w.Message)
	}
	return list
}

// What a cluster is called in other people's routes is one service's, be it by clusterName or by its own name.
func TestClusterNameIsOneServices(t *testing.T) {
	f := newFixture(t)
	called := func(name, cluster string) string {
		return "apiVersion: breakwater/v1alpha1\nkind: Service\nmetadata: {namespace: shop, name: " + name + "}\nspec: {port: 1, clusterName: " + cluster + "}\n---\n"
	}
	f.apply(called("payments", "pay.cluster") + service("orders", ""))
	f.apply(called("payments", "pay.cluster"))
	for cluster, holder := range map[string]string{"pay.cluster": "payments", "shop/orders": "orders"} {
		p := f.refused(http.StatusConflict, called("other", cluster))
		if p.Type != api.ClusterConflict || len(p.Conflicts) != 1 || p.Conflicts[0].Name != holder {
			t.Errorf("problem %+v, want a conflict with %s", p, holder)
		}
	}
	f.apply(called("payments", "bank/ledger"))
	if p := f.refused(http.StatusConflict, strings.ReplaceAll(service("ledger", ""), "namespace: shop", "namespace: bank")); p.Type != api.ClusterConflict {
		t.Errorf("problem %+v, want a conflict with payments", p)
	}
	f.want(http.StatusOK, "POST", api.ApplyPath+"?delete=Service/shop/payments&force=true", called("other", "bank/ledger"))
}

// Callers of one namespace share their loopback: a local port is one service's there. It is handed over in one apply, as a host is.
func TestLocalPortIsOneServices(t *testing.T) {
	f := newFixture(t)
	tcp := func(name string) string {
		return "apiVersion: breakwater/v1alpha1\nkind: Service\nmetadata: {namespace: shop, name: " + name + "}\nspec: {protocol: tcp, localPort: 5432}\n---\n"
	}
	f.apply(tcp("db"))
	f.apply(tcp("db"))
	p := f.refused(http.StatusConflict, tcp("other"))
	if p.Type != api.PortConflict || len(p.Conflicts) != 1 || p.Conflicts[0].Name != "db" {
		t.Errorf("problem %+v, want a conflict with db", p)
	}
	warned := warnings(f.apply(strings.ReplaceAll(tcp("elsewhere"), "namespace: shop", "namespace: bank") +
		service("orders", ", routes: [{name: a, match: {methods: [GET]}, backends: [{service: db}]}]")))
	if want := "spec.routes[0].backends[0].service: Service shop/db speaks tcp, and no route leads there"; !slices.Contains(warned, want) {
		t.Errorf("warnings %q, want among them %q", warned, want)
	}
	f.want(http.StatusOK, "POST", api.ApplyPath+"?delete=Service/shop/db&force=true", tcp("other"))
}
