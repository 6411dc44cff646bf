package relay

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/breakwater-mesh/breakwater/pkg/ejections"
	"github.com/breakwater-mesh/breakwater/pkg/xdsclient"
)

const (
	maxStreams     = 256
	maxMessage     = 64 << 20
	maxHeaderBytes = 16 << 10
	pingInterval   = 15 * time.Second
	pingTimeout    = 10 * time.Second
	minPingOfPeer  = 4 * time.Second // Envoy pings every 10 s, whether or not there is a stream
)

// Config is what a Relay is made of. Servers is required.
type Config struct {
	Servers  *xdsclient.Servers
	StateDir string       // where memories are kept; "": nowhere, and they end with the process
	Logger   hclog.Logger // nil: silent
}

// Stream is how one client is doing.
type Stream struct {
	Node      string    `json:"node"`
	Dialect   string    `json:"dialect"`
	Since     time.Time `json:"since"`
	Server    string    `json:"server,omitempty"` // of the control plane; "": none can be reached
	Memory    bool      `json:"memory,omitempty"` // without a server: it is served what it accepted before
	Saved     time.Time `json:"saved,omitzero"`   // likewise: when that was written to disk; zero: never
	LastError string    `json:"last_error,omitempty"`

	way grpc.ClientConnInterface // to Server; nil: none
}

// Relay is the aggregated discovery service for the clients of one host. Its methods may be called by any goroutine.
type Relay struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	servers  *xdsclient.Servers
	log      hclog.Logger
	book     *book
	stopping chan struct{} // closed by Run
	wakes    chan struct{}
	work     sync.WaitGroup // of all goroutines that streams start

	fromMemory atomic.Int64 // responses

	mu      sync.Mutex
	closed  bool
	streams map[*Stream]struct{}
}

// New starts nothing.
func New(cfg Config) *Relay {
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	return &Relay{
		servers: cfg.Servers, log: cfg.Logger, book: newBook(cfg.StateDir, cfg.Logger), stopping: make(chan struct{}),
		wakes: make(chan struct{}, 1), streams: make(map[*Stream]struct{}),
	}
}

// Run serves clients that connect to lis, which it closes, until ctx ends; then every stream ends so that its client keeps what it
// has. What clients accepted last is saved before it returns.
func (r *Relay) Run(ctx context.Context, lis net.Listener) error {
	g := grpc.NewServer(
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingInterval, Timeout: pingTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPingOfPeer, PermitWithoutStream: true}),
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxHeaderListSize(maxHeaderBytes), grpc.MaxConcurrentStreams(maxStreams),
	)
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, r)
	ejections.Forward(g, r.way)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var running sync.WaitGroup
	running.Go(func() {
		<-ctx.Done()
		r.mu.Lock()
		r.closed = true
		close(r.stopping)
		r.mu.Unlock()
		r.work.Wait() // each stream says to its client that it ends
		g.Stop()
	})
	running.Go(func() { r.book.keep(ctx, r.wakes) })
	err := g.Serve(lis)
	cancel()
	running.Wait()
	r.book.save(time.Now(), true)
	if errors.Is(err, grpc.ErrServerStopped) {
		return nil // ctx ended before it served
	}
	return err
}

// wake has what changed saved.
func (r *Relay) wake() {
	select {
	case r.wakes <- struct{}{}:
	default:
	}
}

// StreamAggregatedResources serves one client of the state-of-the-world dialect until its stream ends.
func (r *Relay) StreamAggregatedResources(g grpc.BidiStreamingServer[discoveryv3.DiscoveryRequest, discoveryv3.DiscoveryResponse]) error {
	return admit(r, g, func(m *memory) dialect[discoveryv3.DiscoveryRequest, discoveryv3.DiscoveryResponse] {
		return &sotw{subscriptions{memory: m}}
	})
}

// DeltaAggregatedResources serves one client of the incremental dialect until its stream ends.
func (r *Relay) DeltaAggregatedResources(g grpc.BidiStreamingServer[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]) error {
	return admit(r, g, func(m *memory) dialect[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse] {
		return &delta{subscriptions{memory: m}}
	})
}

// admit waits for the first request, which says whose memory it is.
func admit[Q, R any](r *Relay, g grpc.BidiStreamingServer[Q, R], speak func(*memory) dialect[Q, R]) error {
	if err := r.begin(); err != nil {
		return err
	}
	defer r.work.Done()
	first, err := first(r, g)
	if err != nil {
		return err
	}
	m := r.book.open(speak(nil).node(first).GetId(), time.Now())
	defer func() { r.book.close(m, time.Now()); r.wake() }()
	return serve(r, g, first, speak(m), m)
}

// first is the first request. A client that says nothing does not keep the relay from stopping.
func first[Q, R any](r *Relay, g grpc.BidiStreamingServer[Q, R]) (*Q, error) {
	type result struct {
		q   *Q
		err error
	}
	got := make(chan result, 1)
	r.work.Go(func() {
		q, err := g.Recv()
		got <- result{q, err}
	})
	select {
	case f := <-got:
		return f.q, f.err
	case <-r.stopping:
		return nil, status.Error(codes.Unavailable, "the relay stops: connect again")
	}
}

// begin counts a stream, unless there are too many or the relay stops.
func (r *Relay) begin() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed:
		return status.Error(codes.Unavailable, "the relay stops: connect again")
	case len(r.streams) >= maxStreams:
		return status.Errorf(codes.ResourceExhausted, "there are %d streams already", maxStreams)
	}
	r.work.Add(1)
	return nil
}

func (r *Relay) enter(e *Stream) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.streams[e] = struct{}{}
}

func (r *Relay) leave(e *Stream) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.streams, e)
}

func (r *Relay) note(e *Stream, f func(*Stream)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(e)
}

// Streams are the present clients, by node.
func (r *Relay) Streams() []Stream {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]Stream, 0, len(r.streams))
	for e := range r.streams {
		list = append(list, *e)
	}
	slices.SortFunc(list, func(a, b Stream) int {
		if c := strings.Compare(a.Node, b.Node); c != 0 {
			return c
		}
		return a.Since.Compare(b.Since)
	})
	return list
}

// way is the connection over which the only stream of a node goes on; nil where it does not, or where there are more.
func (r *Relay) way(node string) (way grpc.ClientConnInterface) {
	r.mu.Lock()
	defer r.mu.Unlock()
	streams := 0
	for e := range r.streams {
		if e.Node == node {
			streams++
			way = e.way
		}
	}
	if streams != 1 {
		return nil
	}
	return way
}

// Stats calls add with each statistic.
func (r *Relay) Stats(add func(name string, value int64)) {
	var all, passing, memory int64
	for _, s := range r.Streams() {
		all++
		switch {
		case s.Server != "":
			passing++
		case s.Memory:
			memory++
		}
	}
	add("relay.streams", all)
	add("relay.streams_passing", passing)
	add("relay.streams_from_memory", memory)
	add("relay.responses_from_memory", r.fromMemory.Load())
	r.book.stats(add)
}
