package integration_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/integration/harness"
)

// mirror sends back what it gets, as it comes. The path /zeros is answered with 1 GiB.
func mirror(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/zeros" {
		_, _ = io.CopyN(w, zeros{}, 1<<30)
		return
	}
	_ = http.NewResponseController(w).EnableFullDuplex()
	_, _ = io.Copy(w, flushed{r.Body, w})
}

// flushed passes on what was written before it reads more.
type flushed struct {
	io.Reader
	w http.ResponseWriter
}

func (f flushed) Read(p []byte) (int, error) {
	_ = http.NewResponseController(f.w).Flush()
	return f.Reader.Read(p)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// bodies is an agent with a host for each protocol that mirrors.
func bodies(t *testing.T) (*mesh, *local) {
	m := newMesh(t)
	host, err := harness.StartHost(0, http.HandlerFunc(mirror))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(host.Close)
	m.hosts["payments"], m.hosts["ledger"] = []*harness.Host{host}, []*harness.Host{host}
	m.apply(m.manifest("payments"), strings.Replace(m.manifest("ledger"), "protocol: http", "protocol: http2", 1), m.manifest("orders"))
	a := m.agent("orders")
	a.reaches("payments", 200)
	a.reaches("ledger", 200)
	return m, a
}

// caller calls over one connection at a time, of HTTP/2 or HTTP/1.1. It ends with the test.
func (l *local) caller(http2 bool) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!http2)
	protocols.SetUnencryptedHTTP2(http2)
	transport := &http.Transport{Protocols: protocols, DisableCompression: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", l.Outbound)
	}}
	l.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// highest follows the agent's memory until the returned function is called, which gives its highest, in MiB.
func (l *local) highest() func() float64 {
	ctx, cancel := context.WithCancel(context.Background())
	top := make(chan float64)
	go func() {
		most := 0.0
		for ctx.Err() == nil {
			if n, err := harness.Resident(l.Pid()); err == nil {
				most = max(most, float64(n)/(1<<20))
			}
			pause(ctx, 5*time.Millisecond)
		}
		top <- most
	}()
	return func() float64 { cancel(); return <-top }
}

// goroutines are how many the agent has.
func (l *local) goroutines() int {
	l.t.Helper()
	page, err := l.Page("/debug/pprof/goroutine?debug=1")
	if err != nil {
		l.t.Fatal(err)
	}
	total := regexp.MustCompile(`^goroutine profile: total (\d+)`).FindStringSubmatch(page)
	if total == nil {
		l.t.Fatalf("profile begins %.80q", page)
	}
	n, _ := strconv.Atoi(total[1])
	return n
}

// TestAgentSurvivesLargeBodies keeps its memory flat: it sends bodies that come back at once, in both protocols, to a caller that stops reading for a
// while: then the host is stopped too, and nothing piles up between them.
func TestAgentSurvivesLargeBodies(t *testing.T) {
	t.Parallel()
	size := choose[int64](64<<20, 200<<20)
	_, a := bodies(t)
	before := a.resident()
	top := a.highest()
	var all sync.WaitGroup
	for host, http2 := range map[string]bool{"payments": false, "ledger": true} {
		all.Go(func() {
			back, err := mirrored(t, a, host, http2, size)
			if err != nil || back != size {
				t.Errorf("%s: %d bytes came back, %v; want %d", host, back, err, size)
			}
		})
	}
	all.Wait()
	grown := top() - before
	t.Logf("%d MiB each way, twice at once: grown by %.0f MiB from %.0f", size>>20, grown, before)
	if grown > 32 {
		t.Errorf("the agent grew by %.0f MiB while bodies of %d MiB went through", grown, size>>20)
	}
}

