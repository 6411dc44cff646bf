package hostile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// kind is a way to be hostile, or broken.
type kind struct {
	does   string // the client; of the table in docs/hostile-clients.md
	server string // what the server does
	logs   int    // lines that name it; unsaid: none, or a few; lateLine: one, after up to a minute
	run    func(context.Context, *attacker) error
}

const (
	unsaid   = -1
	lateLine = -2
)

// kinds are all there are, in the order of the table: those that are refused for what they say, then those that ask too much, those that
// do not answer, and those below gRPC.
func kinds() []kind {
	cds, rds := view.CDS.URL(), view.RDS.URL()
	return []kind{
		{"asks for invented types", "ends the stream: InvalidArgument", 1,
			says(codes.InvalidArgument, "is not served", func(a *attacker, i int) *deltaAsk {
				return &deltaAsk{Node: a.node(), TypeUrl: fmt.Sprint("type.googleapis.com/invented.Type", i)}
			})},
		{"says nothing of itself", "ends the stream: InvalidArgument", 1,
			says(codes.InvalidArgument, "no node", func(*attacker, int) *deltaAsk { return &deltaAsk{TypeUrl: cds} })},
		{"has 1 MiB of metadata", "ends the stream before decoding it: InvalidArgument, at most 256 KiB", 1,
			says(codes.InvalidArgument, "at most 262144", func(a *attacker, _ int) *deltaAsk {
				n := a.node()
				n.Metadata.Fields["x"] = structpb.NewStringValue(strings.Repeat("x", 1<<20))
				return &deltaAsk{Node: n, TypeUrl: cds}
			})},
		{"is called by a name that is none", "ends the stream: InvalidArgument", 1,
			says(codes.InvalidArgument, "node.cluster", func(a *attacker, _ int) *deltaAsk {
				return &deltaAsk{Node: nodeOf(a.id, "../../etc/passwd"), TypeUrl: cds}
			})},
		{"has a node id with control characters, to write into the log", "ends the stream: InvalidArgument; the log has them not", 1,
			says(codes.InvalidArgument, "control characters", func(a *attacker, _ int) *deltaAsk {
				return &deltaAsk{Node: nodeOf(a.id+"\n[ERROR] all is lost\x1b[2J", "orders.shop"), TypeUrl: cds}
			})},
		{"becomes another node on the same stream", "ends the stream: InvalidArgument", 1, becomes(func(n *corev3.Node) { n.Id += "-other" }, "node.id changed")},
		{"becomes another service on the same stream", "ends the stream: InvalidArgument", 1, becomes(func(n *corev3.Node) { n.Cluster = "s1.shop" }, "node.cluster changed")},
		{"asks for 100,000 names at once", "ends the stream before all are read: ResourceExhausted", 1,
			says(codes.ResourceExhausted, "names", func(a *attacker, _ int) *deltaAsk {
				return &deltaAsk{Node: a.node(), TypeUrl: rds, ResourceNamesSubscribe: invented(0, 100_000)}
			})},
		{"asks for ever more names", "ends the stream beyond 10,000 of a type: ResourceExhausted", 1, evermore},
		{"asks for a name of 1 MiB", "ends the stream: InvalidArgument, at most 256 bytes", 1,
			says(codes.InvalidArgument, "the name of a resource", func(a *attacker, _ int) *deltaAsk {
				return &deltaAsk{Node: a.node(), TypeUrl: rds, ResourceNamesSubscribe: []string{strings.Repeat("x", 1<<20)}}
			})},
		{"brings 200,000 resources with it", "ends the stream: ResourceExhausted", 1,
			says(codes.ResourceExhausted, "versions", func(a *attacker, _ int) *deltaAsk {
				return &deltaAsk{Node: a.node(), TypeUrl: cds, InitialResourceVersions: brought()}
			})},
		{"sends 7,000,000 empty names in a message of 14 MiB", "ends the stream at the 40,001st, none of them decoded beyond: ResourceExhausted", 1, bytesOf(append(encode(&deltaAsk{TypeUrl: rds}), []byte(strings.Repeat("\x1a\x00", 7<<20))...), codes.ResourceExhausted, 300*time.Millisecond)},
		{"sends what is no message", "ends the stream: InvalidArgument", 1, bytesOf([]byte{0x0a, 0xff, 0xff, 0x01}, codes.InvalidArgument, 50*time.Millisecond)},
		{"sends messages of 17 MiB", "refuses each by its length, unread: ResourceExhausted", 1, oversized},
		{"sends compressed bombs: 20 KiB that become 20 MiB", "stops at 16 MiB: ResourceExhausted", 1,
			bombs},
		{"compresses as nobody can read", "refuses the call: Unimplemented", unsaid, unreadable},
		{"calls methods that there are not", "refuses the call: Unimplemented", unsaid, elsewhere},

		{"asks for the same as fast as it can", "slows the stream down: 200 requests a second beyond the first 10,000, or fewer if they are large", lateLine, fast},
		{"unsubscribes and subscribes everything as fast as it can", "the same; one answer of a type is under way at a time", unsaid, flapping},
		{"connects and goes ten times a second", "serves it up to 100 times, then once a second", unsaid, reconnects(100*time.Millisecond, false)},
		{"connects and goes as fast as it can", "refuses beyond 100 streams, then one a second: ResourceExhausted", lateLine, reconnects(2*time.Millisecond, true)},
		{"is another service with each connection", "serves it; a class that nobody belongs to is forgotten after 10 minutes, beyond 1,000 of them at once", unsaid, manyClasses},
		{"opens 200 streams with one node id", "refuses those beyond 100: ResourceExhausted", 2, manyStreams},

		{"reads nothing, on 20 streams of which each asks for everything", "waits for room aside, and ends the stream when a response has not been answered for 60 s", lateLine, readsNothing},
		{"answers what it has not read", "takes no such answer, since nonces can't be guessed; then as above", lateLine, answersBlindly},
		{"answers nothing", "sends one response of a type (8 of clusters); ends the stream after 60 s, 90 s of clusters", lateLine, answersNothing},
		{"rejects everything, with a text of 1 MiB", "sends smaller batches until one resource can be blamed, and no blamed version again; keeps 16 KiB of a text", 6, rejectsAll},
		{"answers with nonces of long ago", "takes its subscriptions, not the answer", unsaid, staleNonces},
		{"opens streams and says nothing", "ends them after 15 s: DeadlineExceeded", unsaid, silentStreams},
		{"is gone without a word (half-open TCP)", "ends the connection when a ping has not been answered, within 25 s", unsaid, halfOpen},
		{"announces messages of 16 MiB and sends half of them", "holds what has come; ends the stream after 15 s if it is the first", unsaid, halfMessages},

		{"opens connections and says nothing", "closes them after 10 s", unsaid, silentConnections},
		{"speaks no HTTP/2", "closes the connection", unsaid, noHTTP2},
		{"sends headers of 1 MiB", "refuses them beyond 16 KiB", unsaid, hugeHeaders},
		{"sends headers without end (CONTINUATION)", "closes the connection", unsaid, endlessHeaders},
		{"opens and resets streams as fast as it can", "runs 100 of a connection at a time", unsaid, rapidReset},
		{"sends pings as fast as it can", "closes the connection: too_many_pings; one in 4 s is allowed", unsaid, pings},
		{"sends settings as fast as it can", "answers them, and reads no more while it can't", unsaid, manySettings},
	}
}

