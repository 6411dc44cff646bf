package apiserver_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/apiserver"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// withClasses connects so many proxies of these callers.
func withClasses(callers map[string]int) func(*apiserver.Config) {
	count := make(map[world.ClassKey]int)
	for service, n := range callers {
		count[world.ClassKey{Namespace: "shop", Service: service, Dialect: "envoy", Profile: "sidecar", Tier: "1.40", Outbound: "127.0.0.1:15001", Runtime: true}] = n
	}
	return func(c *apiserver.Config) { c.Classes = func() map[world.ClassKey]int { return count } }
}

func depends(name, on string) string {
	return service(name, ", dependsOn: ["+on+"]")
}

const breaker = "circuitBreaker: {failureThreshold: 5}"

func TestDryRunSaysWhatWouldHappenAndWritesNothing(t *testing.T) {
	f := newFixture(t, withClasses(map[string]int{"orders": 3, "edge": 4, "email": 5}))
	f.apply(depends("orders", "payments, billing") + depends("edge", "payments") + depends("email", "") + service("payments", "") + service("billing", ""))
	before := f.revision()
	text := doc("shop", "p", `to: {service: "*"}, timeout: {request: 1s}, limits: {maxRequests: 7}, `+breaker)
	result := parse[api.ApplyResult](t, f.want(http.StatusOK, "POST", api.ApplyPath+"?dryRun=true", text))
	if f.revision() != before {
		t.Fatal("a dry run has written")
	}
	i := result.Impact
	if i == nil || i.Connected != 12 || i.Proxies != 7 || !i.Wide || !slices.Equal(i.Services, []string{"shop/billing", "shop/payments"}) {
		t.Fatalf("impact %+v, want 7 of 12 proxies, wide, over billing and payments", i)
	}
	if got := i.Classes; len(got) != 2 || got[0].Service != "edge" || got[0].Proxies != 4 || got[1].Service != "orders" || got[1].Resources <= got[0].Resources {
		t.Errorf("classes %+v, want edge, and orders with more resources", got)
	}
	if want := []api.RebuiltImpact{{Cluster: "shop/billing", Proxies: 3, UnknownProxies: 3}, {Cluster: "shop/payments", Proxies: 7, UnknownProxies: 7}}; !slices.Equal(i.Rebuilt, want) {
		t.Errorf("rebuilt %+v, want %+v", i.Rebuilt, want)
	}
	// The same difference is told once, with both clusters.
	var clusters, routes, keys int
	for _, c := range i.Changes {
		switch name := strings.Join(c.Resources, " "); name {
		case "CDS shop/payments CDS shop/billing", "CDS shop/billing CDS shop/payments":
			clusters++
			if !slices.ContainsFunc(c.Lines, func(l api.DiffLine) bool { return l.Path == "outlier_detection.consecutive_5xx" && l.Now == "5" }) {
				t.Errorf("the clusters' difference lacks the threshold: %+v", c.Lines)
			}
		case "RDS shop/payments RDS shop/billing", "RDS shop/billing RDS shop/payments":
			routes++
			if c.Proxies != 7 {
				t.Errorf("the routes differ on %d proxies, want 7", c.Proxies)
			}
		default:
			keys++
		}
	}
	if clusters != 1 || routes != 1 || keys == 0 {
		t.Errorf("changes %+v, want one of both clusters, one of both routes, and runtime layers", i.Changes)
	}
}

// A dry run has what lint finds and how exactly proxies would enforce what would be written, and does not claim to know what is ejected.
func TestDryRunTellsFindingsAndFidelity(t *testing.T) {
	f := newFixture(t, withClasses(map[string]int{"orders": 1}), withFleet(proxy("orders", "sidecar", "1.36.0"), proxy("orders", "grpc", "")))
	f.apply(depends("orders", "payments") + service("payments", fourHosts) + doc("shop", "old", "to: {service: payments}, timeout: {request: 2s}"))
	before := f.revision()
	answer := f.want(http.StatusOK, "POST", api.ApplyPath+"?dryRun=true", doc("shop", "p", neverOut+", hedge: {onPerTryTimeout: true}, timeout: {perTry: 1s}, retry: {numRetries: 1}"))
	result := parse[api.ApplyResult](t, answer)
	if f.revision() != before {
		t.Fatal("a dry run has written")
	}
	if !slices.Contains(codes(result.Findings), "never-ejects") {
		t.Errorf("findings %v, want never-ejects among them", codes(result.Findings))
	}
	reports := result.Impact.Fidelity
	if len(reports) != 1 || reports[0].Name != "p" || len(reports[0].Dialects) != 2 {
		t.Fatalf("fidelity %+v, want that of p for both dialects", reports)
	}
	for i, want := range []string{"sidecar 1.36", "grpc"} {
		d := reports[0].Dialects[i]
		if d.String() != want || d.Proxies != 1 || len(d.Fields) == 0 {
			t.Errorf("dialect %d is %s with %d proxies and %d fields, want %s with one proxy", i, d, d.Proxies, len(d.Fields), want)
		}
	}
	if !slices.ContainsFunc(reports[0].Dialects[1].Fields, func(f api.FieldFidelity) bool {
		return f.Field == "hedge.onPerTryTimeout" && f.Level == api.Unsupported
	}) {
		t.Errorf("gRPC clients: %+v, want hedging unsupported", reports[0].Dialects[1].Fields)
	}
	if len(result.Impact.Rebuilt) != 1 || !strings.Contains(answer.body, `"liveEjections": null`) && !strings.Contains(answer.body, `"liveEjections":null`) {
		t.Errorf("rebuilt %+v, want one cluster with unknown ejections", result.Impact.Rebuilt)
	}
	f.want(http.StatusNotFound, "GET", policies+"/p", "")
	// What would be deleted or left as it is has no report.
	for query, text := range map[string]string{"?dryRun=true&delete=Policy/shop/old": "", "?dryRun=true": doc("shop", "old", "to: {service: payments}, timeout: {request: 2s}")} {
		again := parse[api.ApplyResult](t, f.want(http.StatusOK, "POST", api.ApplyPath+query, text))
		if again.Impact == nil || again.Impact.Fidelity == nil || len(again.Impact.Fidelity) > 0 {
			t.Errorf("%s: impact %+v, want an empty list of reports", query, again.Impact)
		}
	}
}

