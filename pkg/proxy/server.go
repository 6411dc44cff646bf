package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/engine"
)

// headTime bounds how long an application takes for the head of a request.
const headTime = time.Minute

// headSlack is room for what is no part of a head's names and values, whose size is looked at exactly.
const headSlack = 16 << 10

// Dial opens a connection to an "ip:port".
type Dial func(ctx context.Context, address string) (net.Conn, error)

// TCP dials over the network.
func TCP(ctx context.Context, address string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", address)
}

// Pools makes engine.Options.NewPool.
func Pools(dial Dial) func(*engine.Host) io.Closer {
	s := &secrets{by: map[string]*secret{}}
	return func(h *engine.Host) io.Closer {
		return &pools{host: h, dial: dial, secrets: s, lanes: map[laneKey]*lane{}}
	}
}

// Options are what a Server is made of.
type Options struct {
	Engine *engine.Engine
	// Listen opens a listener on an "ip:port".
	Listen func(address string) (net.Listener, error)
	// Inside has the internal listeners; its Dial must be that of the engine's pools. Nil: a table may have none.
	Inside *Inside
	// Log gets what net/http has to say.
	Log io.Writer
	// Access is told of each request and each TCP connection at its end, where it is not nil. It is called from many goroutines, each
	// of which waits for it.
	Access func(Access)
}

// Server runs the listeners of a table. Its owner calls Close, which ends all of its goroutines.
type Server struct {
	engine  *engine.Engine
	options Options

	mu        sync.Mutex
	listeners map[string]*listener
	closed    bool
	draining  atomic.Bool
	retired   sync.WaitGroup // listeners that drain because the table no longer names them
}

// listener is one listener of a table.
type listener struct {
	server  *Server
	name    string
	address string
	net     net.Listener
	secure  *secured // over net; nil: plaintext
	stats   listenerStats
	config  atomic.Pointer[dataplane.HTTP]
	tcp     atomic.Pointer[dataplane.TCP]
	http    *http.Server
	streams streams
	leaving atomic.Bool // it drains
	done    chan struct{}
}

// NewServer returns a server without listeners.
func NewServer(options Options) *Server {
	return &Server{engine: options.Engine, options: options, listeners: map[string]*listener{}}
}

// SetTable puts t in force and opens and closes listeners as it says. A listener that stays keeps its connections. An error names the
// listeners that could not be opened; the others serve. A later SetTable tries them again.
func (s *Server) SetTable(t *dataplane.Table) error {
	s.engine.SetTable(t)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	for name, l := range s.listeners {
		if config := t.Listeners[name]; config == nil || config.Address.String() != l.address || (config.HTTP != nil) != (l.http != nil) || (config.TLS != nil) != (l.secure != nil) {
			delete(s.listeners, name)
			l.stop() // at once: another may open there
			s.retired.Go(func() { l.drain(context.Background()) })
		}
	}
	var errs []error
	for name, config := range t.Listeners {
		if l := s.listeners[name]; l != nil {
			l.configure(config)
			continue
		}
		l, err := s.open(config)
		if err != nil {
			errs = append(errs, fmt.Errorf("listener %s: %w", name, err))
			continue
		}
		s.listeners[name] = l
	}
	return errors.Join(errs...)
}

// Addresses are the listeners' names and where they accept.
func (s *Server) Addresses() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	addresses := make(map[string]string, len(s.listeners))
	for name, l := range s.listeners {
		addresses[name] = l.net.Addr().String()
	}
	return addresses
}

// Drain makes each answer from now on the last of its connection. New connections are still accepted.
func (s *Server) Drain() { s.draining.Store(true) }

// Close stops accepting and lets requests under way finish until ctx ends; then they are cut off.
func (s *Server) Close(ctx context.Context) {
	s.mu.Lock()
	s.closed = true
	listeners := s.listeners
	s.listeners = map[string]*listener{}
	s.mu.Unlock()
	var all sync.WaitGroup
	for _, l := range listeners {
		all.Go(func() { l.drain(ctx) })
	}
	all.Wait()
	s.retired.Wait()
}

// accept opens the socket of a listener, or its door within the process.
func (s *Server) accept(config *dataplane.Listener) (net.Listener, error) {
	if !config.Inside {
		return s.options.Listen(config.Address.String())
	}
	if s.options.Inside == nil {
		return nil, errors.New("internal listeners are not served")
	}
	return s.options.Inside.listen(config.Name), nil
}

func (s *Server) open(config *dataplane.Listener) (*listener, error) {
	accept, err := s.accept(config)
	if err != nil {
		return nil, err
	}
	l := &listener{server: s, name: config.Name, address: config.Address.String(), net: accept, done: make(chan struct{})}
	if config.TLS != nil {
		l.secure = newSecured(accept, config.TLS)
		accept = l.secure
		l.net = accept
	}
	l.configure(config)
	if config.HTTP == nil {
		go l.acceptTCP()
		return l, nil
	}
	l.http = l.newHTTP(config.HTTP)
	go func() {
		defer close(l.done)
		_ = l.http.Serve(accept) // ends with Shutdown or Close
	}()
	return l, nil
}

func (l *listener) configure(config *dataplane.Listener) {
	l.config.Store(config.HTTP)
	l.tcp.Store(config.TCP)
	if l.secure != nil {
		l.secure.configure(config.TLS)
	}
}

// newHTTP makes net/http strict and silent. What it takes from config stays as it was when the listener was opened.
func (l *listener) newHTTP(config *dataplane.HTTP) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	protocols.SetHTTP2(true) // where TLS negotiates it
	server := &http.Server{
		Handler:                      http.HandlerFunc(l.serve),
		Protocols:                    protocols,
		ReadHeaderTimeout:            headTime,
		IdleTimeout:                  config.IdleTimeout,
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     log.New(l.server.options.Log, "", 0),
		ConnState:                    l.stats.connection,
	}
	if config.MaxHeadersKiB > 0 {
		server.MaxHeaderBytes = int(config.MaxHeadersKiB)<<10 + headSlack
	}
	streams := 1 << 20
	if n := config.MaxConcurrentStreams; n > 0 && n < 1<<20 {
		streams = int(n)
	}
	server.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: streams}
	return server
}

// linger is for how long a draining listener leaves idle connections open. An application that is about to send its next request on one
// is answered, and told that the connection ends with the answer; at once it would find the connection broken.
const linger = time.Second

// stop stops accepting.
func (l *listener) stop() {
	l.leaving.Store(true)
	_ = l.net.Close()
}

// drain stops accepting, and ends connections as their requests end.
func (l *listener) drain(ctx context.Context) {
	l.stop()
	if l.http != nil {
		l.linger(ctx)
		if err := l.http.Shutdown(ctx); err != nil {
			_ = l.http.Close()
		}
	}
	<-l.done
	l.streams.drain(ctx)
}

func (l *listener) linger(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, linger)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for l.stats.cxActive.Load() > 0 {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// ends reports whether each answer is the last of its connection.
func (l *listener) ends() bool { return l.leaving.Load() || l.server.draining.Load() }
