package ejections

import (
	"context"
	"net"
	"sync"

	"github.com/hashicorp/go-hclog"
	metricsv1 "go.opentelemetry.io/proto/otlp/metrics/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// Proxies are those that are connected.
type Proxies interface {
	// Report keeps what a proxy says that it has ejected, hosts by cluster, until its stream ends or it says something else. False: no
	// stream is that proxy's, or more than one is. Ejected is not changed any more.
	Report(id, namespace, service string, ejected map[string]int) bool
}

// maxOffenders is how many senders of what can't be read are named in the log.
const maxOffenders = 1000

// Receiver takes what proxies say. It keeps nothing of it but the addresses of those who can't say it.
type Receiver struct {
	proxies Proxies
	log     hclog.Logger

	mu        sync.Mutex
	offenders map[string]bool // guarded by mu; by IP address
}

// NewReceiver is a receiver that is registered nowhere yet; log nil: silent.
func NewReceiver(proxies Proxies, log hclog.Logger) *Receiver {
	if log == nil {
		log = hclog.NewNullLogger()
	}
	return &Receiver{proxies: proxies, log: log, offenders: make(map[string]bool)}
}

// Register serves r on g.
func (r *Receiver) Register(g grpc.ServiceRegistrar) { register(g, r) }

// taker is the service.
type taker interface {
	take(ctx context.Context, m *metricsv1.MetricsData) error
}

func register(g grpc.ServiceRegistrar, t taker) {
	g.RegisterService(&grpc.ServiceDesc{
		ServiceName: serviceName, HandlerType: (*taker)(nil), Methods: []grpc.MethodDesc{{MethodName: methodName, Handler: export}},
	}, t)
}

func export(srv any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	m := new(metricsv1.MetricsData)
	if err := decode(m); err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, srv.(taker).take(ctx, m)
}

var errNoStream = status.Error(codes.FailedPrecondition, "no proxy of that id and service has an xDS stream here, or several have")

// take hands what m says to the proxies. A proxy spreads what it says over the replicas that it knows, so that one which is connected
// elsewhere is no fault of anybody's.
func (r *Receiver) take(ctx context.Context, m *metricsv1.MetricsData) error {
	who, ejected, err := read(m)
	if err != nil {
		r.blame(ctx, err)
		return status.Error(codes.InvalidArgument, err.Error())
	}
	if !r.proxies.Report(who.ID, who.Namespace, who.Service, ejected) {
		return errNoStream
	}
	return nil
}

// blame logs an address once.
func (r *Receiver) blame(ctx context.Context, err error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return
	}
	host, _, split := net.SplitHostPort(p.Addr.String())
	if split != nil {
		host = p.Addr.String()
	}
	r.mu.Lock()
	again := r.offenders[host] || len(r.offenders) >= maxOffenders
	if !again {
		r.offenders[host] = true
	}
	r.mu.Unlock()
	if !again {
		r.log.Warn("what a proxy says of its ejections can't be read; this address is not named again", "address", p.Addr.String(), "error", err)
	}
}
