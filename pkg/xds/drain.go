package xds

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Run returns once ctx has ended and with it every stream, with Unavailable so that proxies go elsewhere or come back. Over Config.Drain
// it ends them one after another, so that those who take them over have time; what has not ended yet is served. No stream begins any more.
func (s *Server) Run(ctx context.Context) error {
	<-ctx.Done()
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	deadline := time.Now().Add(s.cfg.Drain)
	for wait, more := s.pace(deadline); more; wait, more = s.pace(deadline) {
		time.Sleep(wait)
		s.endOne()
	}
	s.handlers.Wait()
	return context.Cause(ctx)
}

// pace is how long to wait before the next stream is ended, so that the last one is just before deadline. False: there is none.
func (s *Server) pace(deadline time.Time) (wait time.Duration, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.begun)
	return max(0, time.Until(deadline)) / time.Duration(n+1), n > 0
}

// endOne ends any stream: maps have no order.
func (s *Server) endOne() {
	if st := s.pick(); st != nil {
		_ = st.end(errDraining())
	}
}

func (s *Server) pick() *stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	for st := range s.begun {
		delete(s.begun, st)
		return st
	}
	return nil
}

// begin counts a stream, unless the server is going.
func (s *Server) begin(st *stream) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.handlers.Add(1)
	s.begun[st] = struct{}{}
	return true
}

// done takes back begin.
func (s *Server) done(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.begun, st)
	s.handlers.Done()
}

// errDraining sends a proxy elsewhere.
func errDraining() error {
	return status.Error(codes.Unavailable, "the control plane is shutting down")
}