func invented(from, n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprint("shop/invented-", from+i)
	}
	return names
}

func brought() map[string]string {
	m := make(map[string]string)
	for _, name := range invented(0, 200_000) {
		m[name] = "1"
	}
	return m
}

func becomes(change func(*corev3.Node), text string) func(context.Context, *attacker) error {
	return func(ctx context.Context, a *attacker) error {
		return again(ctx, 50*time.Millisecond, func(int) error {
			return a.stream(ctx, func(s deltaStream) error {
				n := a.node()
				if err := s.Send(&deltaAsk{Node: n, TypeUrl: view.LDS.URL()}); err != nil {
					return err
				}
				change(n)
				if err := s.Send(&deltaAsk{Node: n, TypeUrl: view.CDS.URL()}); err != nil && !errors.Is(err, io.EOF) {
					return err
				}
				return refused(ctx, s, codes.InvalidArgument, text)
			})
		})
	}
}

func evermore(ctx context.Context, a *attacker) error {
	return again(ctx, 100*time.Millisecond, func(int) error {
		return a.stream(ctx, func(s deltaStream) error {
			for i := range 30 {
				if err := s.Send(&deltaAsk{Node: a.node(), TypeUrl: view.RDS.URL(), ResourceNamesSubscribe: invented(i*500, 500)}); err != nil {
					break // it is ended
				}
			}
			return refused(ctx, s, codes.ResourceExhausted, "names of RDS")
		})
	})
}

// bytesOf sends bytes as a request, and waits for the end.
func bytesOf(b []byte, code codes.Code, every time.Duration) func(context.Context, *attacker) error {
	return func(ctx context.Context, a *attacker) error {
		return again(ctx, every, func(int) error {
			conn, err := a.connect(grpc.WithDefaultCallOptions(grpc.ForceCodecV2(bytesCodec{}), grpc.MaxCallSendMsgSize(1<<30)))
			if err != nil {
				return err
			}
			defer conn.Close()
			s, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResources_FullMethodName)
			if err != nil {
				return err
			}
			if err := s.SendMsg(&b); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			var answer []byte
			if err := s.RecvMsg(&answer); status.Code(err) != code && ctx.Err() == nil {
				return fmt.Errorf("%w, want %v", err, code)
			}
			return errRefused
		})
	}
}

