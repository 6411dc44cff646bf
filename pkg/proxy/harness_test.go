package proxy_test

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/engine"
	"github.com/breakwater-mesh/breakwater/pkg/proxy"
	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long what takes milliseconds may take on a loaded machine.
const patience = 10 * time.Second

// fixture is a proxy with one route to one cluster of hosts.
type fixture struct {
	t       testing.TB
	engine  *engine.Engine
	server  *proxy.Server
	table   *dataplane.Table
	cluster *dataplane.Cluster
	route   *dataplane.Route
	http    *dataplane.HTTP
	client  *http.Client
	access  func(proxy.Access)
}

// unlimited are thresholds that are never reached.
func unlimited() (all [resilience.Priorities]resilience.Thresholds) {
	for i := range all {
		all[i] = resilience.Thresholds{
			MaxConnections: resilience.Unlimited, MaxPendingRequests: resilience.Unlimited, MaxRequests: resilience.Unlimited,
			MaxRetries: resilience.Unlimited, MaxConnectionPools: resilience.Unlimited,
		}
	}
	return all
}

func newFixture(t testing.TB, change func(*fixture), hosts ...string) *fixture {
	t.Helper()
	f := &fixture{t: t, client: &http.Client{Transport: &http.Transport{DisableCompression: true}, Timeout: patience}}
	f.cluster = &dataplane.Cluster{Name: "shop/email", ConnectTimeout: time.Second, Trailers: true, Thresholds: unlimited()}
	for _, h := range hosts {
		f.cluster.Hosts = append(f.cluster.Hosts, dataplane.Host{Address: netip.MustParseAddrPort(h), Weight: 1})
	}
	f.route = &dataplane.Route{Path: dataplane.PathMatch{Prefix: "/"}, Cluster: "shop/email"}
	f.http = &dataplane.HTTP{StatPrefix: "outbound", SuppressEnvoy: true, StripEnvoyHeaders: true, Websocket: true, AcceptHTTP10: true, Trailers: true, Proxy100: true}
	f.http.Routes = &dataplane.RouteConfig{Hosts: []*dataplane.VirtualHost{{Domains: []string{"*"}, Routes: []*dataplane.Route{f.route}}}}
	if change != nil {
		change(f)
	}
	f.table = &dataplane.Table{
		Clusters:  map[string]*dataplane.Cluster{f.cluster.Name: f.cluster},
		Listeners: map[string]*dataplane.Listener{"outbound": {Name: "outbound", Address: netip.MustParseAddrPort("127.0.0.1:0"), HTTP: f.http}},
	}
	f.engine = engine.New(engine.Options{NewPool: proxy.Pools(proxy.TCP), NewProber: proxy.Probers(proxy.TCP), Rand: rand.Uint64})
	f.server = proxy.NewServer(proxy.Options{
		Engine: f.engine, Log: io.Discard, Access: f.access,
		Listen: func(address string) (net.Listener, error) { return net.Listen("tcp", address) },
	})
	if err := f.server.SetTable(f.table); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.client.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		f.server.Close(ctx)
		f.engine.Close()
	})
	return f
}

func (f *fixture) address() string { return f.server.Addresses()["outbound"] }

// stat is one statistic of the engine.
func (f *fixture) stat(name string) (value int64) {
	f.engine.Stats(func(n string, v int64) {
		if n == "cluster.shop/email."+name {
			value = v
		}
	})
	return value
}

// get sends a request and returns status and body.
func (f *fixture) get(method, path string, body io.Reader) (*http.Response, string) {
	f.t.Helper()
	req, err := http.NewRequest(method, "http://"+f.address()+path, body)
	if err != nil {
		f.t.Fatal(err)
	}
	return f.do(req)
}

func (f *fixture) do(req *http.Request) (*http.Response, string) {
	f.t.Helper()
	resp, err := f.client.Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return resp, string(answer)
}

// upstream is a host that handler answers for, over HTTP/1.1 and h2c.
func upstream(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	s.Config.Protocols = protocols
	s.Start()
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s.Listener.Addr().String()
}

// eventually waits until ok holds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
		time.Sleep(time.Millisecond)
	}
}

// script is a host that speaks by hand: each connection goes to serve.
func script(t *testing.T, serve func(c net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(patience))
				serve(c)
			}()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return l.Addr().String()
}
