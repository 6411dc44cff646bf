package proxy_test

import (
	"context"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

func TestRequestsQueueForTheOneConnection(t *testing.T) {
	var most, now atomic.Int64
	host := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		if n := now.Add(1); n > most.Load() {
			most.Store(n)
		}
		time.Sleep(5 * time.Millisecond)
		now.Add(-1)
	})
	f := newFixture(t, func(f *fixture) { f.cluster.Thresholds[resilience.Default].MaxConnections = 1 }, host)
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() {
			resp, err := f.client.Get("http://" + f.address())
			if err != nil || resp.StatusCode != 200 {
				t.Errorf("%v %v", resp, err)
				return
			}
			resp.Body.Close()
		})
	}
	all.Wait()
	if most.Load() != 1 || f.stat("upstream_cx_total") != 1 || f.stat("upstream_cx_overflow") == 0 {
		t.Errorf("%d at once over %d connections, overflow %d; want one, one and some", most.Load(), f.stat("upstream_cx_total"), f.stat("upstream_cx_overflow"))
	}
}

func TestWithoutPlaceInTheQueue(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		f := newFixture(t, func(f *fixture) {
			f.cluster.HTTP2 = h2
			f.cluster.Thresholds[resilience.Default].MaxPendingRequests = 0
		}, upstream(t, func(http.ResponseWriter, *http.Request) {}))
		if resp, _ := f.get("GET", "/", nil); resp.StatusCode != 503 || f.stat("upstream_rq_pending_overflow") != 1 {
			t.Errorf("h2=%v: %d, overflow %d; want 503 and 1", h2, resp.StatusCode, f.stat("upstream_rq_pending_overflow"))
		}
	}
}

func TestConnectionsAreKeptAndClosed(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		host := upstream(t, func(http.ResponseWriter, *http.Request) {})
		f := newFixture(t, func(f *fixture) { f.cluster.HTTP2 = h2 }, host)
		for range 5 {
			f.get("GET", "/", nil)
		}
		if n := f.stat("upstream_cx_total"); n != 1 {
			t.Errorf("h2=%v: %d connections for 5 requests", h2, n)
		}
		without := *f.cluster
		without.Hosts = nil
		next := *f.table
		next.Clusters = map[string]*dataplane.Cluster{f.cluster.Name: &without}
		if err := f.server.SetTable(&next); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the connection to a host that is gone is closed", func() bool { return f.stat("upstream_cx_active") == 0 })
		if resp, _ := f.get("GET", "/", nil); resp.StatusCode != 503 {
			t.Errorf("h2=%v: without hosts %d", h2, resp.StatusCode)
		}
	}
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		f := newFixture(t, func(f *fixture) {
			f.cluster.HTTP2 = h2
			f.cluster.IdleTimeout = 30 * time.Millisecond
		}, upstream(t, func(http.ResponseWriter, *http.Request) {}))
		f.get("GET", "/", nil)
		eventually(t, "the idle connection is closed", func() bool { return f.stat("upstream_cx_active") == 0 })
		if resp, _ := f.get("GET", "/", nil); resp.StatusCode != 200 || f.stat("upstream_cx_total") != 2 {
			t.Errorf("h2=%v: %d over the %d. connection", h2, resp.StatusCode, f.stat("upstream_cx_total"))
		}
	}
}

func TestRefusedConnections(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		good := upstream(t, func(http.ResponseWriter, *http.Request) {})
		f := newFixture(t, func(f *fixture) {
			f.cluster.HTTP2 = h2
			f.route.Retry = &resilience.Retry{On: resilience.OnConnectFailure, NumRetries: 3, AvoidPreviousHosts: true, HostSelectionAttempts: 5}
		}, "127.0.0.1:1", good)
		for range 10 {
			if resp, body := f.get("POST", "/", nil); resp.StatusCode != 200 {
				t.Errorf("h2=%v: %d %s", h2, resp.StatusCode, body)
			}
		}
		if f.stat("upstream_cx_connect_fail") == 0 || f.stat("upstream_cx_active") != 1 {
			t.Errorf("h2=%v: %d refused, %d open", h2, f.stat("upstream_cx_connect_fail"), f.stat("upstream_cx_active"))
		}
	}
}

// TestTheTimeoutRunsWhileNoHostTakesTheBody has a request wait for the only connection, or for a host's window.
func TestTheTimeoutRunsWhileNoHostTakesTheBody(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		silent := script(t, func(net.Conn) { <-t.Context().Done() })
		f := newFixture(t, func(f *fixture) {
			f.cluster.Thresholds[resilience.Default].MaxConnections = 1
			f.cluster.HTTP2 = h2
		}, silent)
		first, cancel := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(first, "GET", "http://"+f.address(), nil)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = f.client.Do(req) // ends with cancel
		}()
		eventually(t, "the connection is taken", func() bool { return f.stat("upstream_rq_active") == 1 })
		timed := *f.route
		timed.Timeout = 50 * time.Millisecond
		f.http.Routes.Hosts[0].Routes[0] = &timed
		resp, _ := f.get("POST", "/", strings.NewReader(strings.Repeat("x", 100<<10)))
		if resp.StatusCode != 504 {
			t.Errorf("h2=%v: got %d, want 504", h2, resp.StatusCode)
		}
		cancel()
		<-done
	}
}
