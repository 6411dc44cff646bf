package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

func TestWhatTheListenerSays(t *testing.T) {
	host := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Seen", fmt.Sprintf("%s|%s|%s|%s", r.Header.Get("X-Drop"), r.Header.Get("X-Forwarded-Proto"),
			r.Header.Get("X-Envoy-Expected-Rq-Timeout-Ms"), r.Header.Get("X-Envoy-Other")))
		w.Header().Set("Server", "own")
	})
	for name, tt := range map[string]struct {
		change             func(*fixture)
		status             int
		seen, server, took string
	}{
		"transparent": {nil, 200, "v|||", "own", ""},
		"drops":       {func(f *fixture) { f.http.DropHeaders = []string{"x-drop"} }, 200, "|||", "own", ""},
		"as Envoy": {func(f *fixture) {
			f.http.SuppressEnvoy, f.http.StripEnvoyHeaders, f.http.AddForwardedProto, f.http.ServerHeader = false, false, true, "envoy"
			f.route.Timeout = time.Minute
			f.route.Retry = &resilience.Retry{PerTryTimeout: 3 * time.Second}
		}, 200, "v|http|3000|o", "envoy", "0"},
		"too many headers": {func(f *fixture) { f.http.MaxHeaders = 2 }, 431, "", "", ""},
	} {
		f := newFixture(t, tt.change, host)
		req, _ := http.NewRequest("GET", "http://"+f.address()+"/", nil)
		req.Header.Set("X-Drop", "v")
		req.Header.Set("X-Envoy-Other", "o")
		resp, _ := f.do(req)
		took := resp.Header.Get("X-Envoy-Upstream-Service-Time")
		if resp.StatusCode != tt.status || resp.Header.Get("Seen") != tt.seen || resp.Header.Get("Server") != tt.server || (took == "") != (tt.took == "") {
			t.Errorf("%s: %d %v", name, resp.StatusCode, resp.Header)
		}
	}
}

func TestUpgradesThatAreNotOnAreRefused(t *testing.T) {
	for upgrade, on := range map[string]bool{"websocket": false, "irc": true} {
		f := newFixture(t, func(f *fixture) { f.http.Websocket = on }, "127.0.0.1:1")
		req, _ := http.NewRequest("GET", "http://"+f.address()+"/", nil)
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", upgrade)
		if resp, _ := f.do(req); resp.StatusCode != 403 {
			t.Errorf("%s: %d, want 403", upgrade, resp.StatusCode)
		}
	}
}

func TestASlowRequestIsCutOff(t *testing.T) {
	host := upstream(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	f := newFixture(t, func(f *fixture) { f.http.RequestTimeout = 50 * time.Millisecond }, host)
	c, err := net.Dial("tcp", f.address())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != 408 || !resp.Close {
		t.Errorf("%v %v, want 408 and the end of the connection", resp, err)
	}
	if resp, _ := f.get("POST", "/", strings.NewReader("quick")); resp.StatusCode != 200 {
		t.Errorf("a quick request: %d", resp.StatusCode)
	}
}

func TestAHugeHeadOfAResponseIsRefused(t *testing.T) {
	host := script(t, func(c net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: %s\r\n\r\n", strings.Repeat("x", 100<<10))
		}
	})
	f := newFixture(t, func(f *fixture) { f.cluster.MaxHeadersKiB = 60 }, host)
	if resp, _ := f.get("GET", "/", nil); resp.StatusCode != 502 {
		t.Errorf("%d, want 502", resp.StatusCode)
	}
}

// TestListenersComeAndGo changes the table under traffic.
func TestListenersComeAndGo(t *testing.T) {
	host := upstream(t, func(w http.ResponseWriter, r *http.Request) {})
	f := newFixture(t, nil, host)
	first := f.address()
	if resp, _ := f.get("GET", "/", nil); resp.StatusCode != 200 {
		t.Fatalf("%d", resp.StatusCode)
	}
	other := *f.table.Listeners["outbound"]
	other.Name = "other"
	next := *f.table
	next.Listeners = map[string]*dataplane.Listener{"other": &other}
	if err := f.server.SetTable(&next); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the old port is closed", func() bool {
		c, err := net.Dial("tcp", first)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	resp, err := f.client.Get("http://" + f.server.Addresses()["other"])
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("the new listener: %v %v", resp, err)
	}
	resp.Body.Close()

	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	busy := other
	busy.Name, busy.Address = "busy", taken.Addr().(*net.TCPAddr).AddrPort()
	next2 := next
	next2.Listeners = map[string]*dataplane.Listener{"other": &other, "busy": &busy}
	if err := f.server.SetTable(&next2); err == nil || !strings.Contains(err.Error(), "listener busy") {
		t.Errorf("a port that is taken: %v", err)
	}
	if resp, err = f.client.Get("http://" + f.server.Addresses()["other"]); err != nil || resp.StatusCode != 200 {
		t.Fatalf("beside it: %v %v", resp, err)
	}
	resp.Body.Close()
}
