package proxy_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/engine"
	"github.com/breakwater-mesh/breakwater/pkg/proxy"
	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

func TestARequestPassesAsItIs(t *testing.T) {
	var seen *http.Request
	var body string
	host := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		seen, body = r, string(b)
		w.Header().Set("X-Answer", "yes")
		w.Header()["Content-Type"] = nil
		w.WriteHeader(201)
		fmt.Fprint(w, "hello")
	})
	f := newFixture(t, nil, host)
	req, _ := http.NewRequest("POST", "http://"+f.address()+"/a%2Fb//c?x=1&&y=%20", strings.NewReader("body"))
	req.Host = "payments.shop"
	req.Header.Set("X-Custom", "v")
	req.Header.Set("X-Envoy-Max-Retries", "3")
	req.Header.Set("Connection", "X-Private")
	req.Header.Set("X-Private", "v")
	req.Header["User-Agent"] = nil
	resp, answer := f.do(req)
	if resp.StatusCode != 201 || answer != "hello" || resp.Header.Get("X-Answer") != "yes" || resp.Header["Content-Type"] != nil {
		t.Errorf("answer %d %q %v", resp.StatusCode, answer, resp.Header)
	}
	if seen.RequestURI != "/a%2Fb//c?x=1&&y=%20" || seen.Host != "payments.shop" || seen.Method != "POST" || body != "body" || seen.ContentLength != 4 {
		t.Errorf("host saw %s %s of %s, %q (%d)", seen.Method, seen.RequestURI, seen.Host, body, seen.ContentLength)
	}
	delete(seen.Header, "Content-Length")
	if got := fmt.Sprint(seen.Header); got != "map[X-Custom:[v]]" {
		t.Errorf("headers %v, want the application's own only", got)
	}
}

func TestUpgradesBecomeTunnels(t *testing.T) {
	host := script(t, func(c net.Conn) {
		in := bufio.NewReader(c)
		req, err := http.ReadRequest(in)
		if err != nil || req.Header.Get("Upgrade") != "websocket" || req.Header.Get("Sec-Websocket-Key") != "k" {
			fmt.Fprintf(c, "HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n")
			return
		}
		fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: a\r\n\r\nfirst")
		_, _ = io.Copy(c, in)
	})
	f := newFixture(t, nil, host)
	c, err := net.Dial("tcp", f.address())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(c, "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n")
	in := bufio.NewReader(c)
	resp, err := http.ReadResponse(in, nil)
	if err != nil || resp.StatusCode != 101 || resp.Header.Get("Upgrade") != "websocket" || resp.Header.Get("Sec-Websocket-Accept") != "a" {
		t.Fatalf("%v %v", resp, err)
	}
	fmt.Fprint(c, "ping")
	buf := make([]byte, len("firstping"))
	if _, err := io.ReadFull(in, buf); err != nil || string(buf) != "firstping" {
		t.Errorf("tunnel says %q, %v", buf, err)
	}
	c.Close()
	eventually(t, "the request ends", func() bool { return f.stat("upstream_rq_active") == 0 && f.stat("upstream_cx_active") == 0 })
}

