package proxy_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// TestHeadIsPassedOnBeforeTheBody: an application learns the status when the host says it, not when the body follows.
func TestHeadIsPassedOnBeforeTheBody(t *testing.T) {
	asked := make(chan struct{})
	host := script(t, func(c net.Conn) {
		_, _ = http.ReadRequest(bufio.NewReader(c))
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")
		select {
		case <-asked:
		case <-time.After(patience):
		}
		_, _ = io.WriteString(c, "later")
	})
	f := newFixture(t, nil, host)
	resp, err := f.client.Get("http://" + f.address() + "/")
	close(asked)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); string(body) != "later" || err != nil {
		t.Errorf("body %q, %v", body, err)
	}
}

// TestRetryDoesNotWaitForTheBody: a response that is retried is dropped where it stands.
func TestRetryDoesNotWaitForTheBody(t *testing.T) {
	answered := make(chan struct{})
	var requests atomic.Int64
	host := script(t, func(c net.Conn) {
		in := bufio.NewReader(c)
		if _, err := http.ReadRequest(in); err != nil {
			return
		}
		if requests.Add(1) > 1 {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 503 x\r\ncontent-length: 5\r\n\r\n")
		select {
		case <-answered:
		case <-time.After(patience):
		}
		_, _ = io.WriteString(c, "later")
	})
	f := newFixture(t, func(f *fixture) {
		f.route.Retry = &resilience.Retry{On: resilience.On5xx, NumRetries: 1, BackOff: resilience.BackOff{Base: time.Millisecond, Max: time.Millisecond}}
	}, host)
	begun := time.Now()
	resp, body := f.get("GET", "/", nil)
	took := time.Since(begun)
	close(answered)
	if resp.StatusCode != 200 || body != "ok" || took > patience/2 {
		t.Errorf("%d %q after %v, want the second answer at once", resp.StatusCode, body, took)
	}
}
