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
	s.readers.Wait()
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
	s.mu.Lock()
	defer s.mu.Unlock()
	for st := range s.begun {
		st.end(errDraining())
		delete(s.begun, st)
		return
	}
}

// begin counts a stream and its reader, unless the server is going.
func (s *Server) begin(st *stream) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.readers.Add(1)
	s.begun[st] = struct{}{}
	return true
}

// done takes back begin.
func (s *Server) done(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.begun, st)
}

// errDraining sends a proxy elsewhere.
func errDraining() error {
	return status.Error(codes.Unavailable, "the control plane is shutting down")
}

// over says why a stream's context has ended: errDraining, or the proxy is gone.
func over(ctx context.Context) error {
	if err := context.Cause(ctx); status.Code(err) == codes.Unavailable {
		return err
	}
	return status.FromContextError(ctx.Err()).Err()
}
