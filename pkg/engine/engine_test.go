package engine_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/engine"
	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type noPool struct{}

func (noPool) Close() error { return nil }

// hosts answers attempts by what act says of a host; it notes who was asked.
type hosts struct {
	act     func(ctx context.Context, a *engine.Attempt) engine.Result
	mu      sync.Mutex // hedged attempts run beside each other
	asked   []string
	dropped int
}

func (u *hosts) Try(ctx context.Context, a *engine.Attempt) engine.Result {
	u.mu.Lock()
	u.asked = append(u.asked, a.Host.Address.String())
	u.mu.Unlock()
	if !a.Admit() {
		return engine.Result{Failure: engine.Overflow}
	}
	return u.act(ctx, a)
}

func (u *hosts) Drop() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.dropped++
}

func (u *hosts) Fork() engine.Upstream { return u }

func status(code int) func(context.Context, *engine.Attempt) engine.Result {
	return func(context.Context, *engine.Attempt) engine.Result {
		return engine.Result{Status: code, Header: http.Header{}}
	}
}

// sequence answers the n-th attempt by the n-th of acts, and the last for ever.
func sequence(acts ...func(context.Context, *engine.Attempt) engine.Result) func(context.Context, *engine.Attempt) engine.Result {
	n := 0
	return func(ctx context.Context, a *engine.Attempt) engine.Result {
		act := acts[min(n, len(acts)-1)]
		n++
		return act(ctx, a)
	}
}

func failed(f engine.Failure) func(context.Context, *engine.Attempt) engine.Result {
	return func(context.Context, *engine.Attempt) engine.Result { return engine.Result{Failure: f} }
}

func hang(ctx context.Context, _ *engine.Attempt) engine.Result {
	<-ctx.Done()
	return engine.Result{Failure: engine.LocalReset}
}

// world is a table with one cluster "c" of n hosts and one route.
type world struct {
	engine  *engine.Engine
	table   *dataplane.Table
	cluster *dataplane.Cluster
	route   *dataplane.Route
	http    *dataplane.HTTP
}

func newWorld(t testing.TB, n int, change func(*world)) *world {
	w := &world{cluster: &dataplane.Cluster{Name: "c"}, route: &dataplane.Route{Path: dataplane.PathMatch{Prefix: "/"}, Cluster: "c"}}
	for i := range w.cluster.Thresholds {
		w.cluster.Thresholds[i] = resilience.Thresholds{
			MaxConnections: resilience.Unlimited, MaxPendingRequests: resilience.Unlimited, MaxRequests: resilience.Unlimited, MaxRetries: 3,
			MaxConnectionPools: resilience.Unlimited,
		}
	}
	for i := range n {
		w.cluster.Hosts = append(w.cluster.Hosts, dataplane.Host{Address: address(i), Weight: 1})
	}
	w.http = &dataplane.HTTP{Routes: &dataplane.RouteConfig{Hosts: []*dataplane.VirtualHost{{Domains: []string{"*"}, Routes: []*dataplane.Route{w.route}}}}}
	w.table = &dataplane.Table{Clusters: map[string]*dataplane.Cluster{"c": w.cluster}}
	if change != nil {
		change(w)
	}
	w.engine = engine.New(engine.Options{NewPool: func(*engine.Host) io.Closer { return noPool{} }, Rand: rand.Uint64})
	w.engine.SetTable(w.table)
	t.Cleanup(w.engine.Close)
	return w
}

func address(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), 80)
}

// call sends one complete GET.
func (w *world) call(up engine.Upstream) engine.Answer { return w.send(up, "GET", http.Header{}) }

func (w *world) send(up engine.Upstream, method string, h http.Header) engine.Answer {
	c := w.engine.Begin(context.Background(), w.http, &engine.Request{Method: method, Authority: "payments.shop:80", Path: "/a?b", Header: h})
	c.Complete()
	a := c.Do(context.Background(), up)
	c.Finish(engine.Whole)
	return a
}

func (w *world) stats() map[string]int64 {
	all := map[string]int64{}
	w.engine.Stats(func(name string, v int64) { all[strings.TrimPrefix(name, "cluster.c.")] = v })
	return all
}