// TestATunnelEndsWithTheServer leaves an idle tunnel open over the end of the drain.
func TestATunnelEndsWithTheServer(t *testing.T) {
	host := script(t, func(c net.Conn) {
		in := bufio.NewReader(c)
		if _, err := http.ReadRequest(in); err == nil {
			fmt.Fprint(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
			_, _ = io.Copy(c, in)
		}
	})
	f := newFixture(t, nil, host)
	c, err := net.Dial("tcp", f.address())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	fmt.Fprint(c, "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	in := bufio.NewReader(c)
	if resp, err := http.ReadResponse(in, nil); err != nil || resp.StatusCode != 101 {
		t.Fatalf("%v %v", resp, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	f.server.Close(ctx)
	if f.stat("upstream_rq_active") != 0 {
		t.Error("the server has ended before its tunnel")
	}
	if _, err := in.ReadByte(); err == nil {
		t.Error("the tunnel goes on")
	}
}

func TestContinueComesFromTheHost(t *testing.T) {
	for name, tt := range map[string]struct {
		host func(c net.Conn, in *bufio.Reader)
		want string
	}{
		"continue": {func(c net.Conn, in *bufio.Reader) {
			fmt.Fprint(c, "HTTP/1.1 100 Continue\r\n\r\n")
			body := make([]byte, 4)
			_, _ = io.ReadFull(in, body)
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n%s", body)
		}, "100 200 body"},
		"refused": {func(c net.Conn, in *bufio.Reader) {
			fmt.Fprint(c, "HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n")
		}, "417 "},
		"early hints": {func(c net.Conn, in *bufio.Reader) {
			fmt.Fprint(c, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
			body := make([]byte, 4)
			_, _ = io.ReadFull(in, body)
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n%s", body)
		}, "103</a> 100 200 body"},
	} {
		t.Run(name, func(t *testing.T) {
			host := script(t, func(c net.Conn) {
				in := bufio.NewReader(c)
				req, err := http.ReadRequest(in)
				if err != nil || req.Header.Get("Expect") != "100-continue" {
					return
				}
				tt.host(c, in)
			})
			f := newFixture(t, nil, host)
			c, err := net.Dial("tcp", f.address())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(patience))
			fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
			in, got := bufio.NewReader(c), ""
			for {
				resp, err := http.ReadResponse(in, nil)
				if err != nil {
					t.Fatalf("after %q: %v", got, err)
				}
				got += fmt.Sprint(resp.StatusCode, resp.Header.Get("Link"), " ")
				if resp.StatusCode == 100 {
					fmt.Fprint(c, "body")
				}
				if resp.StatusCode >= 200 {
					body, _ := io.ReadAll(resp.Body)
					got += string(body)
					break
				}
			}
			if got = strings.ReplaceAll(got, "  ", " "); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestTrailersPass(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprint("h2=", h2), func(t *testing.T) {
			var got http.Header
			host := upstream(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.ReadAll(r.Body)
				got = r.Trailer
				w.Header().Set("Trailer", "X-Sum")
				fmt.Fprint(w, "data")
				w.(http.Flusher).Flush()
				w.Header().Set("X-Sum", "42")
				w.Header().Set(http.TrailerPrefix+"X-Late", "7")
			})
			f := newFixture(t, func(f *fixture) { f.cluster.HTTP2 = h2 }, host)
			req, _ := http.NewRequest("POST", "http://"+f.address()+"/", io.NopCloser(strings.NewReader("in")))
			req.Trailer = http.Header{"X-In": {"1"}}
			req.ContentLength = -1
			resp, body := f.do(req)
			if body != "data" || resp.Trailer.Get("X-Sum") != "42" || resp.Trailer.Get("X-Late") != "7" {
				t.Errorf("answer %q, trailers %v", body, resp.Trailer)
			}
			if got.Get("X-In") != "1" {
				t.Errorf("host got trailers %v", got)
			}
		})
	}
}

// TestAStaleConnectionIsNoSilentRetry has a host that closes a kept connection at the moment a request arrives on it.
func TestAStaleConnectionIsNoSilentRetry(t *testing.T) {
	var requests atomic.Int64
	host := script(t, func(c net.Conn) {
		in := bufio.NewReader(c)
		for i := 0; ; i++ {
			req, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			requests.Add(1)
			if i > 0 {
				return // closes
			}
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	f := newFixture(t, nil, host)
	if resp, _ := f.get("POST", "/", strings.NewReader("a")); resp.StatusCode != 200 {
		t.Fatalf("first: %d", resp.StatusCode)
	}
	resp, body := f.get("POST", "/", strings.NewReader("b"))
	want := "upstream connect error or disconnect/reset before headers. reset reason: connection termination"
	if resp.StatusCode != 503 || body != want {
		t.Errorf("answer %d %q, want 503 %q", resp.StatusCode, body, want)
	}
	if n := requests.Load(); n != 2 {
		t.Errorf("host got %d requests, want 2: nothing is sent twice", n)
	}
}

// TestAClosedIdleConnectionIsNotUsed has a host that closes each connection after its answer, without saying so.
func TestAClosedIdleConnectionIsNotUsed(t *testing.T) {
	closed := make(chan struct{}, 1)
	host := script(t, func(c net.Conn) {
		if req, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			_, _ = io.Copy(io.Discard, req.Body)
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			c.Close()
			closed <- struct{}{}
		}
	})
	f := newFixture(t, nil, host)
	for i := range 20 {
		if resp, body := f.get("POST", "/", strings.NewReader("a")); resp.StatusCode != 200 {
			t.Fatalf("request %d: %d %s", i, resp.StatusCode, body)
		}
		<-closed
	}
}

func TestRetriesSendTheBodyAgain(t *testing.T) {
	for _, tt := range []struct {
		name        string
		size, limit int
		h2          bool
		want        int
	}{{"small", 5, 0, false, 200}, {"at the limit", 100 << 10, 100 << 10, false, 200}, {"too long", 300 << 10, 100 << 10, false, 503}, {"h2", 100 << 10, 0, true, 200}} {
		t.Run(tt.name, func(t *testing.T) {
			var tries atomic.Int64
			host := upstream(t, func(w http.ResponseWriter, r *http.Request) {
				n, _ := io.Copy(io.Discard, r.Body)
				if tries.Add(1) == 1 || n != int64(tt.size) {
					w.WriteHeader(503)
				}
			})
			f := newFixture(t, func(f *fixture) {
				f.cluster.HTTP2 = tt.h2
				f.route.BufferLimit = uint32(tt.limit)
				f.route.Retry = &resilience.Retry{On: resilience.On5xx, NumRetries: 1, BackOff: resilience.BackOff{Base: time.Millisecond, Max: time.Millisecond}}
			}, host)
			resp, _ := f.get("POST", "/", strings.NewReader(strings.Repeat("x", tt.size)))
			if resp.StatusCode != tt.want {
				t.Errorf("%d, want %d after %d tries", resp.StatusCode, tt.want, tries.Load())
			}
			if abandoned := f.stat("retry_or_shadow_abandoned"); (abandoned == 1) != (tt.want == 503) {
				t.Errorf("retry_or_shadow_abandoned is %d", abandoned)
			}
		})
	}
}

func TestTimeouts(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		host := upstream(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		})
		f := newFixture(t, func(f *fixture) {
			f.cluster.HTTP2 = h2
			f.route.Timeout = 50 * time.Millisecond
		}, host)
		resp, body := f.get("GET", "/", nil)
		if resp.StatusCode != 504 || body != "upstream request timeout" || f.stat("upstream_rq_timeout") != 1 {
			t.Errorf("h2=%v: %d %q, upstream_rq_timeout %d", h2, resp.StatusCode, body, f.stat("upstream_rq_timeout"))
		}
		eventually(t, "nothing is active", func() bool { return f.stat("upstream_rq_active") == 0 })
	}
}

// TestTheTimeoutStartsWhenTheRequestIsComplete uploads for longer than the timeout.
func TestTheTimeoutStartsWhenTheRequestIsComplete(t *testing.T) {
	host := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n)
	})
	f := newFixture(t, func(f *fixture) { f.route.Timeout = 100 * time.Millisecond }, host)
	in, out := io.Pipe()
	go func() {
		for range 4 {
			_, _ = out.Write([]byte("x"))
			time.Sleep(50 * time.Millisecond)
		}
		out.Close()
	}()
	if resp, body := f.get("POST", "/", in); resp.StatusCode != 200 || body != "4" {
		t.Errorf("%d %q, want the upload to end", resp.StatusCode, body)
	}
}

func TestABrokenResponseBreaksForTheApplication(t *testing.T) {
	for _, half := range []string{"Content-Length: 10\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"} {
		host := script(t, func(c net.Conn) {
			if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
				fmt.Fprint(c, "HTTP/1.1 200 OK\r\n"+half)
			}
		})
		told := make(chan proxy.Access, 1)
		f := newFixture(t, func(f *fixture) { f.access = func(a proxy.Access) { told <- a } }, host)
		resp, err := f.client.Get("http://" + f.address())
		if err == nil {
			_, err = io.ReadAll(resp.Body)
			resp.Body.Close()
		}
		if err == nil {
			t.Errorf("%q: the application took half a response for a whole", half)
		}
		if a := <-told; a.Flags != engine.UPE || a.Status != 200 || a.Out != 3 {
			t.Errorf("%q: told of %d, %v after %d bytes, want 200, UPE after 3", half, a.Status, a.Flags, a.Out)
		}
	}
}

// TestAConnectionWithARestIsNotUsedAgain has a host that answers before it has read the request.
func TestAConnectionWithARestIsNotUsedAgain(t *testing.T) {
	host := script(t, func(c net.Conn) {
		in := bufio.NewReader(c)
		for {
			req, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			if req.Method == "POST" {
				_, _ = in.Discard(len("4\r\nsome\r\n")) // the rest of the body would come next
				fmt.Fprint(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
				continue
			}
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	f := newFixture(t, nil, host)
	in, out := io.Pipe()
	go func() { _, _ = out.Write([]byte("some")) }() // and never more
	if resp, _ := f.get("POST", "/", in); resp.StatusCode != 413 {
		t.Errorf("%d, want the early answer", resp.StatusCode)
	}
	out.Close()
	if resp, body := f.get("GET", "/", nil); resp.StatusCode != 200 {
		t.Errorf("the next request: %d %q", resp.StatusCode, body)
	}
	if n := f.stat("upstream_cx_total"); n != 2 {
		t.Errorf("%d connections, want one that was given up and one more", n)
	}
}

// TestAMalformedBodyIsNotTheHostsFault has the application break the framing of its request.
func TestAMalformedBodyIsNotTheHostsFault(t *testing.T) {
	host := upstream(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	f := newFixture(t, nil, host)
	c, err := net.Dial("tcp", f.address())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n")
	if _, err := io.ReadAll(c); err != nil {
		t.Errorf("the connection: %v, want its end", err)
	}
	eventually(t, "nothing is active", func() bool { return f.stat("upstream_rq_active") == 0 })
	if f.stat("upstream_rq_total") != 1 || f.stat("upstream_rq_rx_reset") != 0 {
		t.Errorf("%d requests, %d resets; want 1 and none", f.stat("upstream_rq_total"), f.stat("upstream_rq_rx_reset"))
	}
}

// TestAnApplicationThatDiesInItsRequest must not hold the host, nor be the host's fault.
func TestAnApplicationThatDiesInItsRequest(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		began, broken := make(chan struct{}, 1), make(chan error, 1)
		host := upstream(t, func(w http.ResponseWriter, r *http.Request) {
			began <- struct{}{}
			_, err := io.Copy(io.Discard, r.Body)
			broken <- err
		})
		f := newFixture(t, func(f *fixture) {
			f.cluster.HTTP2 = h2
			f.route.Retry = &resilience.Retry{On: resilience.OnReset, NumRetries: 3}
		}, host)
		c, err := net.Dial("tcp", f.address())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc")
		select { // upstream_rq_active counts a request before the host has seen it, and one that nobody wants any more never goes there
		case <-began:
		case <-time.After(patience):
			t.Fatalf("h2=%v: the host never got the request", h2)
		}
		c.Close()
		select {
		case err := <-broken:
			if err == nil {
				t.Errorf("h2=%v: the host took half a request for a whole", h2)
			}
		case <-time.After(patience):
			t.Fatalf("h2=%v: the host still waits", h2)
		}
		eventually(t, "nothing is active", func() bool { return f.stat("upstream_rq_active") == 0 })
		if f.stat("upstream_rq_rx_reset") != 0 || f.stat("upstream_rq_total") != 1 {
			t.Errorf("h2=%v: rx_reset %d of %d, want none of 1", h2, f.stat("upstream_rq_rx_reset"), f.stat("upstream_rq_total"))
		}
	}
}

// TestHedgedUploads send the same body to two hosts at once.
func TestHedgedUploads(t *testing.T) {
	slow := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})
	fast := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n)
	})
	f := newFixture(t, func(f *fixture) {
		f.route.HedgeOnPerTryTimeout = true
		f.route.Retry = &resilience.Retry{On: resilience.OnReset, NumRetries: 1, PerTryTimeout: 20 * time.Millisecond, AvoidPreviousHosts: true, HostSelectionAttempts: 5}
	}, slow, fast)
	for range 6 {
		if resp, body := f.get("POST", "/", strings.NewReader(strings.Repeat("x", 200_000))); resp.StatusCode != 200 || body != "200000" {
			t.Errorf("%d %q", resp.StatusCode, body)
		}
	}
	if f.stat("upstream_rq_retry") == 0 {
		t.Error("nothing was hedged")
	}
	eventually(t, "the losers are reset", func() bool { return f.stat("upstream_rq_active") == 0 })
}

