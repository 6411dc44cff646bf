package engine_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/engine"
	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// always is every request.
var always = dataplane.Fraction{Numerator: 100, Denominator: 100}

// limited is a world whose listener has a rate limit of n tokens an hour, and a route that says other of it where other is set.
func limited(t *testing.T, n uint32, change func(*world, *dataplane.RateLimit)) *world {
	limit := limitOf(n)
	return newWorld(t, 1, func(w *world) {
		w.http.Filters = []dataplane.HTTPFilter{{Name: "limit", Filter: limit}}
		if change != nil {
			change(w, limit)
		}
		w.table.Listeners = map[string]*dataplane.Listener{"l": {HTTP: w.http}}
	})
}

func limitOf(n uint32) *dataplane.RateLimit {
	return &dataplane.RateLimit{
		Place: "p", StatPrefix: "rl", Bucket: dataplane.Bucket{Max: n, PerFill: n, Interval: time.Hour}, Enabled: always, Enforced: always, Status: 429,
	}
}

// answers are what n calls are answered.
func (w *world) answers(n int) string {
	text := ""
	for range n {
		a := w.call(&hosts{act: status(200)})
		text += fmt.Sprint(a.Status, " ", a.Flags, " ")
	}
	return text
}

func TestRateLimit(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*world, *dataplane.RateLimit)
		want   string
	}{
		"refuses beyond its bucket": {nil, "200 - 200 - 429 RL "},
		"another status":            {func(_ *world, l *dataplane.RateLimit) { l.Status = 503 }, "200 - 200 - 503 RL "},
		"is not enforced":           {func(_ *world, l *dataplane.RateLimit) { l.Enforced.Numerator = 0 }, "200 - 200 - 200 - "},
		"is not enabled":            {func(_ *world, l *dataplane.RateLimit) { l.Enabled.Numerator = 0 }, "200 - 200 - 200 - "},
		"has no bucket":             {func(_ *world, l *dataplane.RateLimit) { l.Bucket = dataplane.Bucket{} }, "200 - 200 - 200 - "},
		"is disabled":               {func(w *world, _ *dataplane.RateLimit) { w.http.Filters[0].Disabled = true }, "200 - 200 - 200 - "},
		"a route switches it off": {func(w *world, _ *dataplane.RateLimit) {
			w.route.Filters = map[string]dataplane.RouteFilter{"limit": {Disabled: true}}
		}, "200 - 200 - 200 - "},
		"a route switches it on": {func(w *world, _ *dataplane.RateLimit) {
			w.http.Filters[0].Disabled = true
			w.route.Filters = map[string]dataplane.RouteFilter{"limit": {}}
		}, "200 - 200 - 429 RL "},
		"a route has its own": {func(w *world, _ *dataplane.RateLimit) {
			own := limitOf(1)
			own.Place = "route"
			w.route.Filters = map[string]dataplane.RouteFilter{"limit": {Filter: own}}
			w.http.Routes.Limits = []*dataplane.RateLimit{own}
		}, "200 - 429 RL 429 RL "},
		"a route names another filter's": {func(w *world, _ *dataplane.RateLimit) {
			w.route.Filters = map[string]dataplane.RouteFilter{"limit": {Filter: &dataplane.FaultInjection{}}}
		}, "200 - 200 - 429 RL "},
		"no route matches": {func(w *world, _ *dataplane.RateLimit) { w.http.Routes.Hosts = nil }, "404 NR 404 NR 429 RL "},
		"no host is asked": {func(w *world, _ *dataplane.RateLimit) { w.route.Direct = &dataplane.DirectResponse{Status: 203} }, "203 - 203 - 429 RL "},
	} {
		t.Run(name, func(t *testing.T) {
			if got := limited(t, 2, tt.change).answers(3); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestRateLimitGoesOnWithAnotherTable(t *testing.T) {
	w := limited(t, 2, nil)
	if got, want := w.answers(2), "200 - 200 - "; got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
	again := func(n uint32) {
		next := *w.http
		next.Filters = []dataplane.HTTPFilter{{Name: "limit", Filter: limitOf(n)}}
		w.http = &next
		table := *w.table
		table.Listeners = map[string]*dataplane.Listener{"l": {HTTP: w.http}}
		w.engine.SetTable(&table)
	}
	again(2)
	if got, want := w.answers(1), "429 RL "; got != want {
		t.Errorf("the same numbers: got %q, want %q", got, want)
	}
	again(3)
	if got, want := w.answers(4), "200 - 200 - 200 - 429 RL "; got != want {
		t.Errorf("other numbers: got %q, want %q", got, want)
	}
	w.expect(t, map[string]int64{"rl.http_local_rate_limit.ok": 5, "rl.http_local_rate_limit.rate_limited": 2, "rl.http_local_rate_limit.enforced": 2, "upstream_rq_429": 0})
}

func TestRateLimitTellsOfItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := limited(t, 2, func(_ *world, l *dataplane.RateLimit) { l.Headers, l.RetryAfter, l.Exhausted = true, true, true })
		w.answers(2)
		a := w.send(&hosts{}, "POST", http.Header{"Content-Type": {"application/grpc"}})
		got := fmt.Sprint(a.Local.Status, a.Local.Header)
		if want := "200 map[Content-Type:[application/grpc] Grpc-Message:[local_rate_limited] Grpc-Status:[8] Retry-After:[1800] " +
			"X-Ratelimit-Limit:[2] X-Ratelimit-Remaining:[0] X-Ratelimit-Reset:[1800]]"; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		time.Sleep(30 * time.Minute)
		if got, want := w.answers(2), "200 - 429 RL "; got != want {
			t.Errorf("half an hour later: got %q, want %q", got, want)
		}
	})
}

