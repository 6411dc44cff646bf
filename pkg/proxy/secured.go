package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
)

// secured is a listener whose connections have shaken hands. Close ends all of its goroutines.
type secured struct {
	net.Listener
	config atomic.Pointer[tls.Config]
	ready  chan net.Conn
	closed chan struct{}
	once   sync.Once
	shakes streams // connections that shake hands

	mu     sync.Mutex
	counts map[string]int64 // by name below "ssl."
}

func newSecured(under net.Listener, context *dataplane.DownstreamTLS) *secured {
	s := &secured{Listener: under, ready: make(chan net.Conn), closed: make(chan struct{}), counts: map[string]int64{}}
	s.configure(context)
	s.shakes.all.Go(s.run)
	return s
}

// configure has connections from now on shake hands as context says.
func (s *secured) configure(context *dataplane.DownstreamTLS) {
	s.config.Store(newMaterial(&context.TLS).server(context.RequireClientCertificate))
}

func (s *secured) run() {
	for {
		c, err := s.Listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // no file left, or the like
			time.Sleep(5 * time.Millisecond)
			continue
		}
		if !s.shakes.add(c) {
			_ = c.Close()
			continue
		}
		s.shakes.all.Go(func() { s.shake(c) })
	}
}

func (s *secured) shake(c net.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), headTime)
	defer cancel()
	t := tls.Server(c, s.config.Load())
	err := shake(ctx, t, s.count)
	s.shakes.remove(c)
	if err != nil {
		return
	}
	select {
	case s.ready <- t:
	case <-s.closed:
		_ = t.Close()
	}
}

// Accept implements net.Listener.
func (s *secured) Accept() (net.Conn, error) {
	select {
	case c := <-s.ready:
		return c, nil
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. Connections that have not shaken hands are cut off.
func (s *secured) Close() error {
	err := net.ErrClosed
	s.once.Do(func() {
		close(s.closed)
		err = s.Listener.Close()
		s.shakes.cut()
		s.shakes.all.Wait()
	})
	return err
}

func (s *secured) count(stat string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[stat]++
}

func (s *secured) stats(prefix string, yield func(name string, value int64)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for stat, n := range s.counts {
		yield(prefix+stat, n)
	}
}
