package harness

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Call is one request as its sender saw it.
type Call struct {
	Status  int // 0: no answer
	Err     error
	Elapsed time.Duration
	Header  http.Header
	Body    string
}

// Client sends requests through one address, such as an Envoy's outbound listener, whatever host they name.
type Client struct{ http *http.Client }

// NewClient is a client whose every connection goes to address. Timeout bounds one call.
func NewClient(address string, timeout time.Duration) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", address)
	}
	return &Client{&http.Client{Timeout: timeout, Transport: &http.Transport{DialContext: dial, MaxIdleConnsPerHost: 256, DisableCompression: true}}}
}

// CloseIdleConnections closes the connections that no call uses.
func (c *Client) CloseIdleConnections() { c.http.CloseIdleConnections() }

// Get sends GET http://host/path.
func (c *Client) Get(host, path string) Call { return c.GetContext(context.Background(), host, path) }

// GetContext is Get, given up when ctx ends.
func (c *Client) GetContext(ctx context.Context, host, path string) Call {
	return c.Send(ctx, http.MethodGet, host, path, nil)
}

// Send sends one request without a body.
func (c *Client) Send(ctx context.Context, method, host, path string, header http.Header) Call {
	begun := time.Now()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+host+path, nil)
	if err != nil {
		return Call{Err: err}
	}
	if header != nil {
		req.Header = header
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return Call{Err: err, Elapsed: time.Since(begun)}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return Call{Status: resp.StatusCode, Err: err, Elapsed: time.Since(begun), Header: resp.Header, Body: string(body)}
}

// Results are the calls of a load, gathered by any number of goroutines.
type Results struct {
	mu    sync.Mutex
	calls []Call
}

func (r *Results) add(c Call) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, c)
}

// Len is how many calls there are since the last Take.
func (r *Results) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.calls)
}

// Take returns the calls since the last Take.
func (r *Results) Take() Summary {
	r.mu.Lock()
	defer r.mu.Unlock()
	calls := r.calls
	r.calls = nil
	return summarize(calls)
}

// Summary is what a load looked like.
type Summary struct {
	Calls, Succeeded int
	P50, P99         time.Duration
	Failures         map[string]int // by status or error
}

// SuccessPercent is 100 where nothing was called.
func (s Summary) SuccessPercent() float64 {
	if s.Calls == 0 {
		return 100
	}
	return 100 * float64(s.Succeeded) / float64(s.Calls)
}

func summarize(calls []Call) Summary {
	s := Summary{Calls: len(calls), Failures: map[string]int{}}
	elapsed := make([]time.Duration, len(calls))
	for i, c := range calls {
		elapsed[i] = c.Elapsed
		switch {
		case c.Err != nil:
			s.Failures["no answer"]++
		case c.Status >= 200 && c.Status < 300:
			s.Succeeded++
		default:
			s.Failures[fmt.Sprint(c.Status)]++
		}
	}
	if len(elapsed) > 0 {
		slices.Sort(elapsed)
		s.P50, s.P99 = elapsed[len(elapsed)/2], elapsed[len(elapsed)*99/100]
	}
	return s
}

// Load calls call at rate a second, each in its own goroutine, at most limit at once (further ones are left out), until ctx ends, and
// returns when the last has its answer.
func Load(ctx context.Context, rate, limit int, results *Results, call func() Call) {
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, limit)
	ticker := time.NewTicker(time.Second / time.Duration(rate))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		select {
		case slots <- struct{}{}:
			wg.Go(func() {
				results.add(call())
				<-slots
			})
		default:
		}
	}
}
