package policy

import (
	"os"
	"strings"
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// read is all that is wrong with a policy of namespace shop whose spec is given as YAML, one fault a line.
func read(t *testing.T, namespace, spec string) (Policy, string) {
	t.Helper()
	text := "apiVersion: breakwater/v1alpha1\nkind: Policy\nmetadata: {namespace: " + namespace + ", name: p}\nspec: " + spec + "\n"
	docs, errs := manifest.Decode("", []byte(text), manifest.YAML, manifest.Limits{})
	if len(docs) != 1 {
		t.Fatalf("%d documents: %v", len(docs), errs)
	}
	p, more := manifest.Into[Spec](docs[0])
	errs = append(append(errs, more...), docs[0].Locate(Validate(&p))...)
	var lines []string
	for _, e := range errs.Sorted() {
		lines = append(lines, strings.TrimPrefix(e.Field, "spec.")+": "+e.Message)
	}
	return p, strings.Join(lines, "\n")
}

func TestSectionFaults(t *testing.T) {
	for _, tt := range []struct{ sections, want string }{
		{"timeout: {request: 3s, perTry: 900ms}", ""},
		{"timeout: {request: none, maxStream: 1h}", ""},
		{"timeout: {request: 1s, perTry: 1s}", "timeout.perTry: must be less than timeout.request (1s)"},
		{"timeout: {request: 1s, perTry: 2s, perTryIdle: 3s}", "timeout.perTry: must be less than timeout.request (1s)\n" +
			"timeout.perTryIdle: must be less than timeout.request (1s)\ntimeout.perTryIdle: must be less than timeout.perTry (2s)"},
		{"timeout: {request: 1s, maxStream: 1h}", "timeout.maxStream: can't hold beside timeout.request (1s)"},
		{"timeout: {request: 5}", "timeout.request: write a unit, such as 5s or 5ms"},
		{"timeout: {request: -5s}", "timeout.request: must not be negative"},
		{"timeout: {request: 0s}", "timeout.request: write \"none\" for no limit"},
		{"timeout: {request: 0}", "timeout.request: write \"none\" for no limit"},
		{"timeout: {request: '0'}", "timeout.request: write \"none\" for no limit"},
		{"timeout: {request: off}", "timeout.request: write \"none\" for no limit"},
		{"timeout: {request: infinity}", "timeout.request: write \"none\" for no limit"},
		{"timeout: {connect: 0}", "timeout.connect: must be at least 1ms"},
		{"timeout: {connect: 0s}", "timeout.connect: must be at least 1ms"},
		{"timeout: {connect: infinity}", "timeout.connect: \"infinity\" is not a duration: write a number with a unit, such as 250ms, 5s or 1m30s"},
		{"timeout: {request: 9999999h}", "timeout.request: must be at most 24h"},
		{"timeout: {request: 9999999m}", "timeout.request: must be at most 24h"},
		{"retry: {numRetries: 101}", "retry.numRetries: must be at most 100"},
		{"retry: {numRetries: 4294967296}", "retry.numRetries: must be at most 100"},
		{"timeout: {request: 100h}", "timeout.request: must be at most 24h"},
		{"timeout: {connect: none}", "timeout.connect: can't be \"none\": write a duration, such as 5s"},
		{"timeout: {deadline: {keepPercent: 90}}", ""}, // beside an inherited request
		{"timeout: {deadline: {keepPercent: 0, minimum: none}}", "timeout.deadline.keepPercent: must be at least 1\ntimeout.deadline.minimum: can't be \"none\": write a duration, such as 5s"},
		{"timeout: {request: 1s, deadline: {minimum: 1s}}", "timeout.deadline: has a minimum that must be less than timeout.request (1s)"},
		{"timeout: {}", "timeout: is empty: set a field or leave it out"},
		{"timeout: {disabled: true}", ""},
		{"timeout: {disabled: true, request: 1s}", "timeout.request: can't stand beside timeout.disabled: true"},
		{"timeout: {disabled: false, request: 1s}", "timeout.disabled: is only ever true: leave it out"},
		{"timeout: {observe: true, request: 1s}", ""},
		{"timeout: {observe: false, request: 1s}", "timeout.observe: is only ever true: leave it out"},
		{"timeout: {observe: true}", "timeout: has nothing to observe: set what would be enforced"},
		{"timeout: {observe: true, disabled: true}", "timeout.observe: can't stand beside timeout.disabled: true"},
		{"circuitBreaker: {observe: true}", ""},
		{"failureCriteria: {observe: true}", "failureCriteria.observe: belongs to the sections that go by the criteria, such as outlierDetection.observe"},
		{"retry: {numRetries: 0}", "retry.numRetries: must be at least 1: to switch retries off write disabled: true"},
		{"retry: {numRetries: 1000000000}", "retry.numRetries: must be at most 100"},
		{"retry: {NUMRETRIES: 1}", "retry.NUMRETRIES: unknown field: did you mean numRetries?"},
		{"retry: {retryOn: [5xx, conect-failure]}", "retry.retryOn[1]: \"conect-failure\" is unknown: did you mean connect-failure?"},
		{"retry: {retryOn: [5xx, 5xx]}", "retry.retryOn[1]: \"5xx\" is there twice"},
		{"retry: {retryOn: [failure-criteria]}", ""},
		{"failureCriteria: {http: {statuses: [5xx, 429], exceptStatuses: [501], headers: [{name: x-app-error, exact: 'true'}]}, grpc: {codes: [unavailable]}}", ""},
		{"failureCriteria: {http: {statuses: [5xx, '5xx', 600], headers: [{name: X}]}}", "failureCriteria.http.statuses[1]: \"5xx\" is there twice\nfailureCriteria.http.statuses[2]: must be a status from 100 to 599, or a hundred of them such as \"5xx\"\n" +
			"failureCriteria.http.headers[0]: needs exact or present\nfailureCriteria.http.headers[0].name: must be in lower case: x"},
		{"failureCriteria: {grpc: {codes: [unavailble, ok]}}", "failureCriteria.grpc.codes[0]: \"unavailble\" is unknown: did you mean unavailable?\n" +
			"failureCriteria.grpc.codes[1]: \"ok\" is unknown: must be one of " + strings.Join(grpcCodes, ", ")},
		{"admissionControl: {successRatePercent: 0, aggression: 0.5, window: 1500ms, maxRejectionPercent: 101}", "admissionControl.successRatePercent: must be at least 1\nadmissionControl.aggression: must be at least 1\n" +
			"admissionControl.window: must be whole seconds, at least 1s\nadmissionControl.maxRejectionPercent: must be at most 100"},
		{"admissionControl: {aggression: 1.5, window: 2m, rpsThreshold: 5}", ""},
		{"retry: {retryOn: [503]}", "retry.retryOn[0]: must be text, not a number: put it in quotes"},
		{"retry: {retryOn: [retriable-status-codes]}", "retry.retryOn: has retriable-status-codes, which needs retry.retriableStatusCodes"},
		{"retry: {retriableStatusCodes: [503]}", "retry.retriableStatusCodes: needs retriable-status-codes in retry.retryOn"},
		{"retry: {retryOn: [retriable-status-codes], retriableStatusCodes: [99, 600]}", "retry.retriableStatusCodes[0]: must be at least 100\nretry.retriableStatusCodes[1]: must be at most 599"},
		{"retry: {retriableHeaders: [{name: x}]}", "retry.retriableHeaders: needs retriable-headers in retry.retryOn\nretry.retriableHeaders[0]: needs exact or present"},
		{"retry: {retryOn: [retriable-headers], retriableHeaders: [{name: X-Retry, present: true}]}", "retry.retriableHeaders[0].name: must be in lower case: x-retry"},
		{"retry: {retryOn: [retriable-headers], retriableHeaders: [{name: ':status', exact: '500'}]}", ""},
		{"retry: {retryOn: [retriable-headers], retriableHeaders: [{name: ':path', exact: '500'}]}", "retry.retriableHeaders[0].name: the only pseudo header of a response is :status"},
		{"retry: {retryOn: [retriable-headers], retriableHeaders: [{name: 'a b', exact: x, present: true}]}", "retry.retriableHeaders[0]: takes exact or present, not both\nretry.retriableHeaders[0].name: \"a b\" can't be the name of a header"},
		{"retry: {methods: idempotent}", ""},
		{"retry: {methods: [GET, POST]}", ""},
		{"retry: {methods: idempotant}", "retry.methods: \"idempotant\" is unknown: did you mean idempotent?"},
		{"retry: {methods: [get]}", "retry.methods[0]: \"get\" is unknown: did you mean GET?"},
		{"retry: {methods: 3}", "retry.methods: must be safe, idempotent, all, or a list of methods such as [GET, PUT]"},
		{"retry: {methods: []}", "retry.methods: must be safe, idempotent, all, or a list of methods such as [GET, PUT]"},
		{"retry: {backOff: {base: 1s, max: 100ms}}", "retry.backOff.base: must be at most retry.backOff.max (100ms)"},
		{"retry: {backOff: 25ms}", "retry.backOff: must be an object with fields, not \"25ms\""},
		{"retry: {rateLimitedBackOff: {max: 1m}}", "retry.rateLimitedBackOff.resetHeaders: is required: name at least one header, such as retry-after"},
		{"retry: {rateLimitedBackOff: {resetHeaders: [{name: retry-after, format: minutes}]}}", "retry.rateLimitedBackOff.resetHeaders[0].format: \"minutes\" is unknown: must be one of seconds, unix-timestamp"},
		{"retry: {bufferBytes: 0}", "retry.bufferBytes: must be at least 1"},
		{"retry: {budget: {percent: 101}}", "retry.budget.percent: must be at most 100"},
		{"limits: {maxRequests: 0, maxPendingRequests: unlimited}", ""},
		{"limits: {maxConnections: 0}", "limits.maxConnections: must be at least 1"},
		{"limits: {maxRequests: lots}", "limits.maxRequests: must be a number or \"unlimited\", not \"lots\""},
		{"limits: {maxRequests: -1}", "limits.maxRequests: must not be negative"},
		{"limits: {perHost: {}}", "limits.perHost: is empty: set a field or leave it out"},
		{"bulkhead: {maxConcurrent: 20}", ""},
		{"bulkhead: {maxWaiting: 20}", "bulkhead.maxConcurrent: is required"},
		{"bulkhead: {maxConcurrent: 0}", "bulkhead.maxConcurrent: must be at least 1"},
		{"bulkhead: {maxConcurrent: 20}, limits: {maxRequests: 10, maxPendingRequests: 5}", "limits.maxRequests: can't stand beside bulkhead, which sets it: write one of the two\nlimits.maxPendingRequests: can't stand beside bulkhead, which sets it: use bulkhead.maxWaiting"},
		{"bulkhead: {disabled: true}, limits: {maxRequests: 10}", ""},
		{"outlierDetection: {consecutive5xx: 0}", "outlierDetection.consecutive5xx: must be at least 1: to switch the detector off set outlierDetection.enforcingPercent.consecutive5xx: 0"},
		{"outlierDetection: {maxEjectionPercent: 101}", "outlierDetection.maxEjectionPercent: must be at most 100"},
		{"outlierDetection: {baseEjectionTime: 1m, maxEjectionTime: 30s}", "outlierDetection.baseEjectionTime: must be at most outlierDetection.maxEjectionTime (30s)"},
		{"outlierDetection: {consecutiveLocalOriginFailure: 3}", "outlierDetection.consecutiveLocalOriginFailure: needs true for outlierDetection.splitLocalOriginErrors"},
		{"outlierDetection: {successRate: {}}", "outlierDetection.successRate: is empty: set a field or leave it out"},
		{"outlierDetection: {useFailureCriteria: true}", ""},
		{"outlierDetection: {interval: 3s}", ""}, // tunes an inherited detector
		{"circuitBreaker: {failureThreshold: 0}", "circuitBreaker.failureThreshold: must be at least 1: to switch the breaker off write circuitBreaker.disabled: true"},
		{"circuitBreaker: {maxConnections: 5}", "circuitBreaker.maxConnections: belongs to another section: use limits.maxConnections"},
		{"circuitBreaker: {scope: region}", "circuitBreaker.scope: \"region\" is unknown: must be one of host, service"},
		{"circuitBreaker: {failureThreshold: 5}, outlierDetection: {interval: 1s}", "circuitBreaker: can't stand beside outlierDetection, to which it expands: write one of the two"},
		{"circuitBreaker: {disabled: true}, outlierDetection: {consecutive5xx: 3}", ""},
		{"loadBalancing: {algorithm: ring-hash}", ""}, // of what another policy names
		{"loadBalancing: {algorithm: maglev, hashOn: [{header: x-user, terminal: true}, {cookie: {name: s, ttl: none, path: /}}, {queryParameter: q}, {sourceAddress: true}]}", ""},
		{"loadBalancing: {algorithm: random, hashOn: [{header: x-user}]}", "loadBalancing.hashOn: needs ring-hash or maglev for loadBalancing.algorithm (random)"},
		{"loadBalancing: {hashOn: []}", "loadBalancing.hashOn: is empty: name at least one or leave it out"},
		{"loadBalancing: {hashOn: [{header: X-User}, {header: a, queryParameter: b}, {terminal: true}, {sourceAddress: false}, {cookie: {path: /}}, {cookie: {name: 'a b'}}]}",
			"loadBalancing.hashOn[0].header: must be in lower case: x-user\nloadBalancing.hashOn[1]: needs one of header, cookie, queryParameter and sourceAddress\n" +
				"loadBalancing.hashOn[2]: needs one of header, cookie, queryParameter and sourceAddress\nloadBalancing.hashOn[3].sourceAddress: is only ever true: leave it out\n" +
				"loadBalancing.hashOn[4].cookie.name: is required\nloadBalancing.hashOn[4].cookie.path: needs loadBalancing.hashOn[4].cookie.ttl: without it no cookie is given\n" +
				"loadBalancing.hashOn[5].cookie.name: \"a b\" can't be the name of a cookie"},
		{"loadBalancing: {algorithm: ring-hash, failTrafficOnPanic: true}", "loadBalancing.failTrafficOnPanic: needs round-robin, least-request or random for loadBalancing.algorithm (ring-hash)"},
		{"loadBalancing: {localityWeighted: true, failTrafficOnPanic: true}", "loadBalancing.failTrafficOnPanic: can't hold beside loadBalancing.localityWeighted (true)"},
		{"loadBalancing: {slowStart: {window: 1m, aggression: 1.5}}", ""},
		{"loadBalancing: {algorithm: random, slowStart: {aggression: 0.001}}", "loadBalancing.slowStart: needs round-robin or least-request for loadBalancing.algorithm (random)\n" +
			"loadBalancing.slowStart.window: is required: how long a host takes to its whole share\nloadBalancing.slowStart.aggression: must be at least 0.01"},
		{"loadBalancing: {slowStart: {window: 1m, aggression: 101}}", "loadBalancing.slowStart.aggression: must be at most 100"},
		{"loadBalancing: {slowStart: {window: 1m, aggression: '1'}}", "loadBalancing.slowStart.aggression: must be a number, not text: remove the quotes"},
		{"loadBalancing: {slowStart: {window: 1m, aggression: 1e3}}", "loadBalancing.slowStart.aggression: must be written in decimal digits"},
		{"loadBalancing: {slowStart: {window: 1m, aggression: fast}}", "loadBalancing.slowStart.aggression: must be a number, not \"fast\""},
		{"healthCheck: {tcp: {}}", ""},
		{"healthCheck: {interval: 5s}", ""}, // tunes an inherited one
		{"healthCheck: {http: {path: /a}, grpc: {}, tcp: {}}", "healthCheck: takes http, grpc or tcp, not more than one of them"},
		{"healthCheck: {http: {}}", "healthCheck.http: is empty: set a field or leave it out"},
		{"healthCheck: {http: {method: GET}}", "healthCheck.http.path: is required: the path that tells of a host's health, such as /healthz"},
		{"healthCheck: {http: {path: healthz, host: 'a b', expectedStatuses: [200, 200]}}", "healthCheck.http.path: must begin with /\nhealthCheck.http.host: must have visible ASCII characters only, and no blanks\nhealthCheck.http.expectedStatuses[1]: \"200\" is there twice"},
		{"healthCheck: {http: {path: /, expectedStatuses: [99]}}", "healthCheck.http.expectedStatuses[0]: must be a status from 100 to 599, or a hundred of them such as \"5xx\""},
		{"healthCheck: {http: {path: /, expectedStatuses: [6xx]}}", "healthCheck.http.expectedStatuses[0]: must be a status from 100 to 599, or a hundred of them such as \"5xx\""},
		{"healthCheck: {tcp: {receive: ['']}, timeout: 61s}", "healthCheck.tcp.receive[0]: is empty\nhealthCheck.timeout: must be at most 1m"},
		{"loadBalancing: {algorithm: rand}", "loadBalancing.algorithm: \"rand\" is unknown: did you mean random?"},
		{"loadBalancing: {panicThreshold: 101}", "loadBalancing.panicThreshold: must be at most 100"},
		{"hedge: {onPerTryTimeout: true}, errorMapping: {gateway: true}", ""},
		{"rateLimit: {interval: 2s}", ""}, // tunes an inherited limit
		{"rateLimit: {requests: 0, interval: 49ms}", "rateLimit.requests: must be at least 1: to let no call through write fault, to lift the limit disabled: true\nrateLimit.interval: must be at least 50ms"},
		{"fallback: {response: {status: 199}}", "fallback.response.status: must be at least 200"},
		{"fallback: {response: {status: 204, body: x}}", "fallback.response.body: can't stand beside status 204, which has none"},
		{"fallback: {response: {contentType: \"a\\nb\"}}", "fallback.response.contentType: \"a\\nb\" is no media type, such as application/json"},
		{"fallback: {response: {body: " + strings.Repeat("x", 65537) + "}}", "fallback.response.body: has 65537 bytes, and 65536 are the most"},
		{"fallback: {response: {status: 200}, when: [5xx, 404]}", "fallback.when[1]: must be text, not a number: put it in quotes"},
		{"fallback: {response: {status: 200}, when: [5xx, 5xx, refused]}", "fallback.when[1]: \"5xx\" is there twice\nfallback.when[2]: \"refused\" is unknown: must be one of 5xx, gateway-error, reset, connect-failure, unavailable"},
		{"fallback: {service: queue}", ""},
		{"fallback: {service: depot/queue}", ""},
		{"fallback: {service: Queue}", "fallback.service: \"Queue\" must consist of a-z, 0-9 and '-' only"},
		{"fallback: {service: queue, response: {status: 200}}", "fallback: takes service or response, not more than one of them"},
		{"expiresAt: 2030-01-01T00:00:00Z", ""},
		{"expiresAt: '2030-01-01T00:00:00+01:00', retry: {numRetries: 1}", ""},
		{"expiresAt: 2030-01-01", "expiresAt: \"2030-01-01\" is no moment: write a date and a time with its zone, such as 2026-11-24T18:00:00Z or 2026-11-24T18:00:00+01:00"},
		{"expiresAt: 2030-01-01T00:00:00", "expiresAt: \"2030-01-01T00:00:00\" is no moment: write a date and a time with its zone, such as 2026-11-24T18:00:00Z or 2026-11-24T18:00:00+01:00"},
		{"expiresAt: 2h", "expiresAt: \"2h\" is no moment: write a date and a time with its zone, such as 2026-11-24T18:00:00Z or 2026-11-24T18:00:00+01:00"},
		{"expiresAt: 7", "expiresAt: must be a moment, not a number: write a date and a time with its zone, such as 2026-11-24T18:00:00Z or 2026-11-24T18:00:00+01:00"},
		{"fault: {abort: {status: 503}}", "expiresAt: is required beside fault: when it ends by itself, such as expiresAt: 2026-11-24T18:00:00Z"},
		{"fault: {disabled: true}", ""},
		{"fault: {abort: {status: 503, percent: 5}, delay: {duration: 1s, percent: 6}}, expiresAt: 2030-01-01T00:00:00Z", ""},
		{"fault: {abort: {percent: 5}, delay: {percent: 0}}, expiresAt: 2030-01-01T00:00:00Z", "fault.abort: needs status or grpcStatus: what is answered in place of the service\n" +
			"fault.delay.duration: is required: how long a try is held back\nfault.delay.percent: must be at least 1: to let all calls through write disabled: true"},
		{"fault: {abort: {status: 503, grpcStatus: internal}}, expiresAt: 2030-01-01T00:00:00Z", "fault.abort: takes status or grpcStatus, not both"},
		{"fault: {abort: {status: 200}}, expiresAt: 2030-01-01T00:00:00Z", "fault.abort.status: must be at least 400"},
		{"fault: {abort: {grpcStatus: unavailabel}}, expiresAt: 2030-01-01T00:00:00Z", "fault.abort.grpcStatus: \"unavailabel\" is unknown: did you mean unavailable?"},
		{"fault: {abort: {grpcStatus: 14}}, expiresAt: 2030-01-01T00:00:00Z", "fault.abort.grpcStatus: must be text, not a number: put it in quotes"},
		{"retrys: {numRetries: 1}", "retrys: unknown field: did you mean retry?"},
		{"numRetries: 3", "numRetries: unknown field: did you mean retry.numRetries?"},
		{"precedence: 1.5", "precedence: must be a whole number, in digits"},
		{"precedence: -7, retry: {numRetries: 1}", ""},
		{"retry: {numRetries: many, retryOn: [nope]}, timeout: {request: 5}, limits: null", "retry.numRetries: must be a whole number, not \"many\"\n" +
			"retry.retryOn[0]: \"nope\" is unknown: must be one of " + strings.Join(retryTokens, ", ") + "\ntimeout.request: write a unit, such as 5s or 5ms\nlimits: null is no value: leave the field out"},
	} {
		if _, got := read(t, "shop", "{to: {service: payments}, "+tt.sections+"}"); got != tt.want {
			t.Errorf("%s\n got %s\nwant %s", tt.sections, got, tt.want)
		}
	}
}

func TestTargetFaults(t *testing.T) {
	const root = manifest.SystemNamespace
	for _, tt := range []struct{ namespace, sides, want string }{
		{"shop", "to: {service: payments}", ""},
		{"shop", "to: {service: '*'}, from: {selector: {tier: web}}", ""},
		{"shop", "to: {namespace: bank, service: ledger}, from: {service: orders}", ""},
		{"shop", "to: {service: payments}, from: {namespace: bank, service: ledger}", ""},
		{root, "to: {namespace: '*', service: '*'}, from: {namespace: '*', selector: {tier: web}}", ""},
		{root, "to: {namespace: shop, service: orders}, from: {namespace: bank, service: ledger}", ""},
		{"shop", "from: {service: orders}", "to: needs service or selector: name a service, or write service: \"*\" for every one of the namespace"},
		{"shop", "to: {namespace: bank}", "to: needs service or selector: name a service, or write service: \"*\" for every one of the namespace"},
		{"shop", "to: {service: a, selector: {x: y}}", "to: takes service or selector, not both"},
		{"shop", "to: {selector: {}}", "to.selector: is empty: name at least one label"},
		{"shop", "to: {selector: {a b: c}}", "to.selector[\"a b\"]: the key must have 1 to 63 characters of a-z, A-Z, 0-9, '-', '_', '.' and begin and end with a letter or digit"},
		{"shop", "to: {service: Payments}", "to.service: \"Payments\" must consist of a-z, 0-9 and '-' only"},
		{"shop", "to: {service: shop/payments}", "to.service: \"shop/payments\" must consist of a-z, 0-9 and '-' only"},
		{"shop", "to: {namespace: '*', service: '*'}", "to.namespace: \"*\" is for policies in breakwater-system only"},
		{root, "to: {namespace: '*', service: orders}", "to.service: must be \"*\", or a selector, where to.namespace is \"*\""},
		{"shop", "to: {service: a}, from: {namespace: '*', selector: {x: y}}", "from.namespace: \"*\" is for policies in breakwater-system only"},
		{"shop", "to: {service: a}, from: {service: '*'}", "from.service: leave from out to cover every caller"},
		{"shop", "to: {service: a}, from: {namespace: shop}", "from: needs service or selector; leave from out to cover every caller"},
		{"shop", "to: {service: a}, from: {namespace: bank}", "from: needs service or selector: all callers of another namespace can't be named yet"},
		{"shop", "to: {service: a}, from: {namespace: bank, service: '*'}", "from.service: must be one service, or write a selector: all callers of another namespace can't be named yet"},
		{"shop", "to: {namespace: bank, service: ledger}, from: {namespace: bank, service: web}", "from.namespace: must be the policy's own (shop) where the called service is another namespace's"},
		{"shop", "to: {service: a, route: checkout}", ""},
		{"shop", "to: {service: a, route: default}", ""},
		{"shop", "to: {namespace: bank, service: a, route: checkout}", ""},
		{"shop", "to: {service: a, route: Checkout}", "to.route: \"Checkout\" must consist of a-z, 0-9 and '-' only"},
		{"shop", "to: {service: '*', route: checkout}", "to.service: must be one service, whose route is meant"},
		{"shop", "to: {selector: {x: y}, route: checkout}", "to.service: must be one service, whose route is meant"},
		{"shop", "to: {service: a, route: checkout, subset: v1}", "to: takes subset or route, not both: a subset has the fields of scope cluster, a route those of scope route"},
		{"shop", "to: {service: a, subset: v1}", "retry.numRetries: is of scope route: a policy that names a subset can't set it; write it in one for the service or a route"},
		{"shop", "to: payments", "to: must be an object with fields, not \"payments\""},
	} {
		if _, got := read(t, tt.namespace, "{"+tt.sides+", retry: {numRetries: 1}}"); got != tt.want {
			t.Errorf("%s\n got %s\nwant %s", tt.sides, got, tt.want)
		}
	}
}

// A route differs in what acts on a route, a subset in what acts on a cluster. A section of both is judged field by field.
func TestScopeFaults(t *testing.T) {
	const notRoute = ": is of scope cluster: a policy that names a route can't set it; write it in one for the service or a subset"
	const notSubset = ": is of scope route: a policy that names a subset can't set it; write it in one for the service or a route"
	for _, tt := range []struct{ part, sections, want string }{
		{"route: r", "timeout: {request: 1s}", ""},
		{"route: r", "timeout: {request: 1s, connect: 1s}", "timeout.connect" + notRoute},
		{"route: r", "retry: {budget: {percent: 10}}", "retry.budget" + notRoute},
		{"route: r", "retry: {disabled: true}", ""},
		{"route: r", "limits: {maxRequests: 1}", "limits" + notRoute},
		{"route: r", "limits: {disabled: true}", "limits" + notRoute},
		{"route: r", "circuitBreaker: {failureThreshold: 5}", "circuitBreaker" + notRoute},
		{"subset: s", "limits: {maxRetries: 1}, bulkhead: {maxConcurrent: 3}, circuitBreaker: {failureThreshold: 5}", ""},
		{"subset: s", "retry: {budget: {percent: 10}}, timeout: {connect: 1s}", ""},
		{"subset: s", "retry: {numRetries: 1, budget: {percent: 10}}", "retry.numRetries" + notSubset},
		{"subset: s", "timeout: {perTry: 1s}", "timeout.perTry" + notSubset},
		{"subset: s", "adaptiveConcurrency: {maxConcurrency: 9}", "adaptiveConcurrency: is of scope service: a policy that names a subset can't set it; write it in one for the service"},
		{"route: r", "adaptiveConcurrency: {disabled: true}", "adaptiveConcurrency: is of scope service: a policy that names a route can't set it; write it in one for the service"},
	} {
		if _, got := read(t, "shop", "{to: {service: payments, "+tt.part+"}, "+tt.sections+"}"); got != tt.want {
			t.Errorf("%s %s\n got %s\nwant %s", tt.part, tt.sections, got, tt.want)
		}
	}
}

// What a service falls back to is another one, but for a route of it, which may lead to another one, and for what covers many.
func TestFallbackIsAnotherService(t *testing.T) {
	const itself = "fallback.service: must be another service than the called one, which has failed by then: for more tries set retry.numRetries; for a route that leads elsewhere write a policy with to.route"
	for _, tt := range []struct{ to, service, want string }{
		{"service: payments", "queue", ""},
		{"service: payments", "payments", itself},
		{"service: payments", "shop/payments", itself},
		{"service: payments", "bank/payments", ""},
		{"namespace: bank, service: payments", "payments", ""},
		{"namespace: bank, service: payments", "bank/payments", itself},
		{"service: payments, route: canary", "payments", ""},
		{"service: '*'", "queue", ""},
		{"selector: {tier: leaf}", "queue", ""},
	} {
		if _, got := read(t, "shop", "{to: {"+tt.to+"}, fallback: {service: "+tt.service+"}}"); got != tt.want {
			t.Errorf("to {%s} with a fallback to %s\n got %s\nwant %s", tt.to, tt.service, got, tt.want)
		}
	}
}

func TestEveryFieldIsDocumented(t *testing.T) {
	effects := []string{"in place", "new connections only", "rebuilds the cluster", "in place; interval rebuilds the cluster", "in place; connect and connectionIdle rebuild the cluster",
		"in place; budget.interval rebuilds the cluster", "in place; perHost.maxConnections rebuilds the cluster", "drains the application's connections",
		"in place; rebuilds the cluster where ejection or admission control goes by it"}
	fields := manifest.Describe[Spec]("spec")
	if len(fields) < 90 {
		t.Fatalf("%d fields found, want all", len(fields))
	}
	for _, f := range fields {
		if f.Doc == "" || f.Default == "" {
			t.Errorf("%s lacks doc or bwdefault", f.Path)
		}
		if strings.Count(f.Path, ".") < 2 || strings.HasPrefix(f.Path, "spec.to.") || strings.HasPrefix(f.Path, "spec.from.") {
			continue
		}
		both := strings.HasPrefix(f.Path, "spec.failureCriteria.")
		if f.Scope != scopeRoute && f.Scope != scopeCluster && f.Scope != scopeService && !both {
			t.Errorf("%s: scope %q", f.Path, f.Scope)
		}
		if !strings.Contains(strings.Join(effects, "|"), f.Effect) || f.Effect == "" {
			t.Errorf("%s: effect %q", f.Path, f.Effect)
		}
		if (f.Type == "number" || f.Type == "count" || f.Type == "duration") && f.Unit == "" {
			t.Errorf("%s is a %s without a unit", f.Path, f.Type)
		}
	}
}

func TestWarnings(t *testing.T) {
	for sections, want := range map[string]string{
		"retry: {numRetries: 1}": "",
		"precedence: 1":          "spec",
	} {
		p, faults := read(t, "shop", "{to: {service: a}, "+sections+"}")
		if faults != "" {
			t.Fatal(faults)
		}
		var got []string
		for _, w := range Warnings(&p) {
			got = append(got, w.Field)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: warnings for %v, want %s", sections, got, want)
		}
	}
}

// FuzzPolicy feeds the whole way from text to an effective policy.
func FuzzPolicy(f *testing.F) {
	f.Add("{to: {service: a}, retry: {numRetries: 1}}", "{to: {service: '*'}, timeout: {request: 1s}}")
	f.Add("{to: {selector: {a: b}}, circuitBreaker: {scope: host}}", "{to: {service: a}, outlierDetection: {disabled: true}}")
	f.Add("{to: {service: a}, retry: {methods: [GET], rateLimitedBackOff: {resetHeaders: [{name: a}]}}}", "{to: {service: a}, bulkhead: {maxConcurrent: 1}}")
	if data, err := os.ReadFile("testdata/article.txtar"); err == nil {
		f.Add(string(data), "")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		var all []*Compiled
		for i, spec := range []string{a, b} {
			text := "apiVersion: breakwater/v1alpha1\nkind: Policy\nmetadata: {namespace: shop, name: " + string(rune('a'+i)) + "}\nspec: " + spec + "\n"
			docs, errs := manifest.Decode("", []byte(text), manifest.YAML, manifest.Limits{})
			for _, d := range docs {
				p, more := manifest.Into[Spec](d)
				if more = append(more, Validate(&p)...); len(errs)+len(more) == 0 && i < 2 {
					all = append(all, Compile(&p))
				}
			}
		}
		for _, c := range all {
			Warnings(c.Policy)
		}
		Conflicts(all, nil, nil, nil)
		Check(nil, nil, all, nil)
		e, _ := Merge(Service{Protocol: "grpc"}, all)
		if found := e.check(); len(found) > 0 {
			t.Errorf("invalid result: %v", found)
		}
	})
}
