package apiserver_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/apiserver"
	"github.com/breakwater-mesh/breakwater/pkg/envoy"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// fleet is a book of some proxies.
type fleet []api.Proxy

func (f fleet) Proxies() []api.Proxy { return f }

func (fleet) Changed() <-chan struct{} { return nil }

func (fleet) Look() apiserver.Fleet { return (&ledger{}).Look() }

func withFleet(list ...api.Proxy) func(*apiserver.Config) {
	classes := make(map[world.ClassKey]int)
	for _, p := range list {
		classes[world.ClassKey{Namespace: p.Namespace, Service: p.Service, Profile: p.Profile, Tier: envoy.Tier(p.Version)}]++
	}
	return func(c *apiserver.Config) {
		c.Book, c.Classes = fleet(list), func() map[world.ClassKey]int { return classes }
	}
}

func proxy(service, profile, version string) api.Proxy {
	return api.Proxy{ID: service + "-" + profile, Namespace: "shop", Service: service, Profile: profile, Version: version}
}

const twoProtocols = `apiVersion: breakwater/v1alpha1
kind: Service
metadata: {namespace: shop, name: payments}
spec: {protocol: http, port: 80}
---
apiVersion: breakwater/v1alpha1
kind: Service
metadata: {namespace: shop, name: ledger}
spec: {protocol: grpc, port: 80}
---
`

func shopPolicy(spec string) string {
	return "apiVersion: breakwater/v1alpha1\nkind: Policy\nmetadata: {namespace: shop, name: p}\nspec: " + spec + "\n"
}

func fidelityOf(f *fixture, version string, dialects ...string) []api.DialectFidelity {
	f.t.Helper()
	path := api.FidelityPath("shop", "p", version, dialects...)
	return parse[api.FidelityResponse](f.t, f.want(http.StatusOK, "GET", path, "")).Dialects
}

// lines are the fields as "name[/protocol] level".
func lines(d api.DialectFidelity) string {
	var list []string
	for _, f := range d.Fields {
		text := f.Field
		if f.Protocol != "" {
			text += "/" + f.Protocol
		}
		list = append(list, text+" "+f.Level)
	}
	return strings.Join(list, ", ")
}

func TestFidelityOfWhatIsInUse(t *testing.T) {
	f := newFixture(t, withFleet(proxy("orders", "sidecar", "1.40.0"), proxy("orders", "sidecar", "1.40.2"), proxy("orders", "sidecar", "1.36.1"),
		proxy("orders", "grpc", "1.85.0"), proxy("web", "agent", "0.1.0")))
	f.apply(twoProtocols + shopPolicy("{to: {service: '*'}, from: {service: orders}, retry: {numRetries: 2, budget: {interval: 1s}}}"))
	got := fidelityOf(f, "")
	var names []string
	for _, d := range got {
		names = append(names, d.String())
	}
	if want := []string{"sidecar 1.36", "sidecar 1.40", "grpc 1.85"}; !slices.Equal(names, want) {
		t.Fatalf("dialects %v, want %v: web is not concerned", names, want)
	}
	if got[1].Proxies != 2 {
		t.Errorf("%d proxies of Envoy 1.40, want 2", got[1].Proxies)
	}
	for i, want := range []string{"retry.budget.interval unsupported", "retry.budget.interval exact"} {
		if text := lines(got[i]); !strings.Contains(text, want) || !strings.Contains(text, "retry.numRetries exact") || !strings.Contains(text, "retry.retryOn/grpc approximate") {
			t.Errorf("%s: %s, want %s", got[i], text, want)
		}
	}
}

func TestFidelityAskedFor(t *testing.T) {
	f := newFixture(t)
	f.apply(twoProtocols + shopPolicy("{to: {service: payments}, circuitBreaker: {failureThreshold: 3}, timeout: {request: 1s}}"))
	if got := fidelityOf(f, ""); len(got) != 1 || got[0].Dialect != "sidecar" || got[0].Proxies != 0 {
		t.Errorf("nobody is connected: %v, want a sidecar", got)
	}
	got := fidelityOf(f, "", "grpc", "clusters-only")
	if len(got) != 2 || got[0].Dialect != "grpc" || got[1].Dialect != "clusters-only" {
		t.Fatalf("got %v", got)
	}
	if text := lines(got[0]); !strings.Contains(text, "circuitBreaker.failureThreshold unsupported") {
		t.Errorf("grpc: %s", text)
	}
	if text := lines(got[1]); !strings.Contains(text, "circuitBreaker.failureThreshold exact") || !strings.Contains(text, "timeout.request unsupported") {
		t.Errorf("clusters-only: %s", text)
	}
	for query, field := range map[string]string{"?dialect=nginx": "query.dialect", "?version=1.36": "query.version", "?dialect=sidecar&version=new": "query.version",
		"?dialect=grpc&version=1.36": "query.version", "?dialect=sidecar&version=1.31": "query.version", "?dialect=sidecar&version=1.41": "query.version",
		"?dialect=sidecar&version=2.36": "query.version", "?dialect=sidecar&version=1.036": "query.version", "?dialect=sidecar&version=1.36.": "query.version"} {
		p := parse[api.Problem](t, f.want(http.StatusUnprocessableEntity, "GET", api.FidelityPath("shop", "p", "")+query, ""))
		if len(p.Errors) != 1 || !strings.HasPrefix(p.Errors[0].Field, field) {
			t.Errorf("%s: %+v, want a fault of %s", query, p.Errors, field)
		}
	}
	f.want(http.StatusNotFound, "GET", api.FidelityPath("shop", "other", ""), "")
}

