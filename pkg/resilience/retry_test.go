package resilience

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestParseRetryOn(t *testing.T) {
	all := "5xx,gateway-error,reset,connect-failure,refused-stream,retriable-4xx,retriable-status-codes,retriable-headers," +
		"reset-before-request,envoy-ratelimited,cancelled,deadline-exceeded,internal,resource-exhausted,unavailable"
	for _, tt := range []struct {
		text string
		want RetryOn
	}{
		{"", 0},
		{"5xx", On5xx},
		{" 5xx , reset\t,", On5xx | OnReset},
		{"5XX,http3-post-connect-failure,nonsense,unavailable", OnGRPCUnavailable},
		{"gateway-error,gateway-error", OnGatewayError},
		{"5xx reset", 0},
		{all, OnGRPCUnavailable<<1 - 1},
	} {
		if got := ParseRetryOn(tt.text); got != tt.want {
			t.Errorf("%q: %b, want %b", tt.text, got, tt.want)
		}
	}
	seen := RetryOn(0)
	for token := range strings.SplitSeq(all, ",") {
		on := ParseRetryOn(token)
		if on == 0 || on&(on-1) != 0 || seen&on != 0 {
			t.Errorf("%q: %b is not one new condition", token, on)
		}
		seen |= on
	}
}

// all results that a table below may name.
var results = map[string]Result{
	"200": {Status: 200}, "409": {Status: 409}, "429": {Status: 429}, "499": {Status: 499}, "500": {Status: 500}, "501": {Status: 501},
	"502": {Status: 502}, "503": {Status: 503}, "504": {Status: 504}, "599": {Status: 599}, "600": {Status: 600},
	"connect": {Failure: FailedConnect}, "reset": {Failure: FailedReset}, "reset-after-byte": {Failure: FailedReset, Started: true},
	"refused": {Failure: FailedRefused}, "timeout": {Failure: FailedTimeout}, "timeout-after-byte": {Failure: FailedTimeout, Started: true},
	"overflow": {Failure: FailedOverflow}, "over": {Failure: FailedForGood}, "no-host": {Failure: FailedNoHealthy},
	"limited-200": {Status: 200, RateLimited: true}, "limited-503": {Status: 503, RateLimited: true},
	"grpc1": {Status: 200, GRPCStatus: 1}, "grpc2": {Status: 200, GRPCStatus: 2}, "grpc4": {Status: 200, GRPCStatus: 4}, "grpc8": {Status: 200, GRPCStatus: 8},
	"grpc13": {Status: 200, GRPCStatus: 13}, "grpc14": {Status: 200, GRPCStatus: 14},
	"header": {Status: 200, Headers: headers(map[string][]string{"x-try": {"no", "yes"}})}, "header-no": {Status: 200, Headers: headers(map[string][]string{"x-try": {"no"}})},
	"sent-503": {Status: 503, Committed: true}, "sent-reset": {Failure: FailedReset, Committed: true},
}

func TestConditions(t *testing.T) {
	anyReset := "connect reset reset-after-byte refused timeout timeout-after-byte"
	for _, tt := range []struct{ on, retried string }{
		{"", ""},
		{"5xx", "500 501 502 503 504 599 " + anyReset},
		{"gateway-error", "502 503 504 " + anyReset},
		{"reset", anyReset},
		{"reset-before-request", "connect reset refused timeout"},
		{"connect-failure", "connect"},
		{"refused-stream", "refused"},
		{"retriable-4xx", "409"},
		{"retriable-status-codes", "429 600"},
		{"retriable-headers", "header"},
		{"envoy-ratelimited", "limited-200 limited-503"},
		{"5xx,envoy-ratelimited", "500 501 502 503 504 599 limited-200 limited-503 " + anyReset},
		{"cancelled", "grpc1"}, {"deadline-exceeded", "grpc4"}, {"resource-exhausted", "grpc8"}, {"internal", "grpc13"}, {"unavailable", "grpc14"},
		{"connect-failure,refused-stream,unavailable", "connect refused grpc14"},
	} {
		policy := &Retry{
			On: ParseRetryOn(tt.on), NumRetries: 1, RetriableStatusCodes: []uint32{429, 600}, BackOff: DefaultBackOff(),
			RetriableHeaders: []HeaderMatch{{Name: "x-try", Value: "yes"}},
		}
		for name, result := range results {
			var s RetryState
			var c Counters
			s.Start(policy, headers(nil), true)
			verdict, _ := s.Decide(&result, &c, &Thresholds{MaxRetries: 1}, time.Time{})
			want := slices.Contains(strings.Fields(tt.retried), name)
			if got := verdict == RetryAgain; got != want || !got && verdict != RetryNot {
				t.Errorf("retry_on %q, %s: verdict %d, want retried %v", tt.on, name, verdict, want)
			}
		}
	}
}

