package xds

import (
	"context"
	"hash/maphash"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/breakwater-mesh/breakwater/pkg/view"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// Classes is where a stream gets what its proxy must hold.
type Classes interface {
	// Join is the class of key, whose head stays current until as many calls of Leave.
	Join(ctx context.Context, key world.ClassKey) (*world.Class, error)
	Leave(*world.Class)
}

// Metrics is told what goes on. Its methods are called often, by many goroutines, and must not block.
type Metrics interface {
	Stream(dialect, form string, change int)   // +1 a stream began, -1 it ended; the forms are FormDelta and FormSotW
	Sent(t view.Type, resources, bytes int)    // one response
	Acked(t view.Type, after time.Duration)    // since it was sent
	Rejected(t view.Type, after time.Duration) // likewise
	Refused(reason string)                     // a stream is refused, closed or slowed down for that

	// CaughtUp says that a proxy was sent the last response, and has given the last answer, about what changed so long ago. Changes that came
	// in between count with the first.
	CaughtUp(sent, answered time.Duration)
}

// The forms of the conversation with a proxy.
const (
	FormDelta = "delta"
	FormSotW  = "sotw" // the state of the world
)

// Defaults of Config.
const (
	DefaultAnswerTimeout  = 60 * time.Second
	DefaultWarmingTimeout = 90 * time.Second
	DefaultHold           = 5 * time.Second
	DefaultLinger         = time.Second
	DefaultMaxNames       = 10_000
	DefaultMaxStreams     = 100
	DefaultFirstAnswers   = 64 << 20

	greeting = 15 * time.Second // for the first request of a stream
	// As few speakers as processors would each have to wait for thousands of goroutines that read the answers of those who were told first.
	speakersEach = 32               // for each processor
	turnWithin   = 40 * time.Second // that of a first answer, whose AnswerTimeout has begun by then; a proxy asks elsewhere after it
	shareKept    = 3 * time.Second  // many times what a proxy takes to answer; others wait for those who don't

	maxStreams     = 100             // of one connection: one is used, and those of what a proxy has ejected
	idleConnection = 5 * time.Minute // of a connection without a stream
	handshake      = 10 * time.Second
	pingInterval   = 15 * time.Second // with pingTimeout: a dead peer is found within 30 s
	pingTimeout    = 10 * time.Second
	minPingOfPeer  = 4 * time.Second // Envoy pings every 10 s, whether or not there is a stream
	readBuffer     = 32 << 10        // pooled while nothing comes; a frame that does not fit in would stay with its connection
	writeBuffer    = 16 << 10
	window         = 64 << 10 // of requests that were not read yet: grpc-go would ask a client that answers for its round trip, each time
	maxHeaderBytes = 16 << 10
)

// Config is what a Server is made of. Classes is required; zero values of the rest mean the defaults.
type Config struct {
	Classes Classes
	// Confirm returns nil once what Classes hold may be given to a proxy that comes new, perhaps from another replica. Nil: at once.
	Confirm func(context.Context) error
	Logger  hclog.Logger // nil: silent
	Metrics Metrics      // nil: none

	AnswerTimeout  time.Duration // a stream whose proxy leaves a response unanswered for so long is closed
	WarmingTimeout time.Duration // likewise for CDS, which a proxy answers once its clusters are warm
	Hold           time.Duration // how long a moving scope waits for its route configuration to be subscribed
	Linger         time.Duration // how long what nothing names any more is kept for calls under way
	MaxNames       int           // subscriptions of one type on one stream
	Drain          time.Duration // over which Run ends the streams; 0: all at once
	MaxStreams     int           // of one node id
	FirstAnswers   int           // bytes of first answers that proxies have not answered, over all streams

	Crowded func(now time.Time) bool // reports whether memory is too short for more proxies; nil: by GOMEMLIMIT
}

// Server is the aggregated discovery service. Its methods may be called by any goroutine.
type Server struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	cfg       Config
	limits    limits
	courses   *courses
	rosters   *rosters
	admission *admission
	turnstile turnstile
	speakers  queue // say what there is to say
	doorway   queue // of first answers whose turn has not come: one goroutine lets them in, one after the other
	offenders offenders
	seed      maphash.Seed // of nonces
	changed   broadcast
	handlers  sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	begun   map[*stream]struct{}   // whether or not they have said who they are
	streams map[*stream]struct{}   // that have said who they are
	ids     map[string][]*stream   // by node id
	classes map[world.ClassKey]int // how many of streams each has
	left    departed

	audiences map[*world.Class]*audience // guarded by mu

	count  atomic.Int64  // of streams
	breath time.Duration // for each of them
}

