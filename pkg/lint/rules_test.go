package lint

import (
	"strings"
	"testing"
)

// severityOf is that of a finding among those about some manifests, empty where it is not there.
func severityOf(t *testing.T, text, code string) Severity {
	t.Helper()
	for _, f := range Run(read(t, text)) {
		if f.Code == code {
			return f.Severity
		}
	}
	return ""
}

func serviceText(name, spec string) string {
	return "apiVersion: breakwater/v1alpha1\nkind: Service\nmetadata: {namespace: shop, name: " + name + "}\nspec: {" + spec + "}\n---\n"
}

// A policy that loses for every caller that is known still holds for others, unless there can be none.
func TestAPolicyOverriddenForEveryKnownCallerIsAnInfo(t *testing.T) {
	everybody := policyText("everybody", "", "to: {service: payments}, timeout: {request: 1s}")
	orders := policyText("from-orders", "", "to: {service: payments}, from: {service: orders}, timeout: {request: 2s}")
	refunds := policyText("from-refunds", "", "to: {service: payments}, from: {service: refunds}, timeout: {request: 3s}")
	all := policyText("all", "", "to: {service: payments}, precedence: 1, timeout: {request: 4s}")
	callers := serviceText("orders", "dependsOn: [payments]") + serviceText("refunds", "dependsOn: [payments]")
	payments := serviceText("payments", "dependsOn: []")
	for name, tt := range map[string]struct {
		text string
		want Severity
	}{
		"for each of them":                     {callers + payments + everybody + orders + refunds, Info},
		"for each of them, payments is silent": {callers + serviceText("payments", "port: 80") + everybody + orders + refunds, Info},
		"for one of them":                      {callers + payments + everybody + orders, ""},
		"one does not say whom it calls":       {callers + payments + serviceText("batch", "port: 80") + everybody + orders + refunds, ""},
		"nobody is known":                      {payments + everybody + orders + refunds, ""},
		"for all, for a higher precedence":     {callers + payments + everybody + all, Info}, // all may go again
		"for all, by what is more specific": {callers + payments + policyText("above", "", "to: {service: '*'}, timeout: {request: 1s}") + everybody +
			policyText("orders", "", "to: {service: orders}, timeout: {request: 1s}") + policyText("refunds", "", "to: {service: refunds}, timeout: {request: 1s}"), Warning},
		"of a service that the caller never calls": {callers + payments + serviceText("ledger", "dependsOn: []") +
			policyText("from-orders-to-all", "", "to: {service: '*'}, from: {service: orders}, timeout: {request: 1s}") + orders, Warning},
	} {
		if got := severityOf(t, tt.text, Shadowed); got != tt.want {
			t.Errorf("%s: shadowed is %q, want %q", name, got, tt.want)
		}
	}
}

func TestZerosThatCount(t *testing.T) {
	routes := "dependsOn: [], routes: [{name: urgent, match: {path: {prefix: /urgent}}, priority: high}]"
	for name, tt := range map[string]struct {
		service, sections string
		want              string
	}{
		"requests":                                {"dependsOn: []", "limits: {maxRequests: 0}", "spec.limits.maxRequests"},
		"requests, of a tcp service":              {"protocol: tcp, localPort: 7000, dependsOn: []", "limits: {maxRequests: 0}", ""},
		"waiting":                                 {"dependsOn: []", "limits: {maxPendingRequests: 0}", "spec.limits.maxPendingRequests"},
		"one":                                     {"dependsOn: []", "limits: {maxRequests: 1, maxPendingRequests: 1, maxRetries: 1}", ""},
		"retries":                                 {"dependsOn: []", "limits: {maxRetries: 0}, retry: {numRetries: 1}", "spec.limits.maxRetries"},
		"retries, where there are none":           {"dependsOn: []", "limits: {maxRetries: 0}", ""},
		"retries, beside a budget":                {"dependsOn: []", "limits: {maxRetries: 0}, retry: {budget: {percent: 10}}", ""},
		"retries, with a fallback":                {"dependsOn: []", "limits: {maxRetries: 0}, fallback: {service: orders}", "spec.limits.maxRetries"},
		"of high priority":                        {routes, "limits: {high: {maxRequests: 0}}", "spec.limits.high.maxRequests"},
		"of high priority, where there is none":   {"dependsOn: []", "limits: {high: {maxRequests: 0}}", ""},
		"retries of high priority":                {routes, "limits: {high: {maxRetries: 0}}, retry: {numRetries: 1}", "spec.limits.high.maxRetries"},
		"retries of high priority and a fallback": {routes, "limits: {high: {maxRetries: 0}}, fallback: {service: orders}", ""},
	} {
		var found []string
		for _, f := range Run(read(t, serviceText("orders", "dependsOn: [payments]")+serviceText("payments", tt.service)+policyText("p", "", "to: {service: payments}, "+tt.sections))) {
			if f.Code == LimitOfZero {
				found = append(found, f.Path)
			}
		}
		if got := strings.Join(found, " "); got != tt.want {
			t.Errorf("%s: found at %q, want %q", name, got, tt.want)
		}
	}
}