func TestWritesAreWarnedOfWhatIsInexact(t *testing.T) {
	f := newFixture(t, withFleet(proxy("orders", "sidecar", "1.38.0")))
	result := f.apply(twoProtocols + shopPolicy(`{to: {service: payments}, retry: {budget: {interval: 1s}},
  circuitBreaker: {recoveryTimeout: 5s, scope: service}, bulkhead: {maxConcurrent: 3, maxWaiting: 4}}`))
	var got []string
	for _, w := range result.Warnings {
		got = append(got, w.Field)
		if !strings.HasPrefix(w.Message, "sidecar 1.38: ") {
			t.Errorf("warning %q does not name the dialect", w.Message)
		}
	}
	// The end of an ejection is inexact whatever is written: it is told in the report alone.
	want := []string{"spec.bulkhead.maxWaiting", "spec.circuitBreaker.scope", "spec.retry.budget.interval"}
	if !slices.Equal(got, want) {
		t.Errorf("warnings of %v, want %v", got, want)
	}
}

func TestRequireExact(t *testing.T) {
	f := newFixture(t, withFleet(proxy("orders", "sidecar", "1.40.0")))
	f.apply(twoProtocols)
	inexact := shopPolicy("{to: {service: payments}, circuitBreaker: {scope: service}}")
	for _, w := range []struct{ method, path string }{{"POST", api.ApplyPath}, {"POST", api.ValidatePath}, {"PUT", api.ObjectPath(api.Policies, "shop", "p")}} {
		p := parse[api.Problem](t, f.want(http.StatusUnprocessableEntity, w.method, w.path+"?requireExact=true", inexact))
		if p.Type != api.NotExact || !slices.ContainsFunc(p.Errors, func(e manifest.FieldError) bool { return e.Field == "spec.circuitBreaker.scope" && e.Line > 0 }) {
			t.Errorf("%s %s: %+v, want the field with its line", w.method, w.path, p)
		}
	}
	f.want(http.StatusOK, "POST", api.ApplyPath+"?requireExact=true", shopPolicy("{to: {service: payments}, timeout: {request: 1s}}"))
}

// What no policy can bring nearer is told to who asks for exactness, and passes; all else is refused, with what to write instead.
func TestRequireExactPassesWhatIsInherent(t *testing.T) {
	for _, tt := range []struct{ spec, refused, warned string }{
		{"circuitBreaker: {failureThreshold: 3, recoveryTimeout: 5s}", "", "spec.circuitBreaker.recoveryTimeout"},
		{"circuitBreaker: {scope: host}", "", "spec.circuitBreaker"},
		{"circuitBreaker: {scope: service}", "spec.circuitBreaker.scope", ""},
		{"circuitBreaker: {halfOpen: {maxProbes: 2}}", "spec.circuitBreaker.halfOpen.maxProbes", ""},
		{"outlierDetection: {consecutive5xx: 3, baseEjectionTime: 5s}", "", "spec.outlierDetection.baseEjectionTime"},
		{"hedge: {onPerTryTimeout: false}", "", ""},
		{"hedge: {onPerTryTimeout: true}", "spec.hedge.onPerTryTimeout", ""},
		{"fallback: {service: queue}", "", ""},
		{"fallback: {service: queue}, bulkhead: {maxConcurrent: 9}", "spec.fallback.service", ""},
		{"fallback: {response: {status: 200}}, bulkhead: {maxConcurrent: 9}", "", ""},
	} {
		t.Run(tt.spec, func(t *testing.T) {
			f := newFixture(t, withFleet(proxy("orders", "sidecar", "1.40.0")))
			f.apply(twoProtocols + service("queue", ""))
			r := f.do("POST", api.ApplyPath+"?requireExact=true", shopPolicy("{to: {service: payments}, "+tt.spec+"}"))
			var refused, warned []string
			if r.status == http.StatusOK {
				for _, w := range parse[api.ApplyResult](t, r).Warnings {
					warned = append(warned, w.Field)
				}
			} else {
				for _, e := range parse[api.Problem](t, r).Errors {
					refused = append(refused, e.Field)
					if !strings.Contains(e.Message, "; instead: ") {
						t.Errorf("%s: nothing to do about it", e.Message)
					}
				}
			}
			if strings.Join(refused, " ") != tt.refused || strings.Join(warned, " ") != tt.warned {
				t.Errorf("refused %q, warned of %q, want %q and %q", refused, warned, tt.refused, tt.warned)
			}
		})
	}
}

