package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// TestTablesChangeUnderLoad removes and adds hosts, limits and detectors while requests run: none fails, and nothing is left over.
func TestTablesChangeUnderLoad(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprint("h2=", h2), func(t *testing.T) {
			var hosts []dataplane.Host
			for range 3 {
				address := upstream(t, func(w http.ResponseWriter, r *http.Request) {
					n, _ := io.Copy(io.Discard, r.Body)
					fmt.Fprint(w, n)
				})
				hosts = append(hosts, dataplane.Host{Address: netip.MustParseAddrPort(address), Weight: 1})
			}
			f := newFixture(t, func(f *fixture) { f.cluster.HTTP2 = h2 }, hosts[0].Address.String())
			var stop atomic.Bool
			var all sync.WaitGroup
			for range 4 {
				all.Go(func() {
					for !stop.Load() {
						resp, err := f.client.Post("http://"+f.address(), "text/plain", strings.NewReader("12345"))
						if err != nil {
							t.Error(err)
							return
						}
						body, err := io.ReadAll(resp.Body)
						resp.Body.Close()
						if err != nil || resp.StatusCode != 200 || string(body) != "5" {
							t.Errorf("%d %q %v", resp.StatusCode, body, err)
							return
						}
					}
				})
			}
			begun := time.Now()
			for i := 0; time.Since(begun) < 400*time.Millisecond; i++ {
				c := *f.cluster
				c.Hosts = []dataplane.Host{hosts[i%3], hosts[(i+i%2)%3]}[:1+i%2]
				c.Thresholds[0].MaxRequests = resilience.Unlimited - uint32(i%5)
				if i%3 == 0 {
					c.Outlier = &resilience.Outlier{Interval: time.Millisecond, Consecutive5xx: resilience.Consecutive{Threshold: 5, Enforcing: 100}}
				}
				next := *f.table
				next.Clusters = map[string]*dataplane.Cluster{c.Name: &c}
				if err := f.server.SetTable(&next); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Millisecond)
			}
			stop.Store(true)
			all.Wait()
			eventually(t, "nothing is active", func() bool { return f.stat("upstream_rq_active") == 0 && f.stat("upstream_cx_active") <= 8 })
		})
	}
}