func (w *world) expect(t *testing.T, want map[string]int64) {
	t.Helper()
	got := w.stats()
	for name, v := range want {
		if got[name] != v {
			t.Errorf("%s is %d, want %d", name, got[name], v)
		}
	}
	for _, name := range []string{"upstream_rq_active", "upstream_rq_pending_active"} {
		if got[name] != 0 {
			t.Errorf("%s is %d after all calls", name, got[name])
		}
	}
}

// local tells an answer of our own in one line.
func local(a engine.Answer) string {
	if a.Local == nil {
		return fmt.Sprintf("%d %v", a.Status, a.Flags)
	}
	return fmt.Sprintf("local %d %v %q", a.Local.Status, a.Flags, a.Local.Body)
}

func TestAnswersOfOurOwn(t *testing.T) {
	const reset = "upstream connect error or disconnect/reset before headers. reset reason: "
	for name, tt := range map[string]struct {
		change func(*world)
		act    func(context.Context, *engine.Attempt) engine.Result
		want   string
	}{
		"no route":      {func(w *world) { w.route.Path = dataplane.PathMatch{Exact: "/other"} }, nil, `local 404 NR ""`},
		"no routes":     {func(w *world) { w.http.Routes = nil }, nil, `local 404 NR ""`},
		"no cluster":    {func(w *world) { w.route.Cluster = "gone" }, nil, `local 503 NC ""`},
		"no host":       {func(w *world) { w.cluster.Hosts = nil }, nil, `local 503 UH "no healthy upstream"`},
		"direct":        {func(w *world) { w.route.Direct = &dataplane.DirectResponse{Status: 418, Body: "tea"} }, nil, `local 418 - "tea"`},
		"maintenance":   {func(w *world) { w.cluster.Maintenance = 100 }, nil, `local 503 UO "maintenance mode"`},
		"dropped":       {func(w *world) { w.cluster.DropPercent = 100 }, nil, `local 503 UDO "unconditional drop overload"`},
		"overflow":      {func(w *world) { w.cluster.Thresholds[0].MaxRequests = 0 }, nil, `local 503 UO "` + reset + `overflow"`},
		"refused":       {nil, failed(engine.ConnectRefused), `local 503 UF "` + reset + `remote connection failure"`},
		"no connection": {nil, failed(engine.ConnectTimeout), `local 503 UF "` + reset + `connection timeout"`},
		"terminated":    {nil, failed(engine.Termination), `local 503 UC "` + reset + `connection termination"`},
		"reset":         {nil, failed(engine.RemoteReset), `local 503 UR "` + reset + `remote reset"`},
		"refused stream": {nil, failed(engine.RefusedStream),
			`local 503 UR "` + reset + `remote refused stream reset"`},
		"protocol error": {nil, failed(engine.ProtocolError), `local 502 UPE "` + reset + `protocol error"`},
		"timeout":        {func(w *world) { w.route.Timeout = time.Second }, hang, `local 504 UT "upstream request timeout"`},
		"a try's own limit": {func(w *world) { w.cluster.MaxStream = time.Second }, hang,
			`local 504 UMSDR "upstream max stream duration reached"`},
		"duration": {func(w *world) { d := time.Second; w.route.MaxStreamDuration = &d }, hang,
			`local 504 - "downstream duration timeout"`},
		"idle":     {func(w *world) { w.http.StreamIdleTimeout = time.Second }, hang, `local 504 SI "stream timeout"`},
		"response": {nil, status(503), `503 -`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 1, tt.change)
				if got := local(w.call(&hosts{act: tt.act})); got != tt.want {
					t.Errorf("got %s\nwant %s", got, tt.want)
				}
				w.expect(t, nil)
			})
		})
	}
}

