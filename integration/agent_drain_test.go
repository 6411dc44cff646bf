package integration_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/integration/harness"
)

// keeper keeps one connection to an agent as long as that lets it, and repeats nothing but what was refused.
type keeper struct {
	address         string
	answered, fresh *atomic.Int64 // fresh: connections that ended before the agent took anything from them
}

// run calls until ctx ends. Its error is a request that was lost.
func (c *keeper) run(ctx context.Context) error {
	for ctx.Err() == nil {
		conn, err := net.Dial("tcp", c.address)
		if err != nil {
			pause(ctx, 2*time.Millisecond)
			continue
		}
		err = c.use(ctx, conn)
		_ = conn.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// use calls on one connection until the agent ends it. What fails on it before the first answer may have waited in the kernel, where no
// agent can see it: of that the end of the listener can't be told.
func (c *keeper) use(ctx context.Context, conn net.Conn) error {
	in := bufio.NewReader(conn)
	for n := 0; ctx.Err() == nil; n++ {
		_ = conn.SetDeadline(time.Now().Add(patience))
		_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: payments\r\n\r\n")
		var resp *http.Response
		if err == nil {
			resp, err = http.ReadResponse(in, nil)
		}
		if err != nil && n == 0 && !errors.Is(err, io.ErrUnexpectedEOF) {
			c.fresh.Add(1)
			return nil
		}
		if err != nil {
			return fmt.Errorf("request %d of its connection: %w", n, err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
			return fmt.Errorf("request %d of its connection: %s %w", n, resp.Status, err)
		}
		if c.answered.Add(1); resp.Close {
			return nil
		}
	}
	return nil
}

// TestAgentSurvivesSIGTERMs ends the agent again and again under load.
func TestAgentSurvivesSIGTERMs(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	slow := make(chan struct{}, 1)
	host, err := harness.StartHost(0, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			slow <- struct{}{}
			time.Sleep(150 * time.Millisecond)
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(host.Close)
	m.hosts["payments"] = []*harness.Host{host}
	m.apply(m.manifest("payments"), m.manifest("orders"))
	a := m.agent("orders")
	a.reaches("payments", 200)

	ctx, cancel := context.WithCancel(context.Background())
	var answered, fresh, overHTTP2 atomic.Int64
	var group sync.WaitGroup
	for range 6 {
		c := &keeper{a.Outbound, &answered, &fresh}
		group.Go(func() {
			if err := c.run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	group.Go(func() { callHTTP2(ctx, t, a.Outbound, &overHTTP2, &fresh) })
	for i := range choose(4, 100) {
		before, before2 := answered.Load(), overHTTP2.Load()
		eventually(t, func() error {
			if answered.Load() < before+50 || overHTTP2.Load() < before2+5 {
				return fmt.Errorf("%d and %d answers", answered.Load()-before, overHTTP2.Load()-before2)
			}
			return nil
		})
		late := make(chan harness.Call)
		go func() { late <- a.Get("payments", "/slow") }()
		<-slow
		if err := a.Stop(patience); err != nil {
			t.Errorf("stop %d: %v", i, err)
		}
		if call := <-late; call.Status != 200 {
			t.Errorf("stop %d: the slow call under way: %d %v, want 200", i, call.Status, call.Err)
		}
		if err := a.Start(within(t, patience)); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	group.Wait()
	t.Logf("%d answers over HTTP/1.1 and %d over HTTP/2; %d connections were never taken", answered.Load(), overHTTP2.Load(), fresh.Load())
	if fresh.Load() > answered.Load()/20 {
		t.Errorf("%d connections were never taken, of %d answers", fresh.Load(), answered.Load())
	}
}

// callHTTP2 calls over one HTTP/2 connection after another. A stream that the agent's GOAWAY leaves out is repeated, as HTTP/2 has it.
// An agent that takes a connection says so before anything else: one that ends before that waited in the kernel.
func callHTTP2(ctx context.Context, t *testing.T, address string, answered, fresh *atomic.Int64) {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	var conn *heard // the latest
	transport := &http.Transport{Protocols: protocols, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err != nil {
			return nil, err
		}
		conn = &heard{Conn: c}
		return conn, nil
	}}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	for ctx.Err() == nil {
		resp, err := client.Get("http://payments/")
		if errors.Is(err, syscall.ECONNREFUSED) {
			pause(ctx, 2*time.Millisecond)
			continue
		}
		if err != nil && !conn.any.Load() {
			fresh.Add(1)
			continue
		}
		if err != nil {
			t.Errorf("over HTTP/2: %v", err)
			return
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("over HTTP/2: %s, %v", resp.Status, err)
		}
		_ = resp.Body.Close()
		answered.Add(1)
	}
}

// heard is a connection that remembers whether anything came over it.
type heard struct {
	net.Conn
	any atomic.Bool
}

func (h *heard) Read(p []byte) (int, error) {
	n, err := h.Conn.Read(p)
	if n > 0 {
		h.any.Store(true)
	}
	return n, err
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
