package xds

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// refusal is why a proxy is refused, closed or slowed down. It is the label of a metric.
type refusal string

const (
	wrongRequest  refusal = "request"    // it can't be read, or says what can't be
	tooManyNames  refusal = "names"      // more subscriptions than a stream may have
	tooLarge      refusal = "size"       // a request above maxRequest
	tooManySame   refusal = "streams"    // too many streams of one node id
	tooOften      refusal = "reconnects" // one node id opens streams too often
	tooFast       refusal = "rate"       // a stream asks too much: it is slowed down
	saysNothing   refusal = "silent"     // no request comes
	answersNot    refusal = "unanswered" // a response is not answered
	outOfMemory   refusal = "memory"     // the process is near its memory limit
	outOfCapacity refusal = "storm"      // too many first answers wait for their turn
)

func (r refusal) code() codes.Code {
	switch r {
	case wrongRequest:
		return codes.InvalidArgument
	case saysNothing, answersNot:
		return codes.DeadlineExceeded
	}
	return codes.ResourceExhausted
}

// refused is the end of a stream that the server wants.
type refused struct {
	why  refusal
	text string // for the operator of the proxy
	node string // whom it is about; "": see the stream
	told bool   // in the log and the metrics
}

func refuse(why refusal, format string, args ...any) error {
	return &refused{why: why, text: fmt.Sprintf(format, args...)}
}

func invalid(format string, args ...any) error { return refuse(wrongRequest, format, args...) }

// Error is what the status says.
func (r *refused) Error() string { return r.GRPCStatus().Err().Error() }

// GRPCStatus is what the proxy is told.
func (r *refused) GRPCStatus() *status.Status { return status.New(r.why.code(), r.text) }

// blame is err as the end of a stream whose reader met it, about the proxy that in, or the stream before it, says it is.
func blame(err error, in *incoming, node string) error {
	var r *refused
	switch code := status.Code(err); {
	case errors.As(err, &r):
	case code == codes.ResourceExhausted:
		r = &refused{why: tooLarge, text: status.Convert(err).Message()}
	case code == codes.Internal || code == codes.Unimplemented: // it can't be decompressed, or breaks off
		r = &refused{why: wrongRequest, text: status.Convert(err).Message()}
	default:
		return status.Convert(err).Err()
	}
	if node == "" && in != nil {
		node = strings.Map(visible, clip(in.node.GetId()))
	}
	r.node = node
	return r
}

func visible(r rune) rune {
	if control(r) {
		return -1
	}
	return r
}

// named counts a refusal and names the offender in the log: by its node id, or else by its address.
func (s *Server) named(now time.Time, node, address string, err error) {
	var r *refused
	if !errors.As(err, &r) || r.told {
		return
	}
	r.told = true
	s.cfg.Metrics.Refused(string(r.why))
	if r.node != "" {
		node = r.node
	}
	who := node
	if who == "" {
		who = host(address)
	}
	s.offenders.name(now, who, string(r.why), "a proxy is refused: it is not named again for this", "node", node, "address", address, "reason", string(r.why), "error", r.text)
}

// host is an address without its port.
func host(address string) string {
	if h, _, err := net.SplitHostPort(address); err == nil {
		return h
	}
	return address
}
