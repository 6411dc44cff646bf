package envoy

import (
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// hedgePolicy is nil where nothing is hedged. A route that must not send twice what a host may have begun on, guarded, hedges nothing.
func (in input) hedgePolicy(guarded bool) *routev3.HedgePolicy {
	h := in.sections.Hedge
	if guarded || h == nil || !orElse(h.OnPerTryTimeout, false) {
		return nil
	}
	return &routev3.HedgePolicy{HedgeOnPerTryTimeout: true}
}

// asks holds of a field that says yes to something.
func asks(_ input, f policy.Field) bool { return !asksNothing(f) }

// noHedge reports that there is nothing to hedge with: no time after which a try is slow, or no further try.
func noHedge(in input, _ policy.Field) bool {
	t := in.sections.Timeout
	return t == nil || !finite(t.PerTry) || !in.retries()
}

var hedgeLines = []line{
	{field: "hedge.onPerTryTimeout", on: proxies, when: noHedge, beside: true, level: Unsupported,
		reason: "without a time for each try, or without a retry, there is nothing to hedge with", instead: "timeout.perTry and retry.numRetries beside it"},
}