func TestCallsThatFallBackToThemselves(t *testing.T) {
	callers := serviceText("orders", "dependsOn: [payments]") + serviceText("batch", "dependsOn: [queue]") + serviceText("queue", "dependsOn: []")
	plain := serviceText("payments", "dependsOn: []")
	all := policyText("all", "", `to: {service: "*"}, fallback: {service: queue}`)
	of := func(route string) string {
		return policyText("p", "", "to: {service: payments, route: "+route+"}, fallback: {service: payments}")
	}
	canary := serviceText("payments", "dependsOn: [], subsets: {v2: {version: v2}}, routes: [{name: canary, match: {path: {prefix: /new}}, backends: [{subset: v2}]}]")
	for name, tt := range map[string]struct {
		text string
		want Severity
	}{
		"one that is called":                 {callers + plain + all, Warning},
		"one that is called by nobody":       {strings.Replace(callers, "[queue]", "[]", 1) + plain + all, Info},
		"a route to its subset":              {callers + canary + of("canary"), ""},
		"the route that takes all the rest":  {callers + canary + of("default"), Warning},
		"two that stand in for one another":  {callers + plain + policyText("p", "", "to: {service: payments}, fallback: {service: queue}") + policyText("q", "", "to: {service: queue}, fallback: {service: payments}"), ""},
		"a backend that is its own fallback": {callers + serviceText("payments", "dependsOn: [], routes: [{name: r, backends: [{service: queue}]}]") + policyText("p", "", "to: {service: payments}, fallback: {service: queue}"), Warning},
	} {
		if got := severityOf(t, tt.text, FallbackToItself); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

// What does not happen is not found.
func TestWhatNobodyMeetsIsNotFound(t *testing.T) {
	orders, payments := serviceText("orders", "dependsOn: [payments]"), serviceText("payments", "dependsOn: [], port: 80, endpoints: [{address: 10.0.0.1}]")
	unsafe := "retry: {retryOn: [5xx], methods: all}"
	routes := "routes: [{name: r, match: {path: {prefix: /r}}}]"
	detector := policyText("detector", "", "to: {service: payments}, outlierDetection: {failurePercentage: {minimumHosts: 1, requestVolume: 50}}")
	for name, tt := range map[string]struct {
		text, code string
		want       Severity
	}{
		"calls of a caller that names the service": {orders + payments + policyText("p", "", "to: {service: payments}, from: {service: orders}, "+unsafe), RetryUnsafe, Warning},
		"calls of a caller that does not":          {orders + payments + serviceText("batch", "dependsOn: []") + policyText("p", "", "to: {service: payments}, from: {service: batch}, "+unsafe), RetryUnsafe, ""},
		"calls of a caller that is not known":      {orders + payments + policyText("p", "", "to: {service: payments}, from: {service: batch}, "+unsafe), RetryUnsafe, Warning},
		"calls of a silent one":                    {orders + payments + serviceText("batch", "port: 80") + policyText("p", "", "to: {service: payments}, from: {service: batch}, "+unsafe), RetryUnsafe, Warning},
		"a route of a tcp service":                 {orders + serviceText("payments", "protocol: tcp, localPort: 7000, dependsOn: []") + policyText("p", "", "to: {service: payments, route: default}, "+unsafe), RetryUnsafe, ""},
		"a budget that is switched off": {orders + payments + policyText("p", "", "to: {service: payments}, retry: {budget: {percent: 5}}, fallback: {service: queue}") +
			policyText("q", "", "to: {service: payments}, precedence: 1, retry: {disabled: true}") + serviceText("queue", "dependsOn: []"), BudgetBesideFallback, ""},
		"a volume above a limit":                     {orders + payments + detector + policyText("p", "", "to: {service: payments}, rateLimit: {requests: 3}"), VolumeNeverReached, Warning},
		"a volume within what may come after a rest": {orders + payments + detector + policyText("p", "", "to: {service: payments}, rateLimit: {requests: 3, burst: 20}"), VolumeNeverReached, ""},
		"a volume above the limit of one route": {orders + serviceText("payments", "dependsOn: [], port: 80, endpoints: [{address: 10.0.0.1}], "+routes) + detector +
			policyText("p", "", "to: {service: payments, route: r}, rateLimit: {requests: 3}"), VolumeNeverReached, ""},
	} {
		if got := severityOf(t, tt.text, tt.code); got != tt.want {
			t.Errorf("%s: %s is %q, want %q", name, tt.code, got, tt.want)
		}
	}
}

func TestWhereNewHostsTakeNoCall(t *testing.T) {
	check := "healthCheck: {http: {path: /healthz}}, "
	for name, tt := range map[string]struct{ sections, want string }{
		"a breaker":                      {check + "circuitBreaker: {failureThreshold: 3}", "spec.circuitBreaker"},
		"a breaker without a check":      {"circuitBreaker: {failureThreshold: 3}", ""},
		"a breaker with a panic":         {check + "circuitBreaker: {failureThreshold: 3}, loadBalancing: {panicThreshold: 1}", ""},
		"a threshold of its own":         {check + "loadBalancing: {panicThreshold: 0}", "spec.loadBalancing.panicThreshold"},
		"a check alone":                  {check + "timeout: {request: 1s}", ""},
		"calls that fail in a panic":     {check + "loadBalancing: {failTrafficOnPanic: true}", "spec.loadBalancing.failTrafficOnPanic"},
		"no calls that fail in a panic":  {check + "loadBalancing: {failTrafficOnPanic: false}", ""},
		"a check that is switched off":   {"healthCheck: {disabled: true}, circuitBreaker: {failureThreshold: 3}", ""},
		"a breaker that is switched off": {check + "circuitBreaker: {disabled: true}", ""},
	} {
		got := ""
		for _, f := range Run(read(t, serviceText("orders", "dependsOn: [payments]")+serviceText("payments", "dependsOn: []")+policyText("p", "", "to: {service: payments}, "+tt.sections))) {
			if f.Code == NewHostsTakeNoCall {
				got += f.Path
			}
		}
		if got != tt.want {
			t.Errorf("%s: found at %q, want %q", name, got, tt.want)
		}
	}
}