// New is a server that is registered nowhere yet.
func New(cfg Config) *Server {
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	if cfg.Metrics == nil {
		cfg.Metrics = noMetrics{}
	}
	if cfg.Crowded == nil {
		cfg.Crowded = new(headroom).near
	}
	l := limits{
		greeting:   greeting,
		names:      orDefault(cfg.MaxNames, DefaultMaxNames),
		unanswered: orDefault(cfg.AnswerTimeout, DefaultAnswerTimeout),
		warming:    orDefault(cfg.WarmingTimeout, DefaultWarmingTimeout),
		hold:       orDefault(cfg.Hold, DefaultHold),
		linger:     orDefault(cfg.Linger, DefaultLinger),
		response:   responseBytes,
	}
	cfg.MaxStreams = orDefault(cfg.MaxStreams, DefaultMaxStreams)
	return &Server{
		cfg:       cfg,
		limits:    l,
		courses:   newCourses(l.response),
		rosters:   newRosters(),
		admission: newAdmission(int64(orDefault(cfg.FirstAnswers, DefaultFirstAnswers)), turnWithin, shareKept),
		speakers:  queue{most: speakersEach * runtime.GOMAXPROCS(0), do: (*stream).speak},
		doorway:   queue{most: 1, do: (*stream).admit},
		offenders: offenders{log: cfg.Logger},
		seed:      maphash.MakeSeed(),
		breath:    breath / time.Duration(runtime.GOMAXPROCS(0)),
		classes:   make(map[world.ClassKey]int),
		audiences: make(map[*world.Class]*audience),
		begun:     make(map[*stream]struct{}),
		streams:   make(map[*stream]struct{}),
		ids:       make(map[string][]*stream),
	}
}

func orDefault[T int | time.Duration](v, d T) T {
	if v == 0 {
		return d
	}
	return v
}

// ServerOptions are the options that a grpc.Server must have been made with for Register.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ForceServerCodecV2(newCodec()),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingInterval, Timeout: pingTimeout, MaxConnectionIdle: idleConnection}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPingOfPeer, PermitWithoutStream: true}),
		grpc.MaxRecvMsgSize(maxRequest),
		grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.ConnectionTimeout(handshake),
		grpc.ReadBufferSize(readBuffer),
		grpc.WriteBufferSize(writeBuffer),
		grpc.StaticStreamWindowSize(window),
	}
}

// Register serves s on g, which must have been made with ServerOptions.
func (s *Server) Register(g *grpc.Server) {
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, s)
}

// StreamAggregatedResources serves one proxy, in the state of the world, until its stream ends. gRPC clients know nothing else.
func (s *Server) StreamAggregatedResources(g grpc.BidiStreamingServer[discoveryv3.DiscoveryRequest, discoveryv3.DiscoveryResponse]) error {
	return s.serve(g, worldForm)
}

// DeltaAggregatedResources serves one proxy, in deltas, until its stream ends.
func (s *Server) DeltaAggregatedResources(g grpc.BidiStreamingServer[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]) error {
	return s.serve(g, deltaForm)
}

// enter puts a stream into the book. Two streams of one id are two entries: neither takes anything from the other. An error: there are too
// many.
func (s *Server) enter(st *stream) error {
	n := s.book(st)
	if n > s.cfg.MaxStreams {
		return refuse(tooManySame, "node id %q has %d streams open, and no more are allowed: give each proxy an id of its own", st.id.node, s.cfg.MaxStreams)
	}
	if n > 1 {
		s.offenders.name(time.Now(), st.id.node, "shares an id", "several streams have one node id", "node", st.id.node, "streams", n, "address", st.address)
	}
	s.cfg.Metrics.Stream(st.id.key.Dialect, st.form.name(), 1)
	s.changed.fire()
	return nil
}

// book is enter's part under the lock: how many streams of the node id there would be with st, which is in the book unless they are
// too many.
func (s *Server) book(st *stream) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.ids[st.id.node]) + 1
	if n <= s.cfg.MaxStreams {
		s.streams[st] = struct{}{}
		s.count.Store(int64(len(s.streams)))
		s.classes[st.id.key]++
		s.ids[st.id.node] = append(s.ids[st.id.node], st)
		s.left.back(st)
	}
	return n
}

func (s *Server) leave(st *stream) {
	s.mu.Lock()
	_, in := s.streams[st]
	delete(s.streams, st)
	s.count.Store(int64(len(s.streams)))
	if in {
		if s.classes[st.id.key]--; s.classes[st.id.key] == 0 {
			delete(s.classes, st.id.key)
		}
		others := slices.DeleteFunc(s.ids[st.id.node], func(other *stream) bool { return other == st })
		if s.ids[st.id.node] = others; len(others) == 0 {
			delete(s.ids, st.id.node)
			s.left.add(st, time.Now())
		}
	}
	s.mu.Unlock()
	if in {
		s.cfg.Metrics.Stream(st.id.key.Dialect, st.form.name(), -1)
		s.changed.fire()
	}
}

// Changed is closed at the next change of the book: a stream came or went, a proxy accepted or rejected something. Take it before
// reading the book, then wait for it.
func (s *Server) Changed() <-chan struct{} { return s.changed.next() }

// broadcast wakes everybody who waits.
type broadcast struct {
	mu sync.Mutex
	ch chan struct{} // nil: nobody waits
}

func (b *broadcast) next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

func (b *broadcast) fire() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}

type noMetrics struct{}

func (noMetrics) Stream(string, string, int)            {}
func (noMetrics) Sent(view.Type, int, int)              {}
func (noMetrics) Acked(view.Type, time.Duration)        {}
func (noMetrics) Rejected(view.Type, time.Duration)     {}
func (noMetrics) CaughtUp(time.Duration, time.Duration) {}
func (noMetrics) Refused(string)                        {}
