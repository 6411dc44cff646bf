package draw

// words are values, as JSON, of the fields whose type and tag don't say what they may hold.
var words = map[string][]string{
	"expiresAt": {`"2099-01-01T00:00:00Z"`},

	// Mostly such as hold beside those of another policy.
	"timeout.request":          {`"3s"`, `"10s"`, `"1m"`, `"none"`},
	"timeout.perTry":           {`"200ms"`, `"900ms"`, `"1s"`, `"3s"`},
	"timeout.perTryIdle":       {`"1ms"`, `"100ms"`, `"200ms"`},
	"timeout.deadline.minimum": {`"1ms"`, `"20ms"`},
	"timeout.maxStream":        {`"none"`, `"none"`, `"1m"`},

	"outlierDetection.baseEjectionTime": {`"50ms"`, `"1s"`, `"30s"`},
	"outlierDetection.maxEjectionTime":  {`"30s"`, `"1h"`},

	"failureCriteria.http.statuses":       {`["5xx"]`, `["5xx", "429"]`, `["1xx", "2xx", "3xx", "4xx", "5xx"]`, `["503"]`},
	"failureCriteria.http.exceptStatuses": {`["501"]`, `["5xx"]`, `["2xx", "404"]`},
	"failureCriteria.http.headers":        {`[{"name": "x-error", "present": true}]`, `[{"name": ":status", "exact": "503"}, {"name": "x-ok", "present": false}]`},
	"failureCriteria.grpc.codes":          {`["internal"]`, `["unavailable", "unknown"]`, `["cancelled", "data-loss", "unauthenticated"]`},

	"retry.retryOn": {
		`["5xx"]`, `["gateway-error", "reset"]`, `["connect-failure", "refused-stream"]`, `["reset-before-request", "retriable-4xx"]`, `["envoy-ratelimited"]`,
		`["failure-criteria"]`,
		`["retriable-status-codes"]`, `["retriable-status-codes", "reset"]`, `["5xx", "retriable-status-codes", "retriable-headers"]`,
		`["retriable-headers"]`, `["retriable-headers", "connect-failure"]`, `["retriable-headers", "internal"]`,
		`["unavailable", "resource-exhausted"]`, `["cancelled", "deadline-exceeded", "internal"]`,
	},
	"retry.retriableHeaders":                       {`[{"name": "x-retry", "present": true}]`, `[{"name": ":status", "exact": "503"}, {"name": "x-retry", "present": false}]`},
	"retry.methods":                                {`"safe"`, `"idempotent"`, `"all"`, `["GET"]`, `["PUT", "GET", "POST"]`},
	"retry.rateLimitedBackOff.resetHeaders[].name": {`"retry-after"`, `"x-ratelimit-reset"`},

	"loadBalancing.hashOn": {
		`[{"header": "x-user", "terminal": true}, {"sourceAddress": true}]`, `[{"queryParameter": "user"}]`, `[{"cookie": {"name": "sid", "ttl": "1s", "path": "/a"}}]`,
		`[{"cookie": {"name": "sid"}}, {"header": "x-session"}]`,
	},

	// Hosts that are asked a hundred times a second keep a machine busy.
	"healthCheck.interval":          {`"1s"`, `"2s"`, `"1h"`},
	"healthCheck.noTrafficInterval": {`"1s"`, `"30s"`},

	"healthCheck.http.path":             {`"/healthz"`, `"/a?b=c"`},
	"healthCheck.http.host":             {`"check.example.com"`},
	"healthCheck.http.expectedStatuses": {`["200"]`, `["2xx", "404"]`, `["201", "4xx"]`},
	"healthCheck.grpc.service":          {`"pay"`, `"a.b.C"`},
	"healthCheck.grpc.authority":        {`"check.example.com"`},
	"healthCheck.tcp.send":              {`"ping"`, `"a"`},
	"healthCheck.tcp.receive":           {`["pong"]`, `["a", "b"]`},

	"fault.abort.grpcStatus": {`"unavailable"`, `"internal"`},

	// Of a service.
	"discovery": {`{"dns": {"host": "localhost", "port": 1}}`, `{"dns": {"host": "localhost", "port": 1, "refresh": "1m"}}`},

	"fallback.service":              {`"shop/s1"`, `"shop/s2"`, `"bank/s3"`},
	"fallback.when":                 {`["5xx"]`, `["gateway-error", "reset"]`, `["connect-failure"]`, `["unavailable"]`},
	"fallback.response.body":        {`"sorry"`, `"{\"a\": \"%100\"}"`, `""`},
	"fallback.response.contentType": {`"text/plain"`, `"application/json; charset=utf-8"`},
}
