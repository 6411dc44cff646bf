package ejections

import (
	"context"
	"maps"
	"time"

	"github.com/hashicorp/go-hclog"
	metricsv1 "go.opentelemetry.io/proto/otlp/metrics/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

const (
	lookEvery   = time.Second
	longestWait = 30 * time.Second // where the server does not take it
	callTimeout = 5 * time.Second
)

// Reporter is an agent's side: it says what is ejected once, and again when that changes.
type Reporter struct {
	Proxy   Proxy
	Ejected func() map[string]int // hosts by cluster, those with any; asked every second
	Log     hclog.Logger
}

// Run reports over conn until ctx ends, or the server turns out to know nothing of this.
func (r Reporter) Run(ctx context.Context, conn grpc.ClientConnInterface) {
	var said map[string]int // nil: nothing yet
	for wait := lookEvery; ; {
		if now := r.Ejected(); said == nil || !maps.Equal(now, said) {
			err := r.say(ctx, conn, now)
			switch status.Code(err) {
			case codes.OK:
				said, wait = maps.Clone(now), lookEvery
				if said == nil {
					said = map[string]int{}
				}
			case codes.Unimplemented:
				r.Log.Debug("the control plane does not ask for ejections")
				return
			default:
				wait = min(2*wait, longestWait)
				r.Log.Debug("ejections were not reported", "error", err, "retry", wait)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func (r Reporter) say(ctx context.Context, conn grpc.ClientConnInterface, ejected map[string]int) error {
	return send(ctx, conn, say(r.Proxy, ejected))
}

func send(ctx context.Context, conn grpc.ClientConnInterface, m *metricsv1.MetricsData) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return conn.Invoke(ctx, "/"+serviceName+"/"+methodName, m, &emptypb.Empty{})
}

// Forward serves a relay's clients on g: what a proxy says goes the way of its xDS stream, which is nil where that leads nowhere.
func Forward(g grpc.ServiceRegistrar, way func(id string) grpc.ClientConnInterface) {
	register(g, forwarder(way))
}

type forwarder func(id string) grpc.ClientConnInterface

func (way forwarder) take(ctx context.Context, m *metricsv1.MetricsData) error {
	who, _, err := read(m)
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	conn := way(who.ID)
	if conn == nil {
		return errNoStream
	}
	return send(ctx, conn, m)
}
