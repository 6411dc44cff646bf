package proxy

import (
	"net/http"
	"net/netip"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/engine"
)

// Access tells what became of one request, or of one connection of a TCP listener. Of the latter only Listener, Start, Duration, Flags,
// In, Out, Cluster and Host are set.
type Access struct {
	Listener string
	Start    time.Time
	Duration time.Duration // to the last byte of the answer

	Method, Path, Authority, Protocol string // as the application sent them; Protocol is such as "HTTP/1.1"
	RequestID                         string // of x-request-id; "" none
	UserAgent, ForwardedFor           string // of user-agent and x-forwarded-for; "" none
	Status                            int    // 0: no answer was sent
	GRPCStatus                        string // of the answer's headers or trailers; "" none
	Flags                             engine.Flags
	Details                           string // Envoy's response_code_details
	In, Out                           int64  // bytes of the bodies

	Cluster, Route string         // "" none; Route is the route's name
	Host           netip.AddrPort // of the last attempt; the zero one is none
	Attempts       int
}

// told tells of what began at start and took d, where somebody wants to be told.
func (l *listener) told(start time.Time, d time.Duration, fill func(*Access)) {
	if l.server.options.Access == nil {
		return
	}
	a := Access{Listener: l.name, Start: start, Duration: d}
	fill(&a)
	l.server.options.Access(a)
}

// refused tells of a request that could not be taken. Who could not be heard out has said nothing.
func (l *listener) refused(start time.Time, r *http.Request, no refusal) {
	l.told(start, time.Since(start), func(a *Access) {
		if no.details == "" {
			a.request(r)
		} else {
			a.Protocol = protocolOf(r)
		}
		a.Status, a.Flags, a.Details, a.Out = no.status, engine.DPE, no.details, int64(len(no.body))
	})
}

// tell tells of a request that has ended.
func (f *flow) tell(start time.Time, d time.Duration) {
	f.l.told(start, d, func(a *Access) {
		a.request(f.r)
		a.Status, a.GRPCStatus = f.status, f.grpcStatus
		a.In, a.Out = f.in, f.out
		if f.x.body != nil {
			a.In += f.x.body.taken()
		}
		r := f.call.Report()
		a.report(r)
		if a.GRPCStatus == "" {
			a.GRPCStatus = r.GRPCStatus(a.Status)
		}
	})
}

func (a *Access) report(r engine.Report) {
	a.Flags, a.Details, a.Cluster, a.Route, a.Host, a.Attempts = r.Flags, r.Details, r.Cluster, r.Route, r.Host, r.Attempts
}

func (a *Access) request(r *http.Request) {
	a.Method, a.Path, a.Authority, a.Protocol = r.Method, r.RequestURI, r.Host, protocolOf(r)
	a.RequestID, a.UserAgent, a.ForwardedFor = first(r.Header["X-Request-Id"]), first(r.Header["User-Agent"]), first(r.Header["X-Forwarded-For"])
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

func protocolOf(r *http.Request) string {
	switch {
	case r.ProtoMajor == 2:
		return "HTTP/2"
	case r.ProtoMinor == 0:
		return "HTTP/1.0"
	}
	return "HTTP/1.1"
}
