package proxy

import (
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/engine"
	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// listenerStats are Envoy's statistics of a listener's side.
type listenerStats struct {
	cxTotal, cxActive                 atomic.Int64
	rqTotal, rqHTTP2, rqActive, rqEnd atomic.Int64
	noRoute, noCluster                atomic.Int64
	classes                           [6]atomic.Int64
	rqTime                            resilience.Timings
}

// Request counts a request of a major version of HTTP.
func (s *listenerStats) Request(major int) {
	s.rqTotal.Add(1)
	if major >= 2 {
		s.rqHTTP2.Add(1)
	}
	s.rqActive.Add(1)
}

// Response counts its answer after d; status 0 is none.
func (s *listenerStats) Response(status int, flags engine.Flags, d time.Duration) {
	s.rqActive.Add(-1)
	s.rqEnd.Add(1)
	s.rqTime.Add(d)
	if flags&(engine.NR|engine.NC) != 0 {
		s.unrouted(flags)
	}
	if class := status / 100; class > 0 && class < len(s.classes) {
		s.classes[class].Add(1)
	}
}

func (s *listenerStats) unrouted(flags engine.Flags) {
	if flags&engine.NR != 0 {
		s.noRoute.Add(1)
	} else {
		s.noCluster.Add(1)
	}
}

func (s *listenerStats) connection(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.cxTotal.Add(1)
		s.cxActive.Add(1)
	case http.StateClosed, http.StateHijacked:
		s.cxActive.Add(-1)
	}
}

// Stats yields the statistics of all listeners by Envoy's names. Listeners that share a prefix yield the same names.
func (s *Server) Stats(yield func(name string, value int64)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.listeners {
		prefix, n := l.statPrefix(), &l.stats
		under := "listener." + strings.ReplaceAll(l.address, ":", "_") + "."
		total, active := n.cxTotal.Load(), n.cxActive.Load()
		for _, at := range [...]string{prefix, under} {
			yield(at+"downstream_cx_total", total)
			yield(at+"downstream_cx_active", active)
			yield(at+"downstream_cx_destroy", total-active)
		}
		if l.secure != nil {
			l.secure.stats(under+"ssl.", yield)
		}
		if l.http == nil {
			continue
		}
		requests, http2 := n.rqTotal.Load(), n.rqHTTP2.Load()
		yield(prefix+"downstream_rq_total", requests)
		yield(prefix+"downstream_rq_http1_total", requests-http2)
		yield(prefix+"downstream_rq_http2_total", http2)
		yield(prefix+"downstream_rq_active", n.rqActive.Load())
		yield(prefix+"rq_total", requests)
		yield(prefix+"no_route", n.noRoute.Load())
		yield(prefix+"no_cluster", n.noCluster.Load())
		for _, at := range [...]string{prefix, under + prefix} {
			yield(at+"downstream_rq_completed", n.rqEnd.Load())
			for class := 1; class < len(n.classes); class++ {
				yield(at+"downstream_rq_"+strconv.Itoa(class)+"xx", n.classes[class].Load())
			}
		}
	}
}

// Timings yields the histograms of all listeners by Envoy's names.
func (s *Server) Timings(yield func(name string, t *resilience.Timings)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.listeners {
		if l.http != nil {
			yield(l.statPrefix()+"downstream_rq_time", &l.stats.rqTime)
		}
	}
}

func (l *listener) statPrefix() string {
	if config := l.config.Load(); config != nil {
		return "http." + config.StatPrefix + "."
	}
	return "tcp." + l.tcp.Load().StatPrefix + "."
}
