package engine

import (
	"context"
	"net/http"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// Upstream sends the attempts of one request. The engine calls it from the goroutine of Do, one method at a time.
type Upstream interface {
	// Try sends the request once to a.Host and returns when the head of the response is there, or when the attempt has failed; and
	// soon after ctx ends. A connection must be admitted as Attempt says. Where Result.Failure is None the response stays open, and
	// ctx with it, until Drop or the call's Finish.
	Try(ctx context.Context, a *Attempt) Result
	// Drop discards the response of the last Try, which a further attempt replaces.
	Drop()
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
}

// String is Envoy's words for f.
func (f Failure) String() string { return reasons[f] }

// Result is the outcome of an attempt.
type Result struct {
	Failure Failure
	Began   bool // something of the response had come
	Status  int
	Header  http.Header // of the response, canonical names; nil where Failure is set
}

// Attempt is one try on one host. An Upstream that finds no connection ready calls Queue, waits for one, and calls Unqueue; with a
// connection in hand it calls Admit. A false answer of Queue or Admit is an Overflow.
type Attempt struct {
	Host     *Host
	Config   *dataplane.Cluster
	Priority resilience.Priority
	Number   int // from 1

	call *Call
}

// Queue counts the attempt as pending.
func (a *Attempt) Queue() bool { return a.call.queue(a) }

// Unqueue takes back a Queue that was granted.
func (a *Attempt) Unqueue() { a.call.unqueue(a) }

// Admit counts the attempt as an active request, now that it has a connection. The time of the try starts.
func (a *Attempt) Admit() bool { return a.call.admit(a) }