func oversized(ctx context.Context, a *attacker) error {
	return bytesOf(make([]byte, 17<<20), codes.ResourceExhausted, 200*time.Millisecond)(ctx, a)
}

func elsewhere(ctx context.Context, a *attacker) error {
	return again(ctx, 50*time.Millisecond, func(i int) error {
		conn, err := a.connect()
		if err != nil {
			return err
		}
		defer conn.Close()
		method := []string{"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "/envoy.service.status.v3.ClientStatusDiscoveryService/FetchClientStatus", "/x/y", "/"}[i%4]
		if err := conn.Invoke(ctx, method, &deltaAsk{}, &deltaAsk{}); status.Code(err) != codes.Unimplemented && ctx.Err() == nil {
			return fmt.Errorf("%s: %w, want Unimplemented", method, err)
		}
		return errRefused
	})
}

// fast says the same a thousand times every 20 ms.
func fast(ctx context.Context, a *attacker) error {
	return a.stream(ctx, func(s deltaStream) error {
		q := &deltaAsk{Node: a.node(), TypeUrl: view.RDS.URL(), ResponseNonce: "x"}
		return again(ctx, 20*time.Millisecond, func(int) error {
			for range 1000 {
				err := s.Send(q)
				q.Node = nil
				if err != nil {
					return err
				}
			}
			return nil
		})
	})
}

func flapping(ctx context.Context, a *attacker) error {
	return a.stream(ctx, func(s deltaStream) error {
		go func() {
			for {
				if _, err := s.Recv(); err != nil {
					return
				}
			}
		}()
		return again(ctx, 5*time.Millisecond, func(int) error {
			return errors.Join(
				s.Send(&deltaAsk{Node: a.node(), TypeUrl: view.RDS.URL(), ResourceNamesSubscribe: serviceNames(services)}),
				s.Send(&deltaAsk{TypeUrl: view.RDS.URL(), ResourceNamesUnsubscribe: serviceNames(services)}))
		})
	})
}

func reconnects(every time.Duration, refusal bool) func(context.Context, *attacker) error {
	return func(ctx context.Context, a *attacker) error {
		conn, err := a.connect()
		if err != nil {
			return err
		}
		defer conn.Close()
		return again(ctx, every, func(int) error {
			inner, cancel := context.WithCancel(ctx)
			defer cancel()
			s, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(inner)
			if err != nil {
				return err
			}
			asks := everything(serviceNames(services))
			if refusal {
				asks = asks[3:4] // the fastest answer
			}
			for _, q := range asks {
				q.Node = a.node()
				if s.Send(q) != nil {
					break
				}
			}
			if _, err = s.Recv(); status.Code(err) == codes.ResourceExhausted && strings.Contains(err.Error(), "opens streams more often") {
				return errRefused
			}
			return err
		})
	}
}

// manyClasses is a class of its own each time, for the server to build.
func manyClasses(ctx context.Context, a *attacker) error {
	return again(ctx, 20*time.Millisecond, func(i int) error {
		return a.stream(ctx, func(s deltaStream) error {
			n := nodeOf(fmt.Sprint(a.id, "-", i), fmt.Sprintf("invented-%d.shop", i))
			if err := s.Send(&deltaAsk{Node: n, TypeUrl: view.CDS.URL()}); err != nil {
				return err
			}
			_, err := s.Recv()
			return err
		})
	})
}

func manyStreams(ctx context.Context, a *attacker) error {
	return again(ctx, time.Minute, func(int) error {
		ended := make(chan error, 200)
		for range 4 {
			conn, err := a.connect()
			if err != nil {
				return err
			}
			defer conn.Close()
			for range 50 {
				s, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
				if err != nil {
					return err
				}
				if err := s.Send(&deltaAsk{Node: a.node(), TypeUrl: view.LDS.URL()}); err != nil && !errors.Is(err, io.EOF) {
					return err
				}
				go func() { ended <- refused(ctx, s, codes.ResourceExhausted, "node id") }()
			}
		}
		n := 0
		for range 200 {
			switch err := <-ended; {
			case errors.Is(err, errRefused):
				n++
			case err != nil:
				return err
			}
		}
		if n < 100 || n > 101 {
			return fmt.Errorf("%d of 200 streams were refused, want 100", n)
		}
		return errRefused
	})
}
