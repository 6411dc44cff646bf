package envoy

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// These hold where no policy says otherwise. They are Envoy's own, and always written, so that a policy that states them changes
// nothing.
const (
	defaultConnect        = 5 * time.Second
	defaultConnectionIdle = time.Hour
)

func (in input) connectTimeout() *durationpb.Duration {
	if t := in.sections.Timeout; t != nil && finite(t.Connect) {
		return duration(t.Connect)
	}
	return durationpb.New(defaultConnect)
}

// connectionIdle is zero for no limit.
func (in input) connectionIdle() *durationpb.Duration {
	if t := in.sections.Timeout; t != nil && t.ConnectionIdle != nil {
		return duration(t.ConnectionIdle)
	}
	return durationpb.New(defaultConnectionIdle)
}

// addTimeouts sets the limits in time of a whole call. A request timeout of zero switches Envoy's own 15 s off.
func (in input) addTimeouts(a *routev3.RouteAction) {
	a.Timeout = durationpb.New(0)
	t := in.sections.Timeout
	if t == nil {
		return
	}
	if finite(t.Request) {
		a.Timeout = duration(t.Request)
	}
	// Envoy ignores the request timeout of a route that has a max_stream_duration, were it empty.
	if finite(t.MaxStream) {
		a.MaxStreamDuration = &routev3.RouteAction_MaxStreamDuration{MaxStreamDuration: duration(t.MaxStream)}
	}
}

// perTry are the limits in time of one try, nil where there are none.
func (in input) perTry() (whole, idle *durationpb.Duration) {
	t := in.sections.Timeout
	if t == nil {
		return nil, nil
	}
	if finite(t.PerTry) {
		whole = duration(t.PerTry)
	}
	if finite(t.PerTryIdle) {
		idle = duration(t.PerTryIdle)
	}
	return whole, idle
}

// finite reports whether d is a limit at all.
func finite(d *manifest.Duration) bool { return d != nil && d.D() > 0 }

// duration is d, 0 for none; nil stays nil.
func duration(d *manifest.Duration) *durationpb.Duration {
	if d == nil {
		return nil
	}
	return durationpb.New(d.D())
}

var timeoutLines = []line{
	{field: "timeout.request", on: proxies, when: grpcService, level: Approximate,
		reason: "it starts when the request is complete, so never for a client stream that stays open", instead: "timeout.maxStream"},
}
