package hostile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

// attacker is one kind of hostile client. Its connections come from an address of its own, so that the log can be asked about it.
type attacker struct {
	server string // host:port
	source string // IP address
	id     string // with which its node ids begin
}

func (a *attacker) dial(ctx context.Context) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(a.source)}}
	return d.DialContext(ctx, "tcp", a.server)
}

func (a *attacker) node() *corev3.Node { return nodeOf(a.id, "orders.shop") }

func nodeOf(id, caller string) *corev3.Node {
	return &corev3.Node{
		Id: id, Cluster: caller, UserAgentName: "envoy",
		UserAgentVersionType: &corev3.Node_UserAgentBuildVersion{UserAgentBuildVersion: &corev3.BuildVersion{Version: &typev3.SemanticVersion{MajorNumber: 1, MinorNumber: 40}}},
		Metadata:             &structpb.Struct{Fields: map[string]*structpb.Value{"breakwater.runtime": structpb.NewStringValue("8")}},
	}
}

// connect opens a connection of gRPC's, which close ends.
func (a *attacker) connect(options ...grpc.DialOption) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+a.server, append(options, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return a.dial(ctx) }))...)
}

type (
	deltaStream = grpc.BidiStreamingClient[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]
	deltaAsk    = discoveryv3.DeltaDiscoveryRequest
)

// stream runs f with a delta stream on a connection of its own.
func (a *attacker) stream(ctx context.Context, f func(deltaStream) error, options ...grpc.CallOption) error {
	conn, err := a.connect()
	if err != nil {
		return err
	}
	defer conn.Close()
	s, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx, options...)
	if err != nil {
		return err
	}
	return f(s)
}

// refused says what a stream is wanted to be: ended by the server with that code and text. Where the time is over first, nothing is known.
func refused(ctx context.Context, s deltaStream, code codes.Code, text string) error {
	for {
		_, err := s.Recv()
		switch {
		case err == nil:
			continue
		case ctx.Err() != nil:
			return nil
		case status.Code(err) != code || !strings.Contains(err.Error(), text):
			return fmt.Errorf("the stream ended with %w, want %v and %q", err, code, text)
		}
		return errRefused
	}
}

// errRefused is the end that is wanted of a stream.
var errRefused = errors.New("refused as it should be")

// again repeats f, every so often, until the time is over or f ends otherwise than it should.
func again(ctx context.Context, every time.Duration, f func(i int) error) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for i := 0; ; i++ {
		if err := f(i); err != nil && !errors.Is(err, errRefused) && ctx.Err() == nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// says is a kind whose every stream says one thing and is refused.
func says(code codes.Code, text string, what func(a *attacker, i int) *deltaAsk, options ...grpc.CallOption) func(context.Context, *attacker) error {
	return func(ctx context.Context, a *attacker) error {
		return again(ctx, 50*time.Millisecond, func(i int) error {
			return a.stream(ctx, func(s deltaStream) error {
				if err := s.Send(what(a, i)); err != nil && !errors.Is(err, io.EOF) {
					return err
				}
				return refused(ctx, s, code, text)
			}, options...)
		})
	}
}

// raw is a connection that speaks HTTP/2 by hand.
type raw struct {
	net.Conn
	*http2.Framer
}

// raw opens a connection up to the exchange of settings.
func (a *attacker) raw(ctx context.Context, settings ...http2.Setting) (*raw, error) {
	conn, err := a.dial(ctx)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = conn.Close() })
	r := &raw{conn, http2.NewFramer(conn, conn)}
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		return nil, err
	}
	return r, r.WriteSettings(settings...)
}

// open begins a delta stream.
func (r *raw) open(id uint32, more ...hpack.HeaderField) error {
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for _, f := range append([]hpack.HeaderField{
		{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"},
		{Name: ":path", Value: "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"},
		{Name: ":authority", Value: "xds"}, {Name: "content-type", Value: "application/grpc"}, {Name: "te", Value: "trailers"},
	}, more...) {
		if err := e.WriteField(f); err != nil {
			return err
		}
	}
	return r.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true})
}

// say sends a message, compressed or not as flag says.
func (r *raw) say(id uint32, flag byte, b []byte) error {
	b = append([]byte{flag, byte(len(b) >> 24), byte(len(b) >> 16), byte(len(b) >> 8), byte(len(b))}, b...)
	for len(b) > 16<<10 {
		if err := r.WriteData(id, false, b[:16<<10]); err != nil {
			return err
		}
		b = b[16<<10:]
	}
	return r.WriteData(id, false, b)
}

// hear reads frames until f says that it has heard enough, or the connection ends.
func (r *raw) hear(f func(http2.Frame) (enough bool)) error {
	for {
		frame, err := r.ReadFrame()
		if err != nil {
			return err
		}
		if f(frame) {
			return nil
		}
	}
}

func encode(m proto.Message) []byte {
	b, err := proto.Marshal(m)
	if err != nil {
		panic(err) // a message of ours
	}
	return b
}
