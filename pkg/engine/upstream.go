package engine

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// Upstream sends the attempts of one request. Its methods are called one at a time.
type Upstream interface {
	// Try sends the request once to a.Host and returns when the head of the response is there, or when the attempt has failed; and
	// soon after ctx ends. A connection must be admitted as Attempt says. Where Result.Failure is None the response stays open, and
	// ctx with it, until Drop or the call's Finish.
	Try(ctx context.Context, a *Attempt) Result
	// Drop discards the response of the last Try, which a further attempt replaces.
	Drop()
	// Fork makes another Upstream for the same request, whose Try may run beside this one's.
	Fork() Upstream
}

// Failure is how an attempt ended without a response.
type Failure uint8

// The failures. None means that there is a response.
const (
	None Failure = iota
	ConnectRefused
	ConnectTimeout
	Termination   // the connection ended
	RemoteReset   // the host reset the stream
	RefusedStream // the host reset the stream and says that it did not look at it
	LocalReset    // this end gave up: the application went away, or its request broke off
	ProtocolError // the response can't be read
	Overflow      // a limit refused the attempt
	BodyLost      // the beginning of the body is not kept any more
)

// reasons are Envoy's words for failures.
var reasons = [...]string{
	ConnectRefused: "remote connection failure",
	ConnectTimeout: "connection timeout",
	Termination:    "connection termination",
	RemoteReset:    "remote reset",
	RefusedStream:  "remote refused stream reset",
	LocalReset:     "local reset",
	ProtocolError:  "protocol error",
	Overflow:       "overflow",
	BodyLost:       "local reset",
}

// String is Envoy's words for f.
func (f Failure) String() string { return reasons[f] }

// word is what the response code details say of f.
func (f Failure) word() string {
	if f == ConnectRefused {
		return "remote_connection_failure|delayed_connect_error:_Connection_refused"
	}
	return strings.ReplaceAll(reasons[f], " ", "_")
}

// Result is the outcome of an attempt.
type Result struct {
	Failure Failure
	Status  int
	Header  http.Header // of the response, canonical names; nil where Failure is set
}

// Attempt is one try on one host. An Upstream that finds no connection ready calls Queue, waits for one, and calls Unqueue; with a
// connection in hand it calls Admit. A false answer of Queue or Admit is an Overflow.
type Attempt struct {
	Host     *Host
	Config   *dataplane.Cluster
	Priority resilience.Priority
	Number   int  // from 1
	HTTP2    bool // set by an Upstream that sends it over HTTP/2

	call     *Call
	serving  *target // a member of the call's target, or itself
	pooled   bool    // it counts as a user of its host's pool
	probe    bool    // it tries a host that was ejected
	met      bool    // it has got a connection, though it may not have been admitted
	admitted bool
	charged  atomic.Bool // for its per-try timeout, after which it goes on
	retried  bool        // another was started beside it; of the goroutine of Do
	gate     *admission  // that let it through and waits for its answer; nil: none does
	started  time.Time   // where a budget asks for it
	begun    time.Time   // when it was admitted, where the time of a try is observed
	observed bool        // it counts against an observed limit
	soft     func()      // in place of the end by per-try timeout, where the attempt is hedged
	times    *tryTimes   // nil: no time can end the attempt alone
}