func TestLocalRepliesToGRPC(t *testing.T) {
	w := newWorld(t, 0, nil)
	a := w.send(&hosts{}, "POST", http.Header{"Content-Type": {"application/grpc"}})
	got := fmt.Sprint(a.Local.Status, a.Local.Header, a.Local.Body)
	if want := "200 map[Content-Type:[application/grpc] Grpc-Message:[no healthy upstream] Grpc-Status:[14]]"; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

func retrying(on resilience.RetryOn, n uint32) *resilience.Retry {
	return &resilience.Retry{On: on, NumRetries: n, BackOff: resilience.DefaultBackOff()}
}

func TestRetries(t *testing.T) {
	for name, tt := range map[string]struct {
		retry *resilience.Retry
		act   func(context.Context, *engine.Attempt) engine.Result
		want  string
		asked int
		stats map[string]int64
	}{
		"none": {nil, status(503), "503 -", 1, map[string]int64{"upstream_rq_503": 1, "upstream_rq_retry": 0}},
		"answered at last": {retrying(resilience.On5xx, 3), sequence(status(503), failed(engine.Termination), status(200)), "200 -", 3,
			map[string]int64{"upstream_rq_retry": 2, "upstream_rq_retry_success": 1, "upstream_rq_total": 3, "upstream_rq_completed": 1,
				"retry.upstream_rq_503": 1, "upstream_rq_503": 0, "upstream_rq_200": 1, "upstream_rq_2xx": 1}},
		"exhausted": {retrying(resilience.On5xx, 2), status(503), "503 URX", 3,
			map[string]int64{"upstream_rq_retry": 2, "upstream_rq_retry_limit_exceeded": 1, "upstream_rq_503": 1}},
		"exhausted by resets": {retrying(resilience.OnReset, 1), failed(engine.Termination),
			`local 503 URX,UC "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: connection termination"`,
			2, map[string]int64{"upstream_rq_rx_reset": 0, "upstream_rq_completed": 1}},
		"another condition": {retrying(resilience.OnConnectFailure, 3), failed(engine.Termination),
			`local 503 UC "upstream connect error or disconnect/reset before headers. reset reason: connection termination"`, 1, nil},
		"per try timeout": {&resilience.Retry{On: resilience.OnReset, NumRetries: 1, PerTryTimeout: time.Second, BackOff: resilience.DefaultBackOff()},
			sequence(hang, status(200)), "200 -", 2, map[string]int64{"upstream_rq_per_try_timeout": 1, "upstream_rq_retry_success": 1}},
		"per try timeouts exhausted": {&resilience.Retry{On: resilience.OnReset, NumRetries: 1, PerTryTimeout: time.Second},
			hang, `local 504 URX,UT "upstream request timeout"`, 2, map[string]int64{"upstream_rq_per_try_timeout": 2}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 2, func(w *world) { w.route.Retry = tt.retry })
				up := &hosts{act: tt.act}
				if got := local(w.call(up)); got != tt.want || len(up.asked) != tt.asked {
					t.Errorf("got %s after %d tries\nwant %s after %d", got, len(up.asked), tt.want, tt.asked)
				}
				w.expect(t, tt.stats)
			})
		})
	}
}

// TestTheCallsTimeoutHoldsOverAllTries has tries of 300 ms within a second.
func TestTheCallsTimeoutHoldsOverAllTries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2, func(w *world) {
			w.route.Timeout = time.Second
			w.route.Retry = &resilience.Retry{On: resilience.On5xx, NumRetries: 100, PerTryTimeout: 300 * time.Millisecond, BackOff: resilience.BackOff{Base: 1, Max: 1}}
		})
		start := time.Now()
		up := &hosts{act: hang}
		got := local(w.call(up))
		if took := time.Since(start); took != time.Second || got != `local 504 UT "upstream request timeout"` || len(up.asked) != 4 {
			t.Errorf("%s after %v and %d tries", got, took, len(up.asked))
		}
		w.expect(t, map[string]int64{"upstream_rq_timeout": 1, "upstream_rq_per_try_timeout": 3})
	})
}

// TestTimesStartWithTheCompleteRequest has an application that takes 10 s for its body.
func TestTimesStartWithTheCompleteRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, func(w *world) {
			w.route.Timeout = 3 * time.Second
			w.route.Retry = &resilience.Retry{PerTryTimeout: time.Second}
		})
		start := time.Now()
		c := w.engine.Begin(context.Background(), w.http, &engine.Request{Method: "POST", Authority: "a", Path: "/", Header: http.Header{}})
		time.AfterFunc(10*time.Second, c.Complete)
		a := c.Do(context.Background(), &hosts{act: hang})
		c.Finish(engine.Whole)
		if took := time.Since(start); took != 11*time.Second || local(a) != `local 504 UT "upstream request timeout"` {
			t.Errorf("%s after %v, want the per-try timeout one second after the body", local(a), took)
		}
	})
}

func TestEjectionAndReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2, func(w *world) {
			w.cluster.Outlier = &resilience.Outlier{
				Consecutive5xx: resilience.Consecutive{Threshold: 5, Enforcing: 100}, Interval: time.Second,
				BaseEjectionTime: 30 * time.Second, MaxEjectionTime: 30 * time.Second, MaxEjectionPercent: 100,
			}
		})
		bad := address(0).String()
		up := &hosts{act: func(ctx context.Context, a *engine.Attempt) engine.Result {
			if a.Host.Address.String() == bad {
				return engine.Result{Failure: engine.ConnectRefused}
			}
			return status(200)(ctx, a)
		}}
		asked := func(n int) (times int) {
			up.asked = nil
			for range n {
				w.call(up)
			}
			for _, h := range up.asked {
				if h == bad {
					times++
				}
			}
			return times
		}
		if n := asked(20); n != 5 {
			t.Errorf("the bad host got %d of 20 calls, want 5 and then none", n)
		}
		w.expect(t, map[string]int64{"outlier_detection.ejections_active": 1, "outlier_detection.ejections_enforced_consecutive_5xx": 1, "membership_healthy": 1})

		// A table with other limits and another host keeps the ejection.
		changed := *w.cluster
		changed.Hosts = append(slices.Clone(changed.Hosts), dataplane.Host{Address: address(2), Weight: 1})
		changed.Thresholds[0].MaxRequests = 7
		w.engine.SetTable(&dataplane.Table{Clusters: map[string]*dataplane.Cluster{"c": &changed}})
		if n := asked(20); n != 0 {
			t.Errorf("after another table the ejected host got %d calls", n)
		}
		time.Sleep(29 * time.Second)
		if n := asked(20); n != 0 {
			t.Errorf("after 29 s it got %d calls", n)
		}
		time.Sleep(2 * time.Second)
		if n := asked(9); n == 0 {
			t.Error("after 31 s it is still out")
		}
		changed2 := changed
		changed2.Outlier = nil
		w.engine.SetTable(&dataplane.Table{Clusters: map[string]*dataplane.Cluster{"c": &changed2}})
		if n := asked(30); n != 10 {
			t.Errorf("without outlier detection the bad host got %d of 30, want its third", n)
		}
	})
}

func TestCompositeGoesMemberByMember(t *testing.T) {
	w := newWorld(t, 1, func(w *world) {
		other := *w.cluster
		other.Name, other.Hosts = "queue", []dataplane.Host{{Address: address(9), Weight: 1}}
		w.table.Clusters["queue"] = &other
		both := *w.cluster
		both.Name, both.Hosts, both.Members = "c~queue~2", nil, []string{"c", "c", "queue"}
		w.table.Clusters["c~queue~2"] = &both
		w.route.Cluster = "c~queue~2"
		w.route.Retry = retrying(resilience.On5xx, 2)
		w.route.Retry.BackOff = resilience.BackOff{}
	})
	up := &hosts{act: sequence(status(503), status(503), status(200))}
	if got := local(w.call(up)); got != "200 -" || strings.Join(up.asked, " ") != "10.0.0.1:80 10.0.0.1:80 10.0.0.10:80" {
		t.Errorf("got %s from %v", got, up.asked)
	}
	empty := *w.cluster
	empty.Hosts = nil
	w.table.Clusters["c"] = &empty
	w.engine.SetTable(w.table)
	up = &hosts{act: status(200)}
	if got := local(w.call(up)); got != "200 -" || strings.Join(up.asked, " ") != "10.0.0.10:80" {
		t.Errorf("with main empty: %s from %v", got, up.asked)
	}
}

// TestRetriesNeedABudget has as many calls in flight as give one retry.
func TestRetriesNeedABudget(t *testing.T) {
	w := newWorld(t, 1, func(w *world) {
		w.cluster.Thresholds[0].Budget = &resilience.Budget{Percent: 20}
		w.route.Retry = retrying(resilience.On5xx, 1)
	})
	if got := local(w.call(&hosts{act: status(503)})); got != "503 UO" {
		t.Errorf("one call alone: %s, want its retry refused", got)
	}
	w.expect(t, map[string]int64{"upstream_rq_retry_overflow": 1, "upstream_rq_retry": 0})
}

