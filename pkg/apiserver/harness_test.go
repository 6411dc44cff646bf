package apiserver_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/apiserver"
	"github.com/breakwater-mesh/breakwater/pkg/reconcile"
	"github.com/breakwater-mesh/breakwater/pkg/store"
)

// fixture is a server over a store in memory.
type fixture struct {
	t       testing.TB
	kv      *store.Memory
	loop    *reconcile.Loop
	handler http.Handler
}

func newFixture(t testing.TB, change ...func(*apiserver.Config)) *fixture {
	t.Helper()
	f := &fixture{t: t, kv: store.NewMemory(store.Limits{MaxOps: 4096, MaxBytes: 16 << 20, BytesFlag: "--max-bytes"})}
	f.loop = reconcile.New(f.kv, hclog.NewNullLogger(), nil)
	run(t, f.loop.Run)
	if err := f.loop.Wait(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	clock := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	c := apiserver.Config{
		KV: f.kv, Worlds: f.loop, Version: "test", Now: func() time.Time { return clock }, ReadWait: 200 * time.Millisecond,
		CatchUp: time.Minute, WriteLimit: time.Minute, // a large world takes its time under the race detector
	}
	for _, edit := range change {
		edit(&c)
	}
	f.handler = apiserver.New(c)
	return f
}

// run runs a part of the program until the test ends.
func run(t testing.TB, part func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = part(ctx) // it ends with the context
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
}

// reply is what the server answered.
type reply struct {
	status int
	header http.Header
	body   string
}

// do sends one request. Headers are "Name: value".
func (f *fixture) do(method, path, body string, headers ...string) reply {
	f.t.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	r := httptest.NewRequest(method, path, reader)
	r.Host = "127.0.0.1:8080"
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if name == "Host" {
			r.Host = value
		} else {
			r.Header.Add(name, value)
		}
	}
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, r)
	return reply{w.Code, w.Header(), w.Body.String()}
}

// want sends a request and fails the test if the status is another.
func (f *fixture) want(status int, method, path, body string, headers ...string) reply {
	f.t.Helper()
	got := f.do(method, path, body, headers...)
	if got.status != status {
		f.t.Fatalf("%s %s: status %d, want %d\n%s", method, path, got.status, status, got.body)
	}
	return got
}

func (f *fixture) apply(documents string) api.ApplyResult {
	f.t.Helper()
	return parse[api.ApplyResult](f.t, f.want(http.StatusOK, "POST", api.ApplyPath, documents))
}

// refused applies documents and returns the problem.
func (f *fixture) refused(status int, documents string) api.Problem {
	f.t.Helper()
	before := f.revision()
	p := parse[api.Problem](f.t, f.want(status, "POST", api.ApplyPath, documents))
	if after := f.revision(); after != before {
		f.t.Errorf("a refused apply moved the store from %d to %d", before, after)
	}
	return p
}

func (f *fixture) revision() int64 {
	f.t.Helper()
	snap, err := f.kv.List(f.t.Context(), "/")
	if err != nil {
		f.t.Fatal(err)
	}
	return snap.Revision
}

func parse[T any](t testing.TB, r reply) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(r.body), &v); err != nil {
		t.Fatalf("%v in\n%s", err, r.body)
	}
	return v
}
