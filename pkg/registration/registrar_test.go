package registration_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/breakwater-mesh/breakwater/internal/testkit/ports"
	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/registration"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// plane is the API as far as a registrar asks it.
type plane struct {
	*httptest.Server

	mu     sync.Mutex
	status int      // answered instead; 0: all is well
	heard  []string // method, path and query
	there  bool     // the endpoint is registered
}

func newPlane(t *testing.T) *plane {
	p := &plane{}
	p.Server = httptest.NewServer(p)
	t.Cleanup(p.Close)
	return p
}

// ServeHTTP implements http.Handler.
func (p *plane) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard = append(p.heard, r.Method+" "+r.URL.RequestURI())
	status := p.status
	if status == 0 {
		status = http.StatusOK
		if r.Method == http.MethodDelete && !p.there {
			status = http.StatusNotFound
		}
		p.there = r.Method == http.MethodPut
	}
	w.WriteHeader(status)
	if status >= 400 {
		_ = json.NewEncoder(w).Encode(api.Problem{Title: http.StatusText(status), Status: status})
		return
	}
	fmt.Fprint(w, "{}")
}

func (p *plane) answer(status int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status = status
}

// forget drops the endpoint, as a store put back from a backup has none.
func (p *plane) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.there = false
}

func (p *plane) has() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.there
}

func (p *plane) requests() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.heard...)
}

// subject is a running registrar.
type subject struct {
	*registration.Registrar
	down atomic.Bool // the application
	stop func() error
}

