package xdsclient

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/store"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// TestAFullDiskIsTriedAgain has a state directory that can't be made at first.
func TestAFullDiskIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "state")
		if err := os.WriteFile(dir, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		s, a, _ := talking(t, func(c *Config) { c.StateDir = dir })
		s.small()
		settleDown()
		if st := a.Status(); st.SaveError == "" || st.SaveFails == 0 || len(a.now().Clusters) != 2 {
			t.Errorf("status %+v; want that it serves, and that it can't save", st)
		}
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
		time.Sleep(saveRetry)
		synctest.Wait()
		if saved, err := NewCache(dir, orders1).Load(); err != nil || saved.Resources.Len() != 6 || a.Status().SaveError != "" {
			t.Errorf("once there is room: %v, %v, status %+v", saved, err, a.Status())
		}
	})
}

// TestAFlappingServer comes and goes ten times a second, for a minute.
func TestAFlappingServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv, n := store.NewMemory(store.Limits{}), &network{}
		putService(t, kv, "payments", "10.0.0.1")
		p := startPlane(t, n, "one:1", kv)
		a := startAgent(t, n, nil)
		settleDown()
		table, dials, sent := a.now(), n.dialled(), 0
		for range 600 {
			p.stop()
			time.Sleep(50 * time.Millisecond)
			p = startPlane(t, n, "one:1", kv)
			time.Sleep(50 * time.Millisecond)
			sent += p.sent()
		}
		if sent != 0 || a.now() != table {
			t.Errorf("%d resources were sent to an agent that had them, table replaced: %v", sent, a.now() != table)
		}
		if got := n.dialled() - dials; got > 60*5 {
			t.Errorf("dialled %d times in a minute", got)
		}
		putTimeout(t, kv, "payments", 700*time.Millisecond)
		time.Sleep(longestWait + time.Second)
		synctest.Wait()
		if got := a.timeout(t, "payments.shop"); got != 700*time.Millisecond {
			t.Errorf("timeout %v after it calmed down", got)
		}
	})
}

// cut is a connection over which nothing comes any more, and on which writes seem to succeed.
type cut struct {
	net.Conn
	once sync.Once
	gone chan struct{} // closed: nothing comes
	shut chan struct{}
}

func (c *cut) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	select {
	case <-c.gone:
		<-c.shut
		return 0, net.ErrClosed
	default:
		return n, err
	}
}

func (c *cut) Write(b []byte) (int, error) {
	select {
	case <-c.gone:
		return len(b), nil
	default:
		return c.Conn.Write(b)
	}
}

func (c *cut) Close() error {
	c.once.Do(func() { close(c.shut) })
	return c.Conn.Close()
}

// TestABlackHoleIsNoticed loses the network, not the server: no packet says so.
func TestABlackHoleIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := make(chan struct{})
		n := &network{}
		one, two := startScript(t, n, "one:1", lenient()), startScript(t, n, "two:1", lenient())
		two.greets = true
		a := startAgent(t, n, func(c *Config) {
			c.Layers, c.Servers = nil, []string{"one:1", "two:1"}
			c.dial = func(ctx context.Context, name string) (net.Conn, error) {
				conn, err := n.dial(ctx, name)
				if err != nil || name != "one:1" {
					return conn, err
				}
				return &cut{Conn: conn, gone: gone, shut: make(chan struct{})}, nil
			}
		})
		synctest.Wait()
		one.small()
		close(gone)
		time.Sleep(pingInterval + pingTimeout + time.Second)
		synctest.Wait()
		if st := a.Status(); st.Server != "two:1" || !st.Connected || len(a.now().Clusters) != 2 {
			t.Errorf("status %+v, %d clusters; want the other server after a ping without an answer", st, len(a.now().Clusters))
		}
	})
}

// TestServersThatAreNone are one that takes connections and is silent, one that speaks something else, and one that is there.
func TestServersThatAreNone(t *testing.T) {
	for name, says := range map[string]string{"silent": "", "garbage": "SSH-2.0-OpenSSH_9.2\r\n", "another protocol": "HTTP/1.1 400 Bad Request\r\n\r\n"} {
		synctest.Test(t, func(t *testing.T) {
			n := &network{}
			good := startScript(t, n, "good:1")
			good.greets = true
			var mu sync.Mutex
			var open []net.Conn
			a := startAgent(t, n, func(c *Config) {
				c.Layers, c.Servers = nil, []string{"bad:1", "good:1"}
				c.dial = func(ctx context.Context, name string) (net.Conn, error) {
					if name == "good:1" {
						return n.dial(ctx, name)
					}
					mine, theirs := net.Pipe()
					mu.Lock()
					open = append(open, theirs)
					mu.Unlock()
					go func() { _, _ = theirs.Write([]byte(says)) }()
					return mine, nil
				}
			})
			time.Sleep(connectTimeout + 2*time.Second)
			synctest.Wait()
			if st := a.Status(); st.Server != "good:1" || !st.Connected {
				t.Errorf("%s: status %+v", name, st)
			}
			a.stop()
			mu.Lock()
			defer mu.Unlock()
			for _, conn := range open {
				_ = conn.Close()
			}
		})
	}
}

