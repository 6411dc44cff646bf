package lint

import (
	"fmt"
	"slices"
	"strings"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// How sure it is that a hop retries what the called service answers when one of its own calls failed.
const (
	never    = iota // only what happens between the two is retried
	possibly        // if the service passes a gateway error on
	surely          // whatever 5xx it says
)

// passesOn says how sure it is that the call is retried when something behind the called service has failed.
func (c *call) passesOn() int {
	if c.attempts() < 2 {
		return never
	}
	return c.side.passesOn()
}

func (s *side) passesOn() int {
	sure := never
	for _, on := range s.Retry.RetryOn {
		switch on {
		case "5xx":
			return surely
		case policy.FailureCriteriaToken:
			if s.fails(500) || s.fails(424) {
				return surely
			}
			sure = possibly
		case "connect-failure", "refused-stream", "retriable-4xx", "envoy-ratelimited":
		case "retriable-status-codes":
			for _, code := range s.Retry.RetriableStatusCodes {
				if code == 500 || code == 424 {
					return surely
				}
				if code > 500 {
					sure = possibly
				}
			}
		default:
			sure = possibly
		}
	}
	return sure
}

// retriedTwice finds a failure that is retried by the hop next to it, and once more by the one before.
func (l *spots) retriedTwice(outer, inner *call) {
	if outer.passesOn() != surely || inner.attempts() < 2 {
		return
	}
	object, path, ok := outer.at("retry.retryOn", "retry.numRetries")
	if !ok {
		return
	}
	l.add(inner.to, Finding{
		Code: RetriedTwice, Severity: Warning, Kind: policy.Kind, Object: object, Path: path,
		Calls: []string{outer.from, times(outer), times(inner)},
		Why: fmt.Sprintf("a failure of %s is tried %d times by %s, which then answers a 5xx, and that is tried %d times by %s: %d tries for one call",
			key(inner.to), inner.attempts(), key(outer.to), outer.attempts(), outer.from, inner.attempts()*outer.attempts()),
		Instead: "retryOn: [connect-failure, refused-stream, gateway-error] here, and a 500 or 424, not a 502 to 504, for a failed dependency there; so only the hop next to a fault retries",
	})
}

func times(c *call) string {
	if n := c.attempts(); n > 1 {
		return fmt.Sprintf("%s x%d", c, n)
	}
	return c.String()
}

// unsafe finds retries of what may have changed something already.
func (l *spots) unsafe(c *call) {
	if c.attempts() < 2 || c.Retry.Methods == nil || c.reads {
		return
	}
	object, path, ok := c.at("retry.methods")
	if !ok {
		return // gRPC's default: what is retried is said by status, not by method
	}
	unsafe := c.Retry.Methods.Class == policy.MethodsAll || slices.Contains(c.Retry.Methods.List, "POST") || slices.Contains(c.Retry.Methods.List, "PATCH")
	harmless := !slices.ContainsFunc(c.Retry.RetryOn, func(on string) bool { return on != "connect-failure" && on != "refused-stream" })
	if !unsafe || harmless {
		return
	}
	l.add(c.to, Finding{
		Code: RetryUnsafe, Severity: Warning, Kind: policy.Kind, Object: object, Path: path, Calls: c.hops(),
		Why:     "POST and PATCH are sent again though the server may have seen them: what they do may be done twice",
		Instead: "methods: idempotent, the default; or, if every call carries an id by which the server knows a repetition, the annotation " + Accept + ": " + RetryUnsafe,
	})
}

// clientErrors finds retries of answers that will be the same again.
func (l *spots) clientErrors(c *call) {
	if c.attempts() < 2 {
		return
	}
	waits := c.Retry.RateLimitedBackOff != nil
	if slices.Contains(c.Retry.RetryOn, "retriable-status-codes") {
		var codes []string
		for _, code := range c.Retry.RetriableStatusCodes {
			if sameAgain(code, waits) {
				codes = append(codes, fmt.Sprint(code))
			}
		}
		l.sameAgain(c, codes, "retry.retriableStatusCodes")
	}
	if http := c.Criteria(c.protocol).HTTP; http != nil && slices.Contains(c.Retry.RetryOn, policy.FailureCriteriaToken) {
		var codes []string
		for _, status := range http.Statuses {
			first, last, _ := status.Range()
			for code := first; code <= last; code++ {
				if sameAgain(code, waits) && http.Fails(code) {
					codes = append(codes, string(status))
					break
				}
			}
		}
		l.sameAgain(c, codes, "failureCriteria.http.statuses")
	}
}

// sameAgain reports whether the answer to the same request will be the same again; waits: for 429 the retry waits as long as it says.
func sameAgain(code uint32, waits bool) bool {
	return code >= 400 && code < 500 && code != 409 && code != 425 && !(code == 429 && waits)
}

func (l *spots) sameAgain(c *call, codes []string, field string) {
	object, path, ok := c.at(field)
	if len(codes) == 0 || !ok {
		return
	}
	l.add(c.to, Finding{
		Code: RetryClientErrors, Severity: Warning, Kind: policy.Kind, Object: object, Path: path, Calls: c.hops(),
		Why:     fmt.Sprintf("of %s: such an answer says that the request is wrong or too much; the same request again gets the same answer, and makes the load worse", strings.Join(codes, ", ")),
		Instead: "of the 4xx only 409 and 425; for 429 a retry.rateLimitedBackOff that waits as long as the answer says",
	})
}

// retryLimits finds a limit that counts for nothing.
func (l *spots) retryLimits(c *call) {
	if c.cluster.Retry == nil || c.cluster.Retry.Budget == nil || c.cluster.Limits == nil || c.cluster.Limits.MaxRetries == nil {
		return
	}
	budget, _, written := c.cluster.at("retry.budget.percent", "retry.budget.minConcurrent", "retry.budget.interval")
	object, path, ok := c.cluster.at("limits.maxRetries")
	if !written || !ok {
		return
	}
	l.add(c.to, Finding{
		Code: BudgetAndMaxRetries, Severity: Warning, Kind: policy.Kind, Object: object, Path: path, Calls: c.hops(),
		Why:     fmt.Sprintf("retry.budget of policy %s holds for the same calls, and beside a budget limits.maxRetries (%s) counts for nothing", budget, *c.cluster.Limits.MaxRetries),
		Instead: "one of the two: the budget grows and shrinks with the traffic",
	})
}

// maxAttempts is how many tries one failure may become along a path.
const maxAttempts = 10

// chain is the worst path of calls from a service.
type chain struct {
	product int // tries of the last call, for one call of the first
	first   *call
	rest    *chain
}

// chains finds paths along which one failure becomes many tries. Of those from one service only the worst is told.
func (g *graph) chains() []*spot {
	var l spots
	sure, possible := newWalk(surely, len(g.nodes)), newWalk(possibly, len(g.nodes))
	for _, n := range g.roots() {
		if worst := sure.from(n); worst.product > maxAttempts {
			l.multiplies(worst, Warning, "")
		} else if worst := possible.from(n); worst.product > maxAttempts {
			l.multiplies(worst, Info, ", if the services in between answer a failed dependency with 502, 503 or 504")
		}
	}
	return l.list
}

func (l *spots) multiplies(w *chain, severity Severity, condition string) {
	calls, worst := []string{w.first.from}, w.first
	for at := w; at != nil && at.first != nil; at = at.rest {
		calls = append(calls, times(at.first))
		if at.first.attempts() > worst.attempts() {
			worst = at.first
		}
	}
	object, path, ok := worst.at("retry.numRetries")
	if !ok {
		return
	}
	instead := "retries at the hop next to the fault only: there retryOn what the neighbour itself does, and at the others fewer numRetries, or none"
	if w.rest == nil {
		instead = "fewer numRetries"
	}
	l.add(w.first.to, Finding{
		Code: AttemptsMultiply, Severity: severity, Kind: policy.Kind, Object: object, Path: path, Calls: calls,
		Why:     fmt.Sprintf("one call at the start of %s becomes up to %d tries at its end%s", strings.Join(calls, " -> "), w.product, condition),
		Instead: instead,
	})
}

// walk finds the worst chain from each service once.
type walk struct {
	at    int // how sure a retry must be to count
	known map[*node]*chain
	open  map[*node]bool // on the path: a call back to them is left out
}

func newWalk(at, services int) *walk {
	return &walk{at, make(map[*node]*chain, services), make(map[*node]bool)}
}

func (w *walk) from(n *node) *chain {
	if c := w.known[n]; c != nil {
		return c
	}
	best := &chain{product: 1}
	w.open[n] = true
	for _, c := range n.out.calls {
		if w.open[c.to] {
			continue
		}
		if c.attempts() > best.product {
			best = &chain{product: c.attempts(), first: c}
		}
		factor := 1
		if c.passesOn() >= w.at {
			factor = c.attempts()
		}
		if rest := w.from(c.to); rest.first != nil && factor*rest.product > best.product {
			best = &chain{product: factor * rest.product, first: c, rest: rest}
		}
	}
	delete(w.open, n)
	w.known[n] = best
	return best
}

// roots are the services that nobody calls, and of those that call each other in a circle the first.
func (g *graph) roots() []*node {
	var list []*node
	seen := make(map[*node]bool, len(g.nodes))
	var visit func(n *node)
	visit = func(n *node) {
		if !seen[n] {
			seen[n] = true
			for _, c := range n.out.calls {
				visit(c.to)
			}
		}
	}
	for _, callers := range []bool{false, true} {
		for _, n := range g.nodes {
			if !seen[n] && (len(n.callers) > 0) == callers && len(n.out.calls) > 0 {
				list = append(list, n)
				visit(n)
			}
		}
	}
	return list
}

// named is a policy as people say it.
func named(key manifest.Key) string { return "policy " + key.String() }