func TestScopesAndDomains(t *testing.T) {
	routes := func(cluster string) []*dataplane.Route {
		return []*dataplane.Route{{Path: dataplane.PathMatch{Prefix: "/"}, Direct: &dataplane.DirectResponse{Status: 200, Body: cluster}}}
	}
	vh := func(domain string) *dataplane.VirtualHost {
		return &dataplane.VirtualHost{Domains: []string{domain}, Routes: routes(domain)}
	}
	w := newWorld(t, 0, func(w *world) {
		w.table.Scopes = map[string]*dataplane.RouteConfig{"payments": {Hosts: []*dataplane.VirtualHost{vh("*")}}}
	})
	domains := &dataplane.HTTP{Routes: &dataplane.RouteConfig{IgnorePort: true, Hosts: []*dataplane.VirtualHost{
		vh("*"), vh("*.shop"), vh("*.eu.shop"), vh("pay.*"), vh("pay.shop"),
	}}}
	for _, tt := range []struct {
		http            *dataplane.HTTP
		authority, want string
	}{
		{&dataplane.HTTP{Scoped: true}, "payments", "*"}, {&dataplane.HTTP{Scoped: true}, "payments:80", "*"},
		{&dataplane.HTTP{Scoped: true}, "Payments", ""}, {&dataplane.HTTP{Scoped: true}, "other", ""},
		{domains, "pay.shop:8080", "pay.shop"}, {domains, "PAY.shop", "pay.shop"}, {domains, "a.shop", "*.shop"},
		{domains, "a.eu.shop", "*.eu.shop"}, {domains, "pay.other", "pay.*"}, {domains, ".shop", "*"}, {domains, "[::1]:80", "*"},
	} {
		c := w.engine.Begin(context.Background(), tt.http, &engine.Request{Method: "GET", Authority: tt.authority, Path: "/", Header: http.Header{}})
		a := c.Do(context.Background(), &hosts{})
		c.Finish(engine.Whole)
		if a.Local.Body != tt.want {
			t.Errorf("%s went to %q, want %q", tt.authority, a.Local.Body, tt.want)
		}
	}
}

func TestRoutesMatch(t *testing.T) {
	for name, tt := range map[string]struct {
		route  dataplane.Route
		method string
		header http.Header
		want   bool
	}{
		"prefix":          {dataplane.Route{Path: dataplane.PathMatch{Prefix: "/a"}}, "GET", nil, true},
		"longer prefix":   {dataplane.Route{Path: dataplane.PathMatch{Prefix: "/ab"}}, "GET", nil, false},
		"exact":           {dataplane.Route{Path: dataplane.PathMatch{Exact: "/a"}}, "GET", nil, true},
		"with query":      {dataplane.Route{Path: dataplane.PathMatch{Exact: "/a?b"}}, "GET", nil, false},
		"regex":           {dataplane.Route{Path: dataplane.PathMatch{Regex: func(p string) bool { return p == "/a" }}}, "GET", nil, true},
		"method":          {dataplane.Route{Headers: []resilience.HeaderMatch{{Name: ":method", Value: "POST"}}}, "GET", nil, false},
		"right method":    {dataplane.Route{Headers: []resilience.HeaderMatch{{Name: ":method", Value: "POST"}}}, "POST", nil, true},
		"header":          {dataplane.Route{Headers: []resilience.HeaderMatch{{Name: "x-a", Value: "1"}}}, "GET", http.Header{"X-A": {"1"}}, true},
		"grpc":            {dataplane.Route{GRPC: true}, "POST", http.Header{"Content-Type": {"application/grpc+proto"}}, true},
		"not grpc":        {dataplane.Route{GRPC: true}, "POST", http.Header{"Content-Type": {"application/grpc-web"}}, false},
		"grpc by default": {dataplane.Route{GRPC: true}, "POST", http.Header{}, false},
	} {
		w := newWorld(t, 0, func(w *world) {
			*w.route = tt.route
			w.route.Direct = &dataplane.DirectResponse{Status: 200}
		})
		a := w.send(&hosts{}, tt.method, tt.header)
		if got := a.Flags == 0; got != tt.want {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}

// TestLimitsAreGivenBack has room for one request at a time, however each of many ends.
func TestLimitsAreGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, func(w *world) {
			w.cluster.Thresholds[0] = resilience.Thresholds{MaxRequests: 1, MaxRetries: 1, MaxConnectionPools: resilience.Unlimited}
			w.route.Timeout = time.Second
			w.route.Retry = retrying(resilience.On5xx, 1)
		})
		for range 3 {
			for name, act := range map[string]func(context.Context, *engine.Attempt) engine.Result{
				"answered": status(200), "retried": sequence(status(503), status(200)), "exhausted": status(503),
				"reset": failed(engine.Termination), "late": hang,
			} {
				if a := w.call(&hosts{act: act}); a.Flags&engine.UO != 0 {
					t.Errorf("%s: %s, want room for it", name, local(a))
				}
			}
		}
		w.expect(t, map[string]int64{"upstream_rq_active_overflow": 0, "upstream_rq_retry_overflow": 0, "circuit_breakers.default.remaining_rq": 1})
	})
}