func faulty(t *testing.T, f dataplane.FaultInjection, change func(*world)) *world {
	return newWorld(t, 1, func(w *world) {
		w.http.StatPrefix = "out"
		w.http.Filters = []dataplane.HTTPFilter{{Name: "fault", Filter: &f}}
		w.table.Listeners = map[string]*dataplane.Listener{"l": {HTTP: w.http}}
		if change != nil {
			change(w)
		}
	})
}

func TestFaults(t *testing.T) {
	abort := dataplane.FaultInjection{Status: 503, GRPC: -1, AbortOf: always, MaxActive: -1}
	delay := dataplane.FaultInjection{Delay: 2 * time.Second, GRPC: -1, DelayOf: always, MaxActive: -1}
	with := func(f dataplane.FaultInjection, change func(*dataplane.FaultInjection)) dataplane.FaultInjection {
		change(&f)
		return f
	}
	for name, tt := range map[string]struct {
		fault  dataplane.FaultInjection
		change func(*world)
		want   string
		took   time.Duration
	}{
		"abort":                {abort, nil, "503 FI ", 0},
		"abort never":          {with(abort, func(f *dataplane.FaultInjection) { f.AbortOf.Numerator = 0 }), nil, "200 - ", 0},
		"abort by gRPC status": {with(abort, func(f *dataplane.FaultInjection) { f.Status, f.GRPC = 0, 5 }), nil, "200 FI ", 0},
		"another cluster":      {with(abort, func(f *dataplane.FaultInjection) { f.Cluster = "other" }), nil, "200 - ", 0},
		"this cluster":         {with(abort, func(f *dataplane.FaultInjection) { f.Cluster = "c" }), nil, "503 FI ", 0},
		"other headers": {with(abort, func(f *dataplane.FaultInjection) {
			f.Headers = []resilience.HeaderMatch{{Name: "x-experiment", Kind: resilience.Present}}
		}), nil, "200 - ", 0},
		"as many as may be": {with(abort, func(f *dataplane.FaultInjection) { f.MaxActive = 0 }), nil, "200 - ", 0},
		"delay":             {delay, nil, "200 DI ", 2 * time.Second},
		"delay, then abort": {with(delay, func(f *dataplane.FaultInjection) { f.Status, f.AbortOf = 500, always }), nil, "500 DI,FI ", 2 * time.Second},
		"the router's time begins after the delay": {delay, func(w *world) { w.route.Timeout = time.Second }, "200 DI ", 2 * time.Second},
		"the request's longest time goes on":       {delay, func(w *world) { w.route.MaxStreamDuration = new(time.Second) }, "504 DI ", time.Second},
		"its idle time does":                       {delay, func(w *world) { w.route.IdleTimeout = new(time.Second) }, "504 DI,SI ", time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := faulty(t, tt.fault, tt.change)
				begun := time.Now()
				if got := w.answers(1); got != tt.want || time.Since(begun) != tt.took {
					t.Errorf("got %q after %v, want %q after %v", got, time.Since(begun), tt.want, tt.took)
				}
				w.expect(t, map[string]int64{"http.out.fault.active_faults": 0})
			})
		})
	}
}

func TestFaultForAnApplicationThatGoesAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := faulty(t, dataplane.FaultInjection{Delay: time.Hour, GRPC: -1, DelayOf: always, MaxActive: -1}, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		c := w.engine.Begin(ctx, w.http, &engine.Request{Method: "GET", Authority: "a", Path: "/", Header: http.Header{}})
		if a := c.Do(ctx, &hosts{}); !a.Gone || a.Flags != engine.DI|engine.DC {
			t.Errorf("got %+v", a)
		}
		w.expect(t, map[string]int64{"http.out.fault.active_faults": 1})
		c.Finish(engine.AppGone)
		w.expect(t, map[string]int64{"http.out.fault.active_faults": 0, "http.out.fault.delays_injected": 1})
	})
}

func TestAdaptiveConcurrency(t *testing.T) {
	config := func() *dataplane.AdaptiveConcurrency {
		return &dataplane.AdaptiveConcurrency{Place: "p", Status: 503, Limits: resilience.GradientLimits{
			UpdateInterval: 100 * time.Millisecond, MaxConcurrency: 1000, Percentile: 0.9, MinRTTInterval: time.Minute, MinRTTRequests: 5, MinConcurrency: 1, Buffer: 0.25,
		}}
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, func(w *world) {
			w.http.Filters = []dataplane.HTTPFilter{{Name: "ac", Filter: config()}}
			w.table.Listeners = map[string]*dataplane.Listener{"l": {HTTP: w.http}}
		})
		held := w.engine.Begin(t.Context(), w.http, &engine.Request{Method: "GET", Authority: "a", Path: "/", Header: http.Header{}})
		next := *w.http
		next.Filters = []dataplane.HTTPFilter{{Name: "ac", Filter: config()}}
		table := *w.table
		table.Listeners = map[string]*dataplane.Listener{"l": {HTTP: &next}}
		w.engine.SetTable(&table)
		w.http = &next
		if got, want := w.answers(1), "503 - "; got != want {
			t.Errorf("one is in flight through the table before: got %q, want %q", got, want)
		}
		held.Do(t.Context(), &hosts{act: status(200)})
		held.Finish(engine.AppGone)
		slow := func(ctx context.Context, a *engine.Attempt) engine.Result {
			time.Sleep(time.Millisecond)
			return status(200)(ctx, a)
		}
		for range 5 {
			w.call(&hosts{act: slow})
		}
		prefix := "http..adaptive_concurrency.gradient_controller."
		w.expect(t, map[string]int64{prefix + "rq_blocked": 1, prefix + "min_rtt_calculation_active": 0, prefix + "min_rtt_msecs": 1})
		w.engine.Close()
	})
}

func TestAdmissionControl(t *testing.T) {
	w := newWorld(t, 1, func(w *world) {
		limits := resilience.DefaultAdmission()
		limits.Aggression, limits.MaxRejection, limits.SuccessRate = 1000, 1, 1
		w.cluster.Admission = &dataplane.Admission{Limits: limits}
		w.cluster.Outlier = &resilience.Outlier{Consecutive5xx: resilience.Consecutive{Threshold: 2, Enforcing: 100}, Interval: time.Hour, MaxEjectionPercent: 100}
		w.route.Retry = retrying(resilience.On5xx, 3)
	})
	up := &hosts{act: status(503)}
	if a := w.call(up); a.Status != 503 || a.Local == nil || a.Local.Body != "" || a.Flags != 0 {
		t.Errorf("got %+v", a)
	}
	if len(up.asked) != 1 {
		t.Errorf("%d attempts reached the host, want 1", len(up.asked))
	}
	w.expect(t, map[string]int64{
		"admission_control.rq_rejected": 1, "admission_control.rq_failure": 1, "upstream_rq_retry": 1, "upstream_rq_503": 0,
		"outlier_detection.ejections_active": 0,
	})
}