func start(t *testing.T, servers ...string) *subject {
	t.Helper()
	s := &subject{}
	port := uint32(9000)
	r, err := registration.New(registration.Config{
		Servers: servers, Namespace: "shop", Service: "payments", ID: "p1",
		Spec: catalog.EndpointSpec{Address: "10.0.0.1", Port: &port}, Lease: 150 * time.Millisecond,
		Check: func(context.Context) error {
			if s.down.Load() {
				return errors.New("down")
			}
			return nil
		},
		Interval: 10 * time.Millisecond, Rand: rand.Uint64, Log: hclog.NewNullLogger(),
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Registrar = r
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := r.Run(ctx)
		done <- err
	}()
	s.stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() { _ = s.stop() })
	return s
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestRegistersRenewsAndLeaves(t *testing.T) {
	p := newPlane(t)
	s := start(t, p.URL)
	eventually(t, "three registrations", func() bool { return len(p.requests()) >= 3 })
	for _, request := range p.requests() {
		if want := "PUT /api/v1/namespaces/shop/services/payments/endpoints/p1?lease=150ms"; request != want {
			t.Errorf("asked %s, want %s", request, want)
		}
	}
	if got := s.Status(); !got.Registered || got.Check != "passing" || got.Renewed == nil || got.Address != "10.0.0.1:9000" {
		t.Errorf("status %+v", got)
	}
	if err := s.stop(); err != nil {
		t.Errorf("Run = %v, want nil", err)
	}
	if p.has() {
		t.Error("the endpoint is still there after the end")
	}
	if last := p.requests(); !strings.HasPrefix(last[len(last)-1], "DELETE ") {
		t.Errorf("last request %s, want the removal", last[len(last)-1])
	}
}

func TestADeadApplicationIsTakenOutAndComesBack(t *testing.T) {
	p := newPlane(t)
	s := start(t, p.URL)
	eventually(t, "registered", p.has)
	s.down.Store(true)
	eventually(t, "taken out", func() bool { return !p.has() })
	eventually(t, "known as such", func() bool { got := s.Status(); return !got.Registered && got.Check == "failing: down" })
	s.down.Store(false)
	eventually(t, "back", p.has)
}

func TestAControlPlaneThatIsGoneIsAskedAgain(t *testing.T) {
	p := newPlane(t)
	p.answer(http.StatusServiceUnavailable)
	s := start(t, p.URL)
	eventually(t, "two attempts", func() bool { return len(p.requests()) >= 2 })
	if got := s.Status(); got.Registered || got.Error == "" {
		t.Errorf("status %+v, want an error", got)
	}
	p.answer(0)
	eventually(t, "registered", func() bool { return p.has() && s.Status().Registered && s.Status().Error == "" })
	p.forget() // such as a store that was put back
	eventually(t, "registered anew", p.has)
}

func TestAnotherServerIsAskedAtOnce(t *testing.T) {
	gone := ports.Closed()
	sick, well := newPlane(t), newPlane(t)
	sick.answer(http.StatusInternalServerError)
	start(t, "http://"+gone, sick.URL, well.URL)
	eventually(t, "registered with the third", well.has)
	if n := len(sick.requests()); n != 1 {
		t.Errorf("the second was asked %d times, want once", n)
	}
}

func TestARefusalIsNotCarriedAround(t *testing.T) {
	first, second := newPlane(t), newPlane(t)
	first.answer(http.StatusConflict)
	s := start(t, first.URL, second.URL)
	eventually(t, "refused", func() bool { return strings.Contains(s.Status().Error, "Conflict") })
	if n := len(second.requests()); n != 0 {
		t.Errorf("the second was asked %d times after a refusal by the first, want never", n)
	}
}

func TestLeavingIsTriedWithinReason(t *testing.T) {
	p := newPlane(t)
	s := start(t, p.URL)
	eventually(t, "registered", p.has)
	p.answer(http.StatusServiceUnavailable)
	begun := time.Now()
	if err := s.stop(); err == nil {
		t.Error("Run = nil though the endpoint could not be taken out")
	}
	if took := time.Since(begun); took > 12*time.Second {
		t.Errorf("leaving took %v", took)
	}
}

func TestParseCheck(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/sick" {
			w.WriteHeader(http.StatusInternalServerError)
		} else if r.URL.Path == "/moved" {
			http.Redirect(w, r, "/", http.StatusFound)
		}
	}))
	defer server.Close()
	address := strings.TrimPrefix(server.URL, "http://")
	closed := ports.Closed()
	for text, passes := range map[string]bool{
		"tcp://" + address: true, server.URL + "/": true, server.URL + "/sick": false, server.URL + "/moved": false,
		"tcp://" + closed: false, "http://" + closed + "/": false,
	} {
		check, err := registration.ParseCheck(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if err := check(ctx); (err == nil) != passes {
			t.Errorf("%s = %v, want it to pass: %v", text, err, passes)
		}
		cancel()
	}
	for _, text := range []string{"", "http://", "http://host/", "ftp://host:1/", "tcp://host:1/path", "host:1", "tcp://:80", "https://host:1/"} {
		if _, err := registration.ParseCheck(text); err == nil {
			t.Errorf("ParseCheck(%q) succeeded, want an error", text)
		}
	}
}

// TestAnApplicationThatNeverAnswered was not in use, so nothing of it is taken out.
func TestAnApplicationThatNeverAnswered(t *testing.T) {
	p := newPlane(t)
	var log bytes.Buffer
	port := uint32(9000)
	r, err := registration.New(registration.Config{
		Servers: []string{p.URL}, Namespace: "shop", Service: "payments", ID: "p1",
		Spec: catalog.EndpointSpec{Address: "10.0.0.1", Port: &port}, Lease: time.Minute,
		Check:    func(context.Context) error { return errors.New("down") },
		Interval: time.Millisecond, Rand: rand.Uint64, Log: hclog.New(&hclog.LoggerOptions{Output: &log}),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	var left bool
	go func() {
		left, err = r.Run(ctx)
		close(done)
	}()
	eventually(t, "what an earlier agent left is removed", func() bool { return len(p.requests()) > 0 })
	cancel()
	<-done
	if left || err != nil || !strings.Contains(log.String(), "does not answer yet") || strings.Contains(log.String(), "taken out") {
		t.Errorf("left %v, %v; logged %s", left, err, log.String())
	}
}
