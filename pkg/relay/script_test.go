package relay

import (
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// script is a server that does with each stream what a test wants.
type script struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	delta func(*script, grpc.BidiStreamingServer[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]) error

	mu       sync.Mutex
	requests []*discoveryv3.DeltaDiscoveryRequest
	streams  int
}

func (s *script) DeltaAggregatedResources(g grpc.BidiStreamingServer[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]) error {
	s.mu.Lock()
	s.streams++
	s.mu.Unlock()
	return s.delta(s, g)
}

// listens reads until the client is gone.
func listens(s *script, g grpc.BidiStreamingServer[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]) error {
	for {
		q, err := g.Recv()
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.requests = append(s.requests, q)
		s.mu.Unlock()
	}
}

func (s *script) asked() []*discoveryv3.DeltaDiscoveryRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

func clusters(t *testing.T, nonce, version string, names ...string) *discoveryv3.DeltaDiscoveryResponse {
	t.Helper()
	m := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: cds, Nonce: nonce, SystemVersionInfo: version}
	for _, name := range names {
		body, err := anypb.New(clusterOf(name, 1))
		if err != nil {
			t.Fatal(err)
		}
		m.Resources = append(m.Resources, &discoveryv3.Resource{Name: name, Version: version, Resource: body})
	}
	return m
}

// TestNothingIsLostOnTheWay sends fields that nobody knows, both ways.
func TestNothingIsLostOnTheWay(t *testing.T) {
	unknown := protowire.AppendString(protowire.AppendTag(nil, 5000, protowire.BytesType), "from the future")
	answer := clusters(t, "1", "v1", "a")
	answer.ProtoReflect().SetUnknown(unknown)
	answer.Resources[0].ProtoReflect().SetUnknown(unknown)
	s := &script{delta: func(s *script, g grpc.BidiStreamingServer[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]) error {
		if err := g.Send(answer); err != nil {
			return err
		}
		return listens(s, g)
	}}
	r := startRelay(t, t.TempDir(), newPlane(t, s).address)
	c := dialDelta(t, r.address, "one", nil)
	q := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds, ResourceLocatorsSubscribe: []*discoveryv3.ResourceLocator{{Name: "x"}}}
	q.ProtoReflect().SetUnknown(unknown)
	sent := proto.CloneOf(q)
	c.send(q)
	if m := c.next(); !proto.Equal(m, answer) {
		t.Errorf("the client got %v, want %v", m, answer)
	}
	eventually(t, func() string {
		if got := s.asked(); len(got) != 1 || !proto.Equal(got[0], sent) {
			return "the server did not get what was sent"
		}
		return ""
	})
}

func TestARefusalIsPassedOn(t *testing.T) {
	w, p := newWorld(t)
	w.set(t, "one", "1", map[string]int64{"a": 1})
	r := startRelay(t, "", p.address)
	c := r.known(t, 1, cds)
	c.hangUp()
	p.leave()
	code := codes.PermissionDenied
	p.service = &script{delta: func(*script, grpc.BidiStreamingServer[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]) error {
		return status.Error(code, "not you")
	}}
	p.comeBack()
	c = dialDelta(t, r.address, "one", nil, cds)
	if err := c.ended(); status.Code(err) != code || status.Convert(err).Message() != "not you" {
		t.Errorf("ended with %v, want the server's own refusal", err)
	}
	p.leave()
	code = codes.ResourceExhausted // too busy is no refusal
	p.comeBack()
	c = dialDelta(t, r.address, "one", nil, cds)
	if got := names(c.next()); !slices.Equal(got, []string{"a"}) {
		t.Errorf("a server that is too busy: got %v from memory", got)
	}
}