func TestOverflowAtTheNumber(t *testing.T) {
	release := make(chan struct{})
	host := upstream(t, func(w http.ResponseWriter, r *http.Request) { <-release })
	f := newFixture(t, func(f *fixture) { f.cluster.Thresholds[resilience.Default].MaxRequests = 2 }, host)
	done := make(chan int)
	for range 2 {
		go func() {
			resp, err := f.client.Get("http://" + f.address())
			if err != nil {
				done <- 0
				return
			}
			resp.Body.Close()
			done <- resp.StatusCode
		}()
	}
	eventually(t, "two are active", func() bool { return f.stat("upstream_rq_active") == 2 })
	resp, body := f.get("GET", "/", nil)
	want := "upstream connect error or disconnect/reset before headers. reset reason: overflow"
	if resp.StatusCode != 503 || body != want || f.stat("upstream_rq_active_overflow") != 1 {
		t.Errorf("%d %q, overflow %d", resp.StatusCode, body, f.stat("upstream_rq_active_overflow"))
	}
	close(release)
	for range 2 {
		if status := <-done; status != 200 {
			t.Errorf("a request within the limit got %d", status)
		}
	}
}

func TestOddRequestsAreRefused(t *testing.T) {
	host := upstream(t, func(w http.ResponseWriter, r *http.Request) { t.Errorf("host got %s %s", r.Method, r.RequestURI) })
	f := newFixture(t, nil, host)
	for _, raw := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
		"GET / HTTP/1.1\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc",
		"GET / HTTP/1.1\r\nHost: a\r\nX : v\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
		"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
		"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
	} {
		c, err := net.Dial("tcp", f.address())
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(patience))
		fmt.Fprint(c, raw)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode < 400 || resp.StatusCode > 599 {
			t.Errorf("%q: %v %v, want a refusal", raw, resp, err)
		}
		c.Close()
	}
}
