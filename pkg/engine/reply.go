package engine

import (
	"net/http"
	"strconv"
	"strings"
)

// Flags are Envoy's response flags, as bits.
type Flags uint32

// The flags, in the order in which a call gets them.
const (
	DI    Flags = 1 << iota // a delay was injected
	FI                      // a fault was injected
	RL                      // rate limited
	URX                     // retries are exhausted
	UO                      // overflow
	NR                      // no route
	NC                      // no such cluster
	UH                      // no healthy host
	UF                      // connection failure
	UC                      // connection termination
	UR                      // remote reset
	UT                      // timeout
	LR                      // local reset
	UPE                     // the response can't be read
	SI                      // idle timeout
	UMSDR                   // longest duration of an attempt
	DO                      // dropped by load
	UDO                     // all is dropped
	DPE                     // the request can't be read
	IH                      // a header that is not valid
	NFCF                    // no filter configuration
	DC                      // the application went away
	DR                      // the application reset its stream
)

var flagNames = [...]string{"DI", "FI", "RL", "URX", "UO", "NR", "NC", "UH", "UF", "UC", "UR", "UT", "LR", "UPE", "SI", "UMSDR", "DO", "UDO", "DPE", "IH",
	"NFCF", "DC", "DR"}

// String joins the flags by commas; "-" is none.
func (f Flags) String() string {
	if f == 0 {
		return "-"
	}
	var names []string
	for i, name := range flagNames {
		if f&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ",")
}

// flagOf is the flag of an attempt that failed.
func flagOf(f Failure) Flags {
	switch f {
	case ConnectRefused, ConnectTimeout:
		return UF
	case Termination:
		return UC
	case RemoteReset, RefusedStream:
		return UR
	case Overflow:
		return UO
	case ProtocolError:
		return UPE
	}
	return LR
}

// Answer is what the application gets: either the response of the last Try, or Local.
type Answer struct {
	Local  *LocalReply
	From   Upstream // that has the response: the one given to Do, or a fork of it; nil with Local
	Status int      // of the response
	Flags  Flags
	Gone   bool // nobody waits for an answer any more
}

// LocalReply is an answer of the data plane's own.
type LocalReply struct {
	Status int
	Header http.Header
	Body   string
}

// Field is a header.
type Field struct{ Name, Value string }

// overloaded tells callers that a limit answered.
var overloaded = Field{"X-Envoy-Overloaded", "true"}

// dropFields tell callers of requests that were dropped.
var dropFields = map[Flags]Field{
	DO:  {"X-Envoy-Drop-Overload", "true"},
	UDO: {"X-Envoy-Unconditional-Drop-Overload", "true"},
}

// grpcStatus maps a status code to a gRPC one.
func grpcStatus(status int) int {
	switch status {
	case http.StatusBadRequest:
		return 13
	case http.StatusUnauthorized:
		return 16
	case http.StatusForbidden:
		return 7
	case http.StatusNotFound:
		return 12
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return 14
	}
	return 2
}

// encodeMessage is gRPC's percent encoding of grpc-message.
func encodeMessage(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c > '~' || c == '%' {
			b.WriteString("%" + strings.ToUpper(strconv.FormatInt(int64(c)+0x100, 16)[1:]))
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
