package apiserver_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/apiserver"
	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/store"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// fixture is a server over a store in memory.
type fixture struct {
	t       testing.TB
	kv      *store.Memory
	worlds  *worlds
	handler http.Handler
}

func newFixture(t testing.TB, change ...func(*apiserver.Config)) *fixture {
	t.Helper()
	f := &fixture{t: t, kv: store.NewMemory(store.Limits{MaxOps: 4096, MaxBytes: 16 << 20})}
	f.worlds = &worlds{kv: f.kv}
	clock := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	c := apiserver.Config{KV: f.kv, Worlds: f.worlds, Version: "test", Now: func() time.Time { return clock }, ReadWait: 50 * time.Millisecond}
	for _, edit := range change {
		edit(&c)
	}
	f.handler = apiserver.New(c)
	return f
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

// worlds reads the whole store whenever it is asked for a world.
type worlds struct {
	kv *store.Memory

	mu   sync.Mutex
	last *world.World // guarded by mu
}

func (w *worlds) World() *world.World {
	w.mu.Lock()
	defer w.mu.Unlock()
	snap, err := w.kv.List(context.Background(), store.ConfigPrefix)
	if err != nil || w.last != nil && w.last.Rev == snap.Revision {
		return w.last
	}
	w.last = (&world.World{}).With(snap.Revision, decodeAll(snap.Entries))
	return w.last
}

func (w *worlds) Wait(ctx context.Context, revision int64) error {
	for {
		if now := w.World(); now != nil && now.Rev >= revision {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}

func decodeAll(entries []store.Entry) world.Changes {
	c := world.Changes{
		Policies: map[manifest.Key]*policy.Compiled{}, Services: map[manifest.Key]*catalog.Service{},
		Endpoints: map[world.EndpointKey]*catalog.Endpoint{}, Hosts: map[string]*manifest.Key{},
	}
	for _, e := range entries {
		k, _ := store.ParseConfigKey(e.Key)
		key := manifest.Key{Namespace: k.Namespace, Name: k.Name}
		switch k.Kind {
		case store.Policies:
			if o, err := manifest.DecodeStored[policy.Spec](e.Value); err == nil {
				o.Metadata.Revision = e.Revision
				c.Policies[key] = policy.Compile(o)
			}
		case store.Services:
			if o, err := manifest.DecodeStored[catalog.ServiceSpec](e.Value); err == nil {
				o.Metadata.Revision = e.Revision
				c.Services[key] = o
			}
		case store.Endpoints:
			id := world.EndpointKey{Service: key, ID: k.ID}
			if endpoint, err := world.DecodeEndpoint(id, e.Value); err == nil {
				c.Endpoints[id] = endpoint
			}
		case store.Hosts:
			if owner, err := world.DecodeHost(e.Value); err == nil {
				c.Hosts[k.Name] = &owner
			}
		}
	}
	return c
}