// TestHedging has a second attempt run beside a slow first.
func TestHedging(t *testing.T) {
	after := func(d time.Duration, code int) func(context.Context, *engine.Attempt) engine.Result {
		return func(ctx context.Context, a *engine.Attempt) engine.Result {
			select {
			case <-time.After(d):
				return status(code)(ctx, a)
			case <-ctx.Done():
				return engine.Result{Failure: engine.LocalReset}
			}
		}
	}
	for name, tt := range map[string]struct {
		first, second func(context.Context, *engine.Attempt) engine.Result
		on            resilience.RetryOn
		want          string
		took          time.Duration
		asked         int
	}{
		"the second is faster":    {hang, status(200), resilience.OnConnectFailure, "200 -", time.Second, 2},
		"the first after all":     {after(1500*time.Millisecond, 200), hang, resilience.OnConnectFailure, "200 -", 1500 * time.Millisecond, 2},
		"the second is bad":       {after(1500*time.Millisecond, 200), status(503), resilience.On5xx, "200 URX", 1500 * time.Millisecond, 2},
		"not needed":              {after(time.Second/2, 201), status(200), resilience.OnConnectFailure, "201 -", time.Second / 2, 1},
		"a failure before":        {status(503), status(200), resilience.On5xx, "200 -", 0, 2},
		"both hang":               {hang, hang, resilience.OnConnectFailure, `local 504 URX,UT "upstream request timeout"`, 3 * time.Second, 2},
		"bad, then the other too": {after(1500*time.Millisecond, 503), after(time.Second, 503), resilience.On5xx, "503 URX", 2 * time.Second, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 2, func(w *world) {
					w.route.Timeout = 3 * time.Second
					w.route.HedgeOnPerTryTimeout = true
					w.route.Retry = &resilience.Retry{On: tt.on, NumRetries: 1, PerTryTimeout: time.Second}
				})
				up := &hosts{act: func(ctx context.Context, a *engine.Attempt) engine.Result {
					if a.Number == 1 {
						return tt.first(ctx, a)
					}
					return tt.second(ctx, a)
				}}
				start := time.Now()
				got := local(w.call(up))
				if took := time.Since(start); got != tt.want || took != tt.took || len(up.asked) != tt.asked {
					t.Errorf("got %s after %v and %d tries\nwant %s after %v and %d", got, took, len(up.asked), tt.want, tt.took, tt.asked)
				}
				w.expect(t, map[string]int64{"upstream_rq_per_try_timeout": 0})
			})
		})
	}
}

func BenchmarkCall(b *testing.B) {
	w := newWorld(b, 10, func(w *world) {
		w.http.SuppressEnvoy = true // as our own listener has it: nobody is told of times
		w.cluster.Balancing.Algorithm = resilience.LeastRequest
		w.cluster.Outlier = &resilience.Outlier{Consecutive5xx: resilience.Consecutive{Threshold: 5, Enforcing: 100}, Interval: time.Hour, MaxEjectionPercent: 100}
		w.route.Retry = retrying(resilience.On5xx, 2)
	})
	up := &quick{res: engine.Result{Status: 200, Header: http.Header{}}}
	r := &engine.Request{Method: "GET", Authority: "payments", Path: "/", Header: http.Header{}}
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		c := w.engine.Begin(context.Background(), w.http, r)
		c.Complete()
		c.Do(ctx, up)
		c.Finish(engine.Whole)
	}
}

type quick struct{ res engine.Result }

func (q *quick) Try(_ context.Context, a *engine.Attempt) engine.Result {
	a.Admit()
	return q.res
}

func (q *quick) Drop() {}

func (q *quick) Fork() engine.Upstream { return q }