// mirrored sends size bytes and reads them back, but for a while at an eighth of them. It checks that the sending stops as well.
func mirrored(t *testing.T, a *local, host string, http2 bool, size int64) (int64, error) {
	sent := &metered{r: io.LimitReader(zeros{}, size)}
	req, err := http.NewRequestWithContext(within(t, 6*patience), "POST", "http://"+host+"/", sent)
	if err != nil {
		return 0, err
	}
	resp, err := a.caller(http2).Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	back, err := io.CopyN(io.Discard, resp.Body, size/8)
	if err != nil {
		return back, err
	}
	rests, err := sent.rests()
	if err != nil {
		return back, err
	}
	if rests > size/8+40<<20 { // the kernel's buffers on four connections are most of it
		t.Errorf("%s: %d MiB were taken while the caller had read %d", host, rests>>20, back>>20)
	}
	rest, err := io.Copy(io.Discard, resp.Body)
	return back + rest, err
}

// metered counts what is read.
type metered struct {
	r  io.Reader
	mu sync.Mutex
	n  int64
}

func (m *metered) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.mu.Lock()
	m.n += int64(n)
	m.mu.Unlock()
	return n, err
}

func (m *metered) read() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.n
}

// rests waits until nothing more was read for a while, and returns how much was.
func (m *metered) rests() (int64, error) {
	const still = 300 * time.Millisecond
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	last, since := m.read(), time.Now()
	err := harness.Poll(ctx, func() error {
		if n := m.read(); n != last {
			last, since = n, time.Now()
		}
		if time.Since(since) < still {
			return errors.New("bytes are still taken from a caller that reads nothing")
		}
		return nil
	})
	return last, err
}