// TestASilentServer is one that takes the stream and says nothing: who can be served from memory is.
func TestASilentServer(t *testing.T) {
	w, p := newWorld(t)
	w.set(t, "one", "1", map[string]int64{"a": 1})
	r := startRelay(t, "", p.address)
	c := r.known(t, 1, cds)
	c.hangUp()
	p.leave()
	p.service = &script{delta: listens}
	p.comeBack()
	begun := time.Now()
	again := dialDelta(t, r.address, "one", nil, cds)
	again.accept(again.next())
	if took := time.Since(begun); took < firstAnswer {
		t.Errorf("served from memory after %v, want after %v", took, firstAnswer)
	}
	again.hangUp()
	full := dialDelta(t, r.address, "one", c.has, cds) // wants nothing that it has not
	stranger := dialDelta(t, r.address, "two", nil, cds)
	full.quiet(firstAnswer + time.Second)
	stranger.quiet(0)
	r.from(t, false)
}

// TestServersThatAreNone are one that never speaks HTTP/2, one that speaks garbage and one that is not there, beside a real one.
func TestServersThatAreNone(t *testing.T) {
	mute, garbage := listen(t, nil), listen(t, []byte("SSH-2.0-OpenSSH_9.2\r\n"))
	w, p := newWorld(t)
	w.set(t, "one", "1", map[string]int64{"a": 1})
	r := startRelay(t, t.TempDir(), mute, garbage, "127.0.0.1:1", p.address)
	best := time.Hour // the machine may be busy with other things
	for range 3 {
		begun := time.Now()
		c := dialDelta(t, r.address, "one", nil, cds)
		c.accept(c.next())
		best = min(best, time.Since(begun))
		r.knows(t, 1)
		c.hangUp()
	}
	if best > reachTimeout {
		t.Errorf("the server that works was found after %v", best)
	}
	c := dialDelta(t, r.address, "one", nil, cds)
	c.accept(c.next())
	p.leave()
	r.from(t, true)
	again := dialDelta(t, r.address, "one", nil, cds)
	again.accept(again.next()) // from memory
}

// listen is a TCP port that says something to whoever connects, and no more.
func listen(t *testing.T, says []byte) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	running.Go(func() {
		for {
			conn, err := lis.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write(says)
			mu.Lock()
			open = append(open, conn)
			mu.Unlock()
		}
	})
	t.Cleanup(func() {
		_ = lis.Close()
		running.Wait()
		for _, conn := range open {
			_ = conn.Close()
		}
	})
	return lis.Addr().String()
}

// TestHalfAnAnswer loses the server between two of its responses: memory has the rest, and nothing twice.
func TestHalfAnAnswer(t *testing.T) {
	half := false
	s := &script{delta: func(s *script, g grpc.BidiStreamingServer[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]) error {
		if half {
			_ = g.Send(clusters(t, "1", "v2", "a"))
			return status.Error(codes.Unavailable, "lost")
		}
		if err := g.Send(clusters(t, "1", "v1", "a", "b")); err != nil {
			return err
		}
		return listens(s, g)
	}}
	p := newPlane(t, s)
	r := startRelay(t, "", p.address)
	c := r.known(t, 2, cds)
	c.hangUp()
	p.leave()
	half = true
	p.comeBack()
	c = dialDelta(t, r.address, "one", nil, cds)
	first, second := c.next(), c.next()
	if !slices.Equal(names(first), []string{"a"}) || first.GetSystemVersionInfo() != "v2" || !slices.Equal(names(second), []string{"b"}) {
		t.Errorf("got %v, then %v; want a from the server and b from memory", first, second)
	}
	c.accept(first)
	c.accept(second)
	eventually(t, func() string {
		r.book.mu.Lock()
		m := r.book.memories["one"]
		r.book.mu.Unlock()
		m.mu.Lock()
		defer m.mu.Unlock()
		if a, b := m.of(cds).resources["a"].GetVersion(), m.of(cds).resources["b"].GetVersion(); a != "v2" || b != "v1" {
			return "remembered: a " + a + ", b " + b
		}
		return ""
	})
}