// What is ejected is summed over the proxies that say it; those that do not are counted, and agents, which lose nothing, stand apart.
func TestDryRunSumsLiveEjections(t *testing.T) {
	envoys := world.ClassKey{Namespace: "shop", Service: "orders", Dialect: "envoy", Profile: "sidecar", Tier: "1.40", Outbound: "127.0.0.1:15001", Runtime: true}
	owners, agents := envoys, envoys
	owners.Profile = "clusters-only"
	agents.Dialect, agents.Profile = "agent", "agent"
	said := map[world.ClassKey][]map[string]int{
		envoys: {{"shop/payments": 2, "shop/other": 9}, nil, {}},
		owners: {{"by_name_8080": 1}},
		agents: {{"shop/payments": 3}, nil},
	}
	f := newFixture(t, func(c *apiserver.Config) {
		c.Classes = func() map[world.ClassKey]int {
			return map[world.ClassKey]int{envoys: 3, owners: 1, agents: 2}
		}
		c.Ejected = func() map[world.ClassKey][]map[string]int { return said }
	})
	f.apply(depends("orders", "payments, billing") + service("payments", ", clusterName: by_name:8080") + service("billing", ""))
	rebuilt := func(to string) map[string]api.RebuiltImpact {
		t.Helper()
		result := parse[api.ApplyResult](t, f.want(http.StatusOK, "POST", api.ApplyPath+"?dryRun=true", doc("shop", "p", "to: {service: "+to+"}, "+breaker)))
		all := make(map[string]api.RebuiltImpact)
		for _, r := range result.Impact.Rebuilt {
			all[r.Cluster] = r
		}
		return all
	}
	check := func(r api.RebuiltImpact, live, unknown, agents, kept int) {
		t.Helper()
		if r.LiveEjections == nil || *r.LiveEjections != live || r.UnknownProxies != unknown || r.Agents != agents || r.KeptEjections != kept {
			t.Errorf("%+v, want %d live ejections, %d unknown proxies, and %d agents with %d", r, live, unknown, agents, kept)
		}
	}
	all := rebuilt("payments")
	check(all["shop/payments"], 2, 1, 2, 3)
	check(all["by_name:8080"], 1, 0, 0, 0)
	check(rebuilt("billing")["shop/billing"], 0, 1, 2, 0)

	// A proxy that has come since they were counted is in no sum.
	said[envoys] = []map[string]int{{"shop/payments": 1}, {"shop/payments": 1}, {"shop/payments": 1}, {"shop/payments": 1}}
	check(rebuilt("payments")["shop/payments"], 3, 0, 2, 3)
	said[envoys] = nil
	if r := rebuilt("payments")["shop/payments"]; r.LiveEjections != nil || r.UnknownProxies != 3 {
		t.Errorf("%+v of proxies that do not say, want unknown", r)
	}
}