func TestResponsesAndRepliesPassTheFilters(t *testing.T) {
	add := func(value string) dataplane.HeaderEdit {
		return dataplane.HeaderEdit{Name: "X-By", Value: dataplane.Format{Parts: []dataplane.FormatPart{{Text: value}}}}
	}
	w := newWorld(t, 1, func(w *world) {
		w.http.Filters = []dataplane.HTTPFilter{
			{Name: "custom", Filter: &dataplane.CustomResponse{Rules: []dataplane.CustomRule{{When: dataplane.StatusMatch{Class: 5}, Status: 200, Body: "instead"}}}},
			{Name: "first", Filter: &dataplane.HeaderMutation{Response: []dataplane.HeaderEdit{add("first")}}},
			{Name: "second", Filter: &dataplane.HeaderMutation{Response: []dataplane.HeaderEdit{add("second")}}},
		}
		w.route.Response = [][]dataplane.HeaderEdit{{add("route")}}
	})
	h := http.Header{}
	up := &hosts{act: func(context.Context, *engine.Attempt) engine.Result {
		return engine.Result{Status: 200, Header: h}
	}}
	if w.call(up); fmt.Sprint(h) != "map[X-By:[route second first]]" {
		t.Errorf("a response: %v", h)
	}
	up = &hosts{act: status(503)}
	a := w.call(up)
	if got := fmt.Sprintf("%d %v %s", a.Status, a.Local.Header["X-By"], a.Local.Body); got != "200 [route] instead" || up.dropped != 1 {
		t.Errorf("a response in whose place another comes: %s, %d dropped", got, up.dropped)
	}
	w.route.Cluster = "nowhere"
	if a = w.call(up); fmt.Sprintf("%d %v %s", a.Status, a.Flags, a.Local.Body) != "200 NC instead" {
		t.Errorf("a reply of our own: %+v", a)
	}
	w.expect(t, map[string]int64{"upstream_rq_503": 1})
}