func TestOrderOfDecision(t *testing.T) {
	fail, ok, late := &Result{Status: 503}, &Result{Status: 200}, &Result{Failure: FailedOverflow}
	type step struct {
		result    *Result
		verdict   Verdict
		succeeded bool
		held      int64
	}
	for _, tt := range []struct {
		name       string
		numRetries uint32
		limit      uint32
		steps      []step
	}{
		{"a retry that succeeds", 2, 3, []step{{fail, RetryAgain, false, 1}, {ok, RetryNot, true, 0}}},
		{"no retry was needed", 2, 3, []step{{ok, RetryNot, false, 0}}},
		{"out of retries", 2, 3, []step{{fail, RetryAgain, false, 1}, {fail, RetryAgain, false, 1}, {fail, RetryLimit, false, 0}}},
		{"none at all counts as a limit", 0, 3, []step{{fail, RetryLimit, false, 0}}},
		{"no place: an overflow, which costs a retry", 1, 0, []step{{fail, RetryOverflow, false, 0}, {fail, RetryLimit, false, 0}}},
		{"its own place is given back before it asks again", 2, 1, []step{{fail, RetryAgain, false, 1}, {fail, RetryAgain, false, 1}}},
		{"a final failure after a retry ends it", 2, 1, []step{{fail, RetryAgain, false, 1}, {late, RetryNot, true, 0}}},
		{"limit before overflow", 0, 0, []step{{fail, RetryLimit, false, 0}}},
	} {
		var s RetryState
		var c Counters
		s.Start(&Retry{On: On5xx, NumRetries: tt.numRetries}, headers(nil), false)
		for i, step := range tt.steps {
			verdict, succeeded := s.Decide(step.result, &c, &Thresholds{MaxRetries: tt.limit}, time.Time{})
			if verdict != step.verdict || succeeded != step.succeeded || c.Retries() != step.held {
				t.Errorf("%s, step %d: %d %v, %d held; want %d %v, %d", tt.name, i, verdict, succeeded, c.Retries(), step.verdict, step.succeeded, step.held)
			}
		}
		s.Release(&c)
		s.Release(&c)
		if c.Retries() != 0 {
			t.Errorf("%s: %d held at the end", tt.name, c.Retries())
		}
	}
}

func TestRequestHeaders(t *testing.T) {
	safe := []HeaderMatch{{Name: ":method", Value: "GET"}, {Name: "idempotency-key", Kind: Present}}
	type h = map[string][]string
	for _, tt := range []struct {
		name    string
		policy  *Retry
		request h
		trusted bool
		fails   Result
		want    int // retries granted
	}{
		{"policy alone", &Retry{On: On5xx, NumRetries: 2}, nil, true, Result{Status: 500}, 2},
		{"no policy", nil, nil, true, Result{Status: 500}, 0},
		{"header alone, one retry", nil, h{"x-envoy-retry-on": {"5xx"}}, true, Result{Status: 500}, 1},
		{"header is not trusted", nil, h{"x-envoy-retry-on": {"5xx"}}, false, Result{Status: 500}, 0},
		{"header adds to the policy", &Retry{On: OnReset, NumRetries: 2}, h{"x-envoy-retry-on": {"5xx"}}, true, Result{Status: 500}, 2},
		{"gRPC conditions have their own header", nil, h{"x-envoy-retry-on": {"unavailable"}}, true, Result{Status: 200, GRPCStatus: 14}, 0},
		{"gRPC header", nil, h{"x-envoy-retry-grpc-on": {"unavailable"}}, true, Result{Status: 200, GRPCStatus: 14}, 1},
		{"the gRPC header takes no others", nil, h{"x-envoy-retry-grpc-on": {"5xx"}}, true, Result{Status: 500}, 0},
		{"count by header", &Retry{On: On5xx, NumRetries: 2}, h{"x-envoy-max-retries": {"4"}}, true, Result{Status: 500}, 4},
		{"count 0 by header", &Retry{On: On5xx, NumRetries: 2}, h{"x-envoy-max-retries": {"0"}}, true, Result{Status: 500}, 0},
		{"count that is none", &Retry{On: On5xx, NumRetries: 2}, h{"x-envoy-max-retries": {"-1"}}, true, Result{Status: 500}, 2},
		{"codes are added", &Retry{On: OnRetriableStatusCodes, NumRetries: 1, RetriableStatusCodes: []uint32{500}}, h{"x-envoy-retriable-status-codes": {"418, 420"}}, true, Result{Status: 420}, 1},
		{"codes need their condition", &Retry{On: On5xx, NumRetries: 1}, h{"x-envoy-retriable-status-codes": {"418"}}, true, Result{Status: 418}, 0},
		{"header names are added", nil, h{"x-envoy-retry-on": {"retriable-headers"}, "x-envoy-retriable-header-names": {"A, X-Try"}}, true, results["header-no"], 1},
		{"first of alternatives", &Retry{On: On5xx, NumRetries: 2, RetriableRequestHeaders: safe}, h{":method": {"GET"}}, true, Result{Status: 500}, 2},
		{"second of alternatives", &Retry{On: On5xx, NumRetries: 2, RetriableRequestHeaders: safe}, h{":method": {"POST"}, "idempotency-key": {"1"}}, true, Result{Status: 500}, 2},
		{"none of alternatives", &Retry{On: On5xx, NumRetries: 2, RetriableRequestHeaders: safe}, h{":method": {"POST"}}, true, Result{Status: 500}, 0},
		{"x-envoy-retry-on does not help", &Retry{On: On5xx, NumRetries: 2, RetriableRequestHeaders: safe}, h{":method": {"POST"}, "x-envoy-retry-on": {"5xx"}}, true, Result{Status: 500}, 0},
	} {
		var s RetryState
		var c Counters
		s.Start(tt.policy, headers(tt.request), tt.trusted)
		possible, got := s.Possible(), 0
		for got < 10 {
			verdict, _ := s.Decide(&tt.fails, &c, &Thresholds{MaxRetries: 9}, time.Time{})
			if verdict != RetryAgain {
				break
			}
			got++
		}
		if got != tt.want || got > 0 && !possible {
			t.Errorf("%s: %d retries (possible %v), want %d", tt.name, got, possible, tt.want)
		}
	}
}

