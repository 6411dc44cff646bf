package proxy

import (
	"net"
	"net/http"
	"sync/atomic"
)

// listenerStats are Envoy's statistics of a listener's side.
type listenerStats struct {
	cxTotal, cxActive, rqTotal, rqActive, rqCompleted atomic.Int64
	classes                                           [6]atomic.Int64
}

// Request counts a request.
func (s *listenerStats) Request() {
	s.rqTotal.Add(1)
	s.rqActive.Add(1)
}

// Response counts its answer; status 0 is none.
func (s *listenerStats) Response(status int) {
	s.rqActive.Add(-1)
	s.rqCompleted.Add(1)
	if class := status / 100; class > 0 && class < len(s.classes) {
		s.classes[class].Add(1)
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

// Stats yields the statistics of all listeners by Envoy's names.
func (s *Server) Stats(yield func(name string, value int64)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.listeners {
		prefix := "tcp."
		if config := l.config.Load(); config != nil {
			prefix = "http." + config.StatPrefix + "."
		} else {
			prefix += l.tcp.Load().StatPrefix + "."
		}
		yield(prefix+"downstream_cx_total", l.stats.cxTotal.Load())
		yield(prefix+"downstream_cx_active", l.stats.cxActive.Load())
		if l.http == nil {
			continue
		}
		yield(prefix+"downstream_rq_total", l.stats.rqTotal.Load())
		yield(prefix+"downstream_rq_active", l.stats.rqActive.Load())
		yield(prefix+"downstream_rq_completed", l.stats.rqCompleted.Load())
		for class := 1; class < len(l.stats.classes); class++ {
			yield(prefix+"downstream_rq_"+string(rune('0'+class))+"xx", l.stats.classes[class].Load())
		}
	}
}