// TestAStalledStreamHoldsUpNoOther leaves an answer unread and calls over the same connections: the caller's, and the host's.
func TestAStalledStreamHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	_, a := bodies(t)
	client := a.caller(true)
	var stalled []*http.Response
	for range 3 {
		resp, err := client.Get("http://ledger/zeros")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		stalled = append(stalled, resp)
	}
	before, connections := a.resident(), a.connections("ledger")
	top := a.highest()
	for i := range 200 {
		text := fmt.Sprintf("%d.%s", i, strings.Repeat("x", 32<<10))
		req, err := http.NewRequestWithContext(within(t, patience), "POST", "http://ledger/", strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatalf("call %d beside stalled streams: %v", i, err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(body) != text {
			t.Fatalf("call %d beside stalled streams: %d bytes, %v; want %d", i, len(body), err, len(text))
		}
	}
	if grown := top() - before; grown > 32 {
		t.Errorf("the agent grew by %.0f MiB beside streams that nobody reads", grown)
	}
	if now := a.connections("ledger"); now != connections {
		t.Errorf("%v connections of callers and to the host, %v before: the calls took other ones", now, connections)
	}
	for _, resp := range stalled {
		if n, err := io.CopyN(io.Discard, resp.Body, 32<<20); err != nil {
			t.Errorf("a stalled stream went on for %d bytes: %v", n, err)
		}
	}
}

// connections are how many there were of callers, and to the hosts of a service.
func (l *local) connections(service string) [2]int64 {
	return [2]int64{l.stat("http.outbound.downstream_cx_total"), l.stat("cluster.shop/" + service + ".upstream_cx_total")}
}

// TestAgentsGoroutinesComeBack makes many calls that end in every way, and then none.
func TestAgentsGoroutinesComeBack(t *testing.T) {
	t.Parallel()
	_, a := bodies(t)
	var callers []*http.Client
	round := func(calls int) {
		var all sync.WaitGroup
		for _, http2 := range []bool{false, true} {
			for _, host := range []string{"payments", "ledger"} {
				client := a.caller(http2)
				callers = append(callers, client)
				all.Go(func() {
					for i := range calls / 4 {
						if err := someCall(client, host, i); err != nil {
							t.Errorf("HTTP/2 %v, %s, call %d: %v", http2, host, i, err)
							return
						}
					}
				})
			}
		}
		all.Wait()
	}
	round(40)
	idle := func() int {
		a.CloseIdleConnections()
		eventually(t, func() error {
			for _, c := range callers {
				c.CloseIdleConnections() // again: a stream that was left may have held one
			}
			for _, name := range []string{"http.outbound.downstream_cx_active", "cluster.shop/payments.upstream_rq_active", "cluster.shop/ledger.upstream_rq_active"} {
				if n := a.stat(name); n != 0 {
					return fmt.Errorf("%s is %d", name, n)
				}
			}
			return nil
		})
		return a.goroutines()
	}
	before := idle()
	round(1000)
	const spare = 12 // connections to hosts that stay open
	eventually(t, func() error {
		if n := idle(); n > before+spare {
			return fmt.Errorf("%d goroutines after 1,000 calls, %d before them", n, before)
		}
		return nil
	})
}

// someCall is whole, or left by its caller: while it uploads, or with an answer that isn't read.
func someCall(client *http.Client, host string, i int) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	path, body := "/", io.Reader(strings.NewReader("a body"))
	switch i % 10 {
	case 3:
		path, body = "/zeros", nil
	case 7: // the host has a part of it and waits for the rest
		upload, feed := io.Pipe()
		defer feed.Close()
		go func() { _, _ = io.WriteString(feed, "a part") }()
		body = upload
	}
	req, err := http.NewRequestWithContext(ctx, "POST", "http://"+host+path, body)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if i%10 == 3 || i%10 == 7 {
		_, err = io.ReadFull(resp.Body, make([]byte, 6))
		cancel()
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// TestWebsocketsEndAsOnEnvoy half-closes websockets from either end, and leaves one idle.
func TestWebsocketsEndAsOnEnvoy(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	ends := make(chan net.Conn, 1)
	host, err := harness.StartHost(0, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
		ends <- conn
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(host.Close)
	m.hosts["payments"] = []*harness.Host{host}
	m.apply(m.manifest("payments"), m.manifest("orders"))
	real, a := m.envoy("orders"), m.agent("orders")
	m.apply(policyFor("bound", "payments", "timeout: {maxStream: 1s}"))
	m.programmed("bound")
	for name, act := range map[string]func(caller, host net.Conn) string{
		"the caller says no more": func(caller, host net.Conn) string { return halfClosed(caller, host) },
		"the host says no more":   func(caller, host net.Conn) string { return halfClosed(host, caller) },
		"neither says anything": func(caller, host net.Conn) string {
			begun := time.Now()
			return fmt.Sprintf("the caller has %s, the host %s, after a second: %v", rest(caller), rest(host), time.Since(begun) > 900*time.Millisecond)
		},
	} {
		got := map[string]string{}
		for side, address := range map[string]string{"envoy": real.Outbound, "agent": a.Outbound} {
			caller := upgraded(t, address)
			got[side] = act(caller, <-ends)
			_ = caller.Close()
		}
		t.Logf("%s: %s", name, got["envoy"])
		if got["agent"] != got["envoy"] {
			t.Errorf("%s: on Envoy %s; on the agent %s", name, got["envoy"], got["agent"])
		}
	}
	eventually(t, func() error {
		if n := a.stat("cluster.shop/payments.upstream_cx_active"); n != 0 {
			return fmt.Errorf("%d connections to the host are left", n)
		}
		return nil
	})
}

// upgraded is a connection through a proxy that is a websocket now.
func upgraded(t *testing.T, proxy string) net.Conn {
	t.Helper()
	var conn net.Conn
	eventually(t, func() (err error) { // the proxy may not know the host yet
		if conn, err = net.Dial("tcp", proxy); err != nil {
			return err
		}
		_ = conn.SetDeadline(time.Now().Add(patience))
		fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: payments\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReaderSize(conn, 16), nil)
		if err == nil && resp.StatusCode != http.StatusSwitchingProtocols {
			err = errors.New(resp.Status)
		}
		if err != nil {
			_ = conn.Close()
		}
		return err
	})
	return conn
}

// halfClosed says "one" from the first end and no more, then "two" from the other, and tells what comes to each.
func halfClosed(first, other net.Conn) string {
	fmt.Fprint(first, "one")
	_ = first.(*net.TCPConn).CloseWrite()
	heard := rest(other)
	fmt.Fprint(other, "two")
	_ = other.Close()
	return fmt.Sprintf("the other end has %s, the first %s", heard, rest(first))
}

// rest is what still comes, and how it ends.
func rest(c net.Conn) string {
	_ = c.SetDeadline(time.Now().Add(patience))
	text, err := io.ReadAll(c)
	if err != nil {
		return fmt.Sprintf("%q and an error", text)
	}
	return fmt.Sprintf("%q and the end", text)
}