// TestLargeResponses come whole: gRPC's own limit is 4 MiB.
func TestLargeResponses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a, _ := talking(t, nil)
		s.small()
		padding, err := structpb.NewStruct(map[string]any{"k": strings.Repeat("x", 20<<20)})
		if err != nil {
			t.Fatal(err)
		}
		big := hostsOf("a", 7)
		big.message = withMetadata(big.message, padding)
		s.mustSay(view.EDS, nil, big)
		if hosts := a.now().Clusters["a"].Hosts; len(hosts) != 1 || hosts[0].Address.Port() != 7 {
			t.Errorf("hosts %v", hosts)
		}
	})
}

// TestAnotherNodeIdStartsAnew does not serve what was saved for somebody else.
func TestAnotherNodeIdStartsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s, a, _ := talking(t, func(c *Config) { c.StateDir = dir })
		s.small()
		settleDown()
		a.stop()
		other := startAgent(t, &network{}, func(c *Config) { c.Layers, c.StateDir, c.Node.ID = nil, dir, "orders-2" })
		synctest.Wait()
		if st := other.Status(); other.calls != 0 || !st.Saved.IsZero() {
			t.Errorf("it serves what another node had: %+v", st)
		}
	})
}

// names is a DNS server.
type names struct {
	net.PacketConn
	mu    sync.Mutex
	known map[string][4]byte
	asked int
}

func (n *names) serve() {
	buffer := make([]byte, 512)
	for {
		size, from, err := n.ReadFrom(buffer)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(buffer[:size]) != nil || len(m.Questions) == 0 {
			continue
		}
		q := m.Questions[0]
		n.mu.Lock()
		n.asked++
		address, known := n.known[q.Name.String()]
		n.mu.Unlock()
		m.Response, m.Additionals = true, nil
		switch {
		case !known:
			m.RCode = dnsmessage.RCodeNameError
		case q.Type == dnsmessage.TypeA:
			m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class}, Body: &dnsmessage.AResource{A: address}}}
		}
		if out, err := m.Pack(); err == nil {
			_, _ = n.WriteTo(out, from)
		}
	}
}

// TestANameThatResolvesLater is that of a control plane that is not in the DNS yet when the agent starts.
func TestANameThatResolvesLater(t *testing.T) {
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dns := &names{PacketConn: udp, known: map[string][4]byte{}}
	var running sync.WaitGroup
	running.Go(dns.serve)
	system := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", udp.LocalAddr().String())
	}}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, &script{t: t, greets: true})
	running.Go(func() { _ = g.Serve(lis) })
	_, port, _ := net.SplitHostPort(lis.Addr().String())
	c, err := New(Config{
		Servers: []string{net.JoinHostPort("breakwater.example.", port)}, Node: Node{ID: "orders-1", Cluster: "orders.shop"},
		Apply: func(dataplane.Resources) []dataplane.Fault { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	running.Go(func() { _ = c.Run(ctx) })
	defer func() {
		cancel(errors.New("the test is over"))
		g.Stop()
		_ = udp.Close()
		running.Wait()
		net.DefaultResolver = system
	}()
	wait := func(what string, f func() bool) {
		t.Helper()
		for deadline := time.Now().Add(45 * time.Second); !f(); time.Sleep(5 * time.Millisecond) { // real sockets: poll
			if time.Now().After(deadline) {
				t.Fatalf("not %s: %+v", what, c.Status())
			}
		}
	}
	wait("looked up", func() bool { return c.Status().LastError != "" })
	dns.mu.Lock()
	dns.known["breakwater.example."] = [4]byte{127, 0, 0, 1}
	dns.mu.Unlock()
	wait("connected", func() bool { return c.Status().Connected })
}

// withMetadata puts padding where the agent does not look.
func withMetadata(m proto.Message, padding *structpb.Struct) proto.Message {
	a := proto.CloneOf(m.(*endpointv3.ClusterLoadAssignment))
	a.Endpoints[0].LbEndpoints[0].Metadata = &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{"padding": padding}}
	return a
}

func TestWhatIsInForceIsSaidAsItIs(t *testing.T) {
	for want, test := range map[string]struct {
		heard  bool
		status Status
	}{
		"control plane lost; what it last said stays in force":                    {heard: true, status: Status{Applied: time.Now()}},
		"no control plane can be reached; nothing is in force yet":                {},
		"no control plane can be reached; what was saved 1h30m0s ago is in force": {status: Status{Applied: time.Now(), Saved: time.Now().Add(-90 * time.Minute)}},
	} {
		c := &Client{status: test.status}
		if got := c.standing(test.heard); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