func TestHedge(t *testing.T) {
	var c Counters
	limit := &Thresholds{MaxRetries: 9}
	for _, tt := range []struct {
		name   string
		policy *Retry
		want   Verdict
	}{
		{"no policy", nil, RetryNot},
		{"a policy without conditions", &Retry{NumRetries: 1}, RetryNot},
		{"conditions don't matter", &Retry{On: OnConnectFailure, NumRetries: 1}, RetryAgain},
		{"nor does the request", &Retry{On: OnConnectFailure, NumRetries: 1, RetriableRequestHeaders: []HeaderMatch{{Name: "x", Kind: Present}}}, RetryAgain},
		{"the count does", &Retry{On: On5xx}, RetryLimit},
	} {
		var s RetryState
		s.Start(tt.policy, headers(nil), false)
		if got := s.Hedge(&c, limit, time.Time{}); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

func TestBackOffIntervals(t *testing.T) {
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	for _, tt := range []struct {
		b    BackOff
		want []int // longest wait + 1 ms of retry 1, 2, ...
	}{
		{DefaultBackOff(), []int{25, 50, 100, 200, 250, 250, 250}},
		{BackOff{ms(25), ms(100)}, []int{25, 50, 100, 100}},
		{BackOff{ms(10), ms(10)}, []int{10, 10}},
		{BackOff{500 * time.Microsecond, 5 * time.Millisecond}, []int{1, 2, 4, 5, 5}},
		{BackOff{0, 0}, []int{1, 1}},
		{BackOff{ms(30), ms(10)}, []int{30, 30}},
	} {
		for i, want := range tt.want {
			n := uint32(i + 1)
			longest := func() uint64 { return uint64(want - 1) }
			wrapped := func() uint64 { return uint64(want) }
			if got := tt.b.Wait(n, longest); got != ms(want-1) {
				t.Errorf("%+v retry %d: the longest wait is %v, want %v", tt.b, n, got, ms(want-1))
			}
			if got := tt.b.Wait(n, wrapped); got != 0 {
				t.Errorf("%+v retry %d: %v, want the draw of %d to wrap", tt.b, n, got, want)
			}
		}
	}
	if got := (BackOff{ms(1), time.Hour}).Wait(1<<31, func() uint64 { return 3_599_999 }); got != 3_599_999*time.Millisecond {
		t.Errorf("retry 2^31: %v", got)
	}
}

func TestRateLimitedBackOff(t *testing.T) {
	now := time.Unix(1_700_000_000, 500_000_000)
	b := &RateLimitedBackOff{Headers: []ResetHeader{{Name: "retry-after"}, {Name: "x-reset", Unix: true}}, Max: 300 * time.Second}
	for _, tt := range []struct {
		after, reset string
		draw         uint64
		want         time.Duration
		ok           bool
	}{
		{"1", "", 0, time.Second, true},
		{"1", "", 499, 1499 * time.Millisecond, true},
		{"1", "", 500, time.Second, true},
		{" 2 ", "1700000009", 0, 2 * time.Second, true},
		{"", "1700000010", 0, 10 * time.Second, true},
		{"300", "", 0, 300 * time.Second, true},
		{"301", "1700000002", 0, 2 * time.Second, true},
		{"soon", "1700000002", 0, 2 * time.Second, true},
		{"-1", "", 0, 0, false}, {"0", "", 0, 0, false}, {"0", "1700000002", 0, 0, false}, {"1.5", "", 0, 0, false},
		{"", "1699999999", 0, 0, false}, {"", "", 0, 0, false}, {"99999999999999999999", "", 0, 0, false}, {"9223372036854775807", "", 0, 0, false},
	} {
		h := map[string][]string{}
		if tt.after != "" {
			h["retry-after"] = []string{tt.after}
		}
		if tt.reset != "" {
			h["x-reset"] = []string{tt.reset}
		}
		got, ok := b.Wait(headers(h), now, func() uint64 { return tt.draw })
		if got != tt.want || ok != tt.ok {
			t.Errorf("retry-after %q, x-reset %q, draw %d: %v %v, want %v %v", tt.after, tt.reset, tt.draw, got, ok, tt.want, tt.ok)
		}
	}
}

func TestRateLimitedWaitDoesNotAdvanceTheBackOff(t *testing.T) {
	policy := &Retry{On: On5xx, NumRetries: 9, BackOff: DefaultBackOff(), RateLimited: &RateLimitedBackOff{Headers: []ResetHeader{{Name: "retry-after"}}, Max: time.Minute}}
	var s RetryState
	s.Start(policy, headers(nil), false)
	limited := &Result{Status: 503, Headers: headers(map[string][]string{"retry-after": {"3"}})}
	draw := func(n uint64) Rand { return func() uint64 { return n } }
	for i, tt := range []struct {
		result *Result
		draw   uint64
		want   time.Duration
	}{
		{&Result{Status: 503}, 24, 24 * time.Millisecond},
		{limited, 0, 3 * time.Second},
		{&Result{Failure: FailedReset, Headers: limited.Headers}, 49, 49 * time.Millisecond},
		{nil, 99, 99 * time.Millisecond},
	} {
		if got := s.Wait(tt.result, time.Time{}, draw(tt.draw)); got != tt.want {
			t.Errorf("wait %d: %v, want %v", i+1, got, tt.want)
		}
	}
}

// TestRetriesStayInTheirLimits has calls in any order: none is retried more than its policy says, the counter is what is held, and at the
// end nothing is.
func TestRetriesStayInTheirLimits(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		limit := &Thresholds{MaxRetries: rapid.Uint32Range(0, 3).Draw(rt, "limit")}
		policy := &Retry{On: On5xx | OnConnectFailure, NumRetries: rapid.Uint32Range(0, 3).Draw(rt, "retries")}
		var c Counters
		calls, granted := make([]RetryState, 4), make([]uint32, 4)
		for i := range calls {
			calls[i].Start(policy, headers(nil), false)
		}
		for range rapid.IntRange(0, 40).Draw(rt, "steps") {
			i := rapid.IntRange(0, 3).Draw(rt, "call")
			result := results[rapid.SampledFrom([]string{"200", "503", "connect", "overflow"}).Draw(rt, "result")]
			verdict, _ := calls[i].Decide(&result, &c, limit, time.Time{})
			if verdict == RetryAgain {
				granted[i]++
			}
			held := int64(0)
			for _, call := range calls {
				if call.held {
					held++
				}
			}
			if granted[i] > policy.NumRetries || held != c.Retries() || held > int64(limit.MaxRetries) {
				rt.Fatalf("granted %d of %d, %d held, %d counted, limit %d", granted[i], policy.NumRetries, held, c.Retries(), limit.MaxRetries)
			}
		}
		for i := range calls {
			calls[i].Release(&c)
		}
		if c.Retries() != 0 {
			rt.Fatalf("%d left", c.Retries())
		}
	})
}

func FuzzParseRetryOn(f *testing.F) {
	f.Add("5xx, reset,,x")
	f.Fuzz(func(t *testing.T, text string) {
		if a, b := ParseRetryOn(text), ParseRetryOn(text+","+text); a != b {
			t.Errorf("%q: %b, twice %b", text, a, b)
		}
	})
}

func TestDecideAllocatesNothing(t *testing.T) {
	policy := &Retry{On: On5xx | OnReset | OnRetriableStatusCodes, NumRetries: 1, RetriableStatusCodes: []uint32{429}}
	get, limit := headers(map[string][]string{":method": {"GET"}}), &Thresholds{MaxRetries: 3}
	var c Counters
	if n := testing.AllocsPerRun(100, func() {
		var s RetryState
		s.Start(policy, get, false)
		s.Decide(&Result{Status: 503}, &c, limit, time.Time{})
		s.Decide(&Result{Status: 200}, &c, limit, time.Time{})
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