// What says no asks for nothing, so that an Envoy too old for it does just that.
func TestSayingNoIsExactEverywhere(t *testing.T) {
	f := newFixture(t)
	f.apply(twoProtocols + shopPolicy(`{to: {service: payments}, errorMapping: {gateway: false}, retry: {avoidPreviousHosts: false},
  outlierDetection: {consecutive5xx: 3, detectDegradedHosts: false, useFailureCriteria: false}}`))
	for _, asked := range [][2]string{{"sidecar", "1.32"}, {"clusters-only", "1.35"}, {"grpc", ""}, {"agent", ""}} {
		text := lines(fidelityOf(f, asked[1], asked[0])[0])
		for _, field := range []string{"errorMapping.gateway", "retry.avoidPreviousHosts", "outlierDetection.detectDegradedHosts", "outlierDetection.useFailureCriteria"} {
			if asked[0] == "clusters-only" && strings.HasPrefix(field, "retry.") {
				continue // too old for any retry there
			}
			if !strings.Contains(text, field+" exact") {
				t.Errorf("%s %s: %s, want %s exact", asked[0], asked[1], text, field)
			}
		}
	}
}

// Retries that would take the place of those of the owner's route must be meant for the service.
func TestRetriesRideOnlyWhereThePolicyNamesTheService(t *testing.T) {
	for spec, want := range map[string]string{
		"{to: {service: payments}, retry: {numRetries: 2}}":                "retry.numRetries exact",
		"{to: {service: '*'}, retry: {numRetries: 2}}":                     "retry.numRetries unsupported",
		"{to: {selector: {tier: backend}}, retry: {numRetries: 2}}":        "retry.numRetries unsupported",
		"{to: {service: '*'}, limits: {maxRequests: 2}}":                   "limits.maxRequests exact",
		"{to: {service: payments}, timeout: {request: 1s, perTry: 100ms}}": "timeout.perTry approximate",
	} {
		f := newFixture(t)
		f.apply(twoProtocols + shopPolicy(spec))
		if text := lines(fidelityOf(f, "", "clusters-only")[0]); !strings.Contains(text, want) {
			t.Errorf("%s: %s, want %s", spec, text, want)
		}
	}
}

// A gRPC client gets no TLS: the report says so of the target, if one of its services has it, and no write is warned of it.
func TestPolicyForAServiceWithTLS(t *testing.T) {
	f := newFixture(t, withFleet(proxy("payments", "grpc", "1.70.0")))
	secured := strings.Replace(twoProtocols, "name: ledger}\nspec: {protocol: grpc", "name: ledger}\nspec: {tls: {mode: simple, caFile: /ca.pem}, protocol: grpc", 1)
	more := strings.ReplaceAll(twoProtocols[strings.LastIndex(twoProtocols, "apiVersion"):], "ledger", "plain")
	f.want(http.StatusOK, "POST", api.ApplyPath, secured+more)
	answer := f.want(http.StatusOK, "POST", api.ApplyPath, shopPolicy(`{to: {service: "*"}, timeout: {maxStream: 1s}}`))
	if strings.Contains(answer.body, "tls") {
		t.Errorf("the write is warned: %s", answer.body)
	}
	p := parse[api.Problem](t, f.want(http.StatusUnprocessableEntity, "POST", api.ApplyPath+"?requireExact=true", shopPolicy(`{to: {service: "*"}, timeout: {maxStream: 1s}}`)))
	if len(p.Errors) != 1 || p.Errors[0].Field != "spec.to" {
		t.Errorf("asked to be exact: %+v, want a fault of spec.to", p)
	}
	if got, want := lines(fidelityOf(f, "")[0]), "timeout.maxStream exact, to/grpc unsupported"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