// Agents alone lose nothing, and that is known: no write of theirs is wide.
func TestAgentsRebuildNothing(t *testing.T) {
	agents := world.ClassKey{Namespace: "shop", Service: "orders", Dialect: "agent", Profile: "agent", Outbound: "127.0.0.1:15001"}
	f := newFixture(t, func(c *apiserver.Config) {
		c.Classes = func() map[world.ClassKey]int { return map[world.ClassKey]int{agents: 2} }
	})
	f.apply(depends("orders", "payments, billing") + service("payments", "") + service("billing", ""))
	every := doc("shop", "p", `to: {service: "*"}, `+breaker)
	result := parse[api.ApplyResult](t, f.want(http.StatusOK, "POST", api.ApplyPath+"?dryRun=true", every))
	for _, r := range result.Impact.Rebuilt {
		if r.Proxies != 0 || r.Agents != 2 || r.LiveEjections == nil || *r.LiveEjections != 0 {
			t.Errorf("%+v, want no proxy that rebuilds, and two agents", r)
		}
	}
	if len(result.Impact.Rebuilt) != 2 || result.Impact.Wide {
		t.Errorf("%+v, want two clusters, and not wide", result.Impact)
	}
	f.want(http.StatusCreated, "PUT", policies+"/p", every)
}

func TestWriteThatRebuildsTooMuchNeedsWide(t *testing.T) {
	f := newFixture(t, withClasses(map[string]int{"orders": 3, "edge": 4}))
	f.apply(depends("orders", "payments, billing") + depends("edge", "payments") + service("payments", "") + service("billing", ""))
	every := doc("shop", "p", `to: {service: "*"}, `+breaker)
	p := f.refused(http.StatusUnprocessableEntity, every)
	if p.Type != api.TooWide || !strings.Contains(p.Detail, "2 services (shop/billing, shop/payments) on 7 of 7") {
		t.Errorf("%s: %s, want too-wide with which services and how many proxies", p.Type, p.Detail)
	}
	f.want(http.StatusUnprocessableEntity, "PUT", policies+"/p", every)
	// One service's clusters, or none, may be rebuilt everywhere.
	f.apply(doc("shop", "one", "to: {service: payments}, "+breaker))
	f.apply(doc("shop", "gentle", `to: {service: "*"}, timeout: {request: 1s}, limits: {maxRequests: 7}`))
	f.want(http.StatusCreated, "PUT", policies+"/p?wide=true", every)
	f.want(http.StatusOK, "DELETE", policies+"/one", "") // which says the same as what is left
	f.want(http.StatusUnprocessableEntity, "DELETE", policies+"/p", "")
	f.want(http.StatusOK, "POST", api.ApplyPath+"?wide=true&delete=Policy/shop/p", "")
}

// A policy that is in the listener rebuilds nothing, and drains the applications' connections to the proxies concerned.
func TestDryRunTellsOfTheListener(t *testing.T) {
	f := newFixture(t, withClasses(map[string]int{"orders": 3, "edge": 4}))
	f.apply(depends("orders", "payments, billing") + depends("edge", "billing") + service("payments", "") + service("billing", ""))
	for _, most := range []string{"20", "30"} {
		text := doc("shop", "p", `to: {service: payments}, adaptiveConcurrency: {maxConcurrency: `+most+`}`)
		i := parse[api.ApplyResult](t, f.want(http.StatusOK, "POST", api.ApplyPath+"?dryRun=true", text)).Impact
		if i == nil || i.Proxies != 3 || i.Drained != 3 || len(i.Rebuilt) != 0 || i.Wide {
			t.Errorf("impact %+v, want the listeners of 3 proxies changed, and nothing rebuilt", i)
		}
		if !slices.ContainsFunc(i.Changes, func(c api.ChangeImpact) bool {
			return slices.Equal(c.Resources, []string{"LDS outbound"}) && len(c.Lines) == 1 && strings.Contains(c.Lines[0].Path, "http_filters[breakwater.adaptive-concurrency/shop/payments]") &&
				strings.Contains(c.Lines[0].Now, most)
		}) {
			t.Errorf("changes %+v, want one line of the filter's in the listener, with %s", i.Changes, most)
		}
		f.apply(text)
	}
}

func TestFewProxiesAreNotWide(t *testing.T) {
	f := newFixture(t, withClasses(map[string]int{"orders": 1, "email": 9}))
	f.apply(depends("orders", "payments, billing") + depends("email", "") + service("payments", "") + service("billing", ""))
	f.apply(doc("shop", "p", `to: {service: "*"}, `+breaker))
}

func TestEffectiveIsAskedByProxy(t *testing.T) {
	f := newFixture(t, withFleet(proxy("orders", "sidecar", "1.40.0")))
	f.apply(service("orders", "") + service("payments", "") + doc("shop", "p", "to: {service: payments}, from: {service: orders}, timeout: {request: 1s}"))
	e := parse[api.EffectiveResponse](t, f.want(http.StatusOK, "GET", services+"/payments/effective?proxy=orders-sidecar", ""))
	if e.From != "shop/orders" || len(e.Policies) != 1 {
		t.Errorf("from %s under %v, want shop/orders under its policy", e.From, e.Policies)
	}
	f.want(http.StatusNotFound, "GET", services+"/payments/effective?proxy=nobody", "")
	f.want(http.StatusUnprocessableEntity, "GET", services+"/payments/effective?proxy=orders-sidecar&from=orders", "")
}