func TestLocalReplyMappers(t *testing.T) {
	text := func(parts ...dataplane.FormatPart) *dataplane.BodyFormat {
		return &dataplane.BodyFormat{ContentType: "text/x", Text: &dataplane.Format{Parts: parts}}
	}
	w := newWorld(t, 0, func(w *world) {
		w.route.Metadata = map[dataplane.MetadataKey]string{{Filter: "f", Key: "k"}: "v"}
		w.http.ReplyFormat = text(dataplane.FormatPart{Command: dataplane.LocalReplyBody}, dataplane.FormatPart{Text: "!"})
	})
	is := func(c dataplane.Condition) []dataplane.ReplyMapper {
		return []dataplane.ReplyMapper{{When: c, Status: 502}}
	}
	for name, tt := range map[string]struct {
		when dataplane.Condition
		hit  bool
	}{
		"status":                {dataplane.Condition{Status: &dataplane.StatusCondition{Value: 503}}, true},
		"another status":        {dataplane.Condition{Status: &dataplane.StatusCondition{Value: 500}}, false},
		"at least":              {dataplane.Condition{Status: &dataplane.StatusCondition{Op: dataplane.StatusAtLeast, Value: 500}}, true},
		"at most":               {dataplane.Condition{Status: &dataplane.StatusCondition{Op: dataplane.StatusAtMost, Value: 500}}, false},
		"not":                   {dataplane.Condition{Status: &dataplane.StatusCondition{Op: dataplane.StatusNot, Value: 503}}, false},
		"a flag":                {dataplane.Condition{Flags: []string{"UF", "UH"}}, true},
		"any flag":              {dataplane.Condition{Flags: []string{}}, true},
		"other flags":           {dataplane.Condition{Flags: []string{"UF", "UT"}}, false},
		"metadata":              {dataplane.Condition{Metadata: &dataplane.MetadataCondition{Key: dataplane.MetadataKey{Filter: "f", Key: "k"}, Value: "v"}}, true},
		"other metadata":        {dataplane.Condition{Metadata: &dataplane.MetadataCondition{Key: dataplane.MetadataKey{Filter: "f", Key: "l"}, Value: ""}}, false},
		"details":               {dataplane.Condition{Details: "healthy"}, true},
		"other details":         {dataplane.Condition{Details: "timeout"}, false},
		"a header":              {dataplane.Condition{Header: &resilience.HeaderMatch{Name: ":method", Kind: resilience.Exact, Value: "GET"}}, true},
		"all of them":           {dataplane.Condition{All: []dataplane.Condition{{Details: "healthy"}, {Details: "timeout"}}}, false},
		"one of them":           {dataplane.Condition{Any: []dataplane.Condition{{Details: "timeout"}, {Details: "healthy"}}}, true},
		"none of them, of none": {dataplane.Condition{Any: []dataplane.Condition{}}, false},
	} {
		w.http.Replies = is(tt.when)
		want := 503
		if tt.hit {
			want = 502
		}
		a := w.call(&hosts{})
		if got := fmt.Sprintf("%d %v %s", a.Local.Status, a.Local.Header["Content-Type"], a.Local.Body); got != fmt.Sprintf("%d [text/x] no healthy upstream!", want) {
			t.Errorf("%s: got %s, want status %d", name, got, want)
		}
	}
	w.http.Replies = []dataplane.ReplyMapper{{When: dataplane.Condition{Flags: []string{}}, Body: new("b"), Format: &dataplane.BodyFormat{ContentType: "application/json", JSON: []dataplane.JSONField{
		{Name: "code", Value: dataplane.Format{Parts: []dataplane.FormatPart{{Command: dataplane.ResponseCode}}}},
		{Name: "said", Value: dataplane.Format{Parts: []dataplane.FormatPart{{Text: "<"}, {Command: dataplane.LocalReplyBody}, {Command: dataplane.RequestHeader, Text: "X-None"}}}},
		{Name: "who", Value: dataplane.Format{Parts: []dataplane.FormatPart{{Command: dataplane.RequestHeader, Text: "X-Who"}}}},
	}}}}
	a := w.send(&hosts{}, "GET", http.Header{"X-Who": {`a "b"`}})
	if want := `{"code":503,"said":"<b-","who":"a \"b\""}` + "\n"; a.Local.Body != want || a.Local.Header.Get("Content-Length") != fmt.Sprint(len(want)) {
		t.Errorf("got %q, want %q", a.Local.Body, want)
	}
}

func TestHeaderEdits(t *testing.T) {
	lit := func(s string) dataplane.Format { return dataplane.Format{Parts: []dataplane.FormatPart{{Text: s}}} }
	w := newWorld(t, 1, func(w *world) {
		w.http.Filters = []dataplane.HTTPFilter{{Name: "m", Filter: &dataplane.HeaderMutation{Request: []dataplane.HeaderEdit{
			{Name: "X-A", Value: lit("2")},
			{Name: "X-Copy", Value: dataplane.Format{Parts: []dataplane.FormatPart{{Command: dataplane.RequestHeader, Text: "X-A"}}}},
			{Name: "X-None", Value: dataplane.Format{Parts: []dataplane.FormatPart{{Command: dataplane.RequestHeader, Text: "X-B"}}}},
			{Name: "X-Kept", Value: dataplane.Format{}, KeepEmpty: true},
			{Name: "X-A", Value: lit("3"), Action: dataplane.AddIfAbsent},
			{Name: "X-C", Value: lit("c"), Action: dataplane.AddIfAbsent},
			{Name: "X-D", Value: lit("d"), Action: dataplane.OverwriteIfExists},
			{Name: "X-Copy", Value: lit("e"), Action: dataplane.Overwrite},
			{Name: "X-Gone", Action: dataplane.RemoveHeader},
		}}}}
	})
	h := http.Header{"X-A": {"1"}, "X-Gone": {"1"}}
	w.send(&hosts{act: status(200)}, "GET", h)
	if want := "map[X-A:[1 2] X-C:[c] X-Copy:[e] X-Kept:[]]"; fmt.Sprint(h) != want {
		t.Errorf("got %v, want %s", h, want)
	}
}
