package apiserver_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/apiserver"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/store"
)

const simple = "to: {service: payments}, timeout: {request: 3s}"

func TestStoreUnreachable(t *testing.T) {
	f := newFixture(t)
	f.apply(service("payments", "") + doc("shop", "p", simple))
	f.kv.Fail(errors.New("no quorum"))
	r := f.want(http.StatusServiceUnavailable, "PUT", policies+"/p", doc("shop", "p", strings.ReplaceAll(simple, "3s", "4s")))
	if r.header.Get("Retry-After") == "" || parse[api.Problem](t, r).Type != api.Unavailable {
		t.Errorf("headers %v, body %s, want Retry-After and type %s", r.header, r.body, api.Unavailable)
	}
	f.want(http.StatusOK, "GET", policies+"/p", "")
	f.kv.Fail(nil)
	f.wantFields("shop/payments", "", map[string]string{"timeout.request": "3s < shop/p (timeout.request)"})
}

func TestPreconditions(t *testing.T) {
	f := newFixture(t)
	f.apply(service("payments", ""))
	created := f.want(http.StatusCreated, "PUT", policies+"/p", doc("shop", "p", simple), "If-None-Match: *")
	tag := created.header.Get("ETag")
	edited := f.want(http.StatusOK, "PUT", policies+"/p", doc("shop", "p", strings.ReplaceAll(simple, "3s", "4s")), "If-Match: "+tag)
	stale := f.want(http.StatusPreconditionFailed, "PUT", policies+"/p", doc("shop", "p", simple), "If-Match: "+tag)
	now := parse[api.PolicyResponse](t, edited).Metadata
	if p := parse[api.Problem](t, stale); p.Revision != now.Revision {
		t.Errorf("the problem names revision %d, want the current %d", p.Revision, now.Revision)
	}
	f.want(http.StatusOK, "DELETE", policies+"/p", "", "If-Match: "+edited.header.Get("ETag"))
}

// rival writes to a key just before the first commit of the server under test.
type rival struct {
	store.KV
	once sync.Once
	key  string
	edit func([]byte) []byte
}

func (r *rival) Commit(ctx context.Context, txn store.Txn) (int64, error) {
	r.once.Do(func() {
		if e, err := r.Get(ctx, r.key); err == nil && e.Revision > 0 {
			_, _ = r.KV.Commit(ctx, store.Txn{Ops: []store.Op{{Key: r.key, Value: r.edit(e.Value)}}})
		}
	})
	return r.KV.Commit(ctx, txn)
}

func TestRaceWithAnotherWriter(t *testing.T) {
	for name, tt := range map[string]struct {
		match  bool
		status int
	}{"without If-Match the write is made again": {false, http.StatusOK}, "with If-Match it fails": {true, http.StatusPreconditionFailed}} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.apply(service("payments", ""))
			created := f.want(http.StatusCreated, "PUT", policies+"/p", doc("shop", "p", simple))
			r := &rival{KV: f.kv, key: store.PolicyKey("shop", "p"), edit: func(b []byte) []byte {
				return []byte(strings.ReplaceAll(string(b), "3s", "7s"))
			}}
			f.handler = apiserver.New(apiserver.Config{KV: r, Worlds: f.loop})
			var headers []string
			if tt.match {
				headers = append(headers, "If-Match: "+created.header.Get("ETag"))
			}
			f.want(tt.status, "PUT", policies+"/p", doc("shop", "p", strings.ReplaceAll(simple, "3s", "4s")), headers...)
		})
	}
}

func TestConcurrentWritersLoseNothing(t *testing.T) {
	f := newFixture(t)
	f.apply(service("payments", ""))
	const writers = 6
	var group sync.WaitGroup
	for i := range writers {
		group.Go(func() {
			r := f.do("PUT", fmt.Sprintf("%s/p%d", policies, i), doc("shop", fmt.Sprintf("p%d", i), fmt.Sprintf("to: {service: payments}, precedence: %d, timeout: {request: 3s}", i)))
			if r.status != http.StatusCreated {
				t.Errorf("writer %d: %d %s", i, r.status, r.body)
			}
		})
	}
	group.Wait()
	if list := parse[api.PolicyList](t, f.want(http.StatusOK, "GET", policies, "")); len(list.Items) != writers {
		t.Errorf("%d policies, want %d", len(list.Items), writers)
	}
}

func TestTooLargeForTheStore(t *testing.T) {
	f := newFixture(t)
	small := store.NewMemory(store.Limits{MaxOps: 8, OpsFlag: "--etcd-max-txn-ops"})
	f.handler = apiserver.New(apiserver.Config{KV: small, Worlds: f.loop})
	var text strings.Builder
	for i := range 5 {
		text.WriteString(service(fmt.Sprintf("s%d", i), ""))
	}
	p := parse[api.Problem](t, f.want(http.StatusRequestEntityTooLarge, "POST", api.ApplyPath, text.String()))
	if !strings.Contains(p.Detail, "--etcd-max-txn-ops") {
		t.Errorf("detail %q does not name the limit", p.Detail)
	}
	if snap, err := small.List(t.Context(), "/"); err != nil || len(snap.Entries) != 0 {
		t.Errorf("%d entries were written, %v", len(snap.Entries), err)
	}
}

func TestUnknownStoredFieldsSurvive(t *testing.T) {
	f := newFixture(t)
	f.apply(service("payments", "") + doc("shop", "p", simple))
	key := store.PolicyKey("shop", "p")
	e, err := f.kv.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	newer := strings.Replace(string(e.Value), `"request":"3s"`, `"request":"3s","fromTheFuture":{"x":1}`, 1)
	if newer == string(e.Value) {
		t.Fatalf("no place for an unknown field in %s", e.Value)
	}
	revision, err := f.kv.Commit(t.Context(), store.Txn{Ops: []store.Op{{Key: key, Value: []byte(newer)}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.loop.Wait(t.Context(), revision); err != nil {
		t.Fatal(err)
	}
	f.apply(doc("shop", "p", strings.ReplaceAll(simple, "3s", "4s")))
	if e, err = f.kv.Get(t.Context(), key); err != nil || !strings.Contains(string(e.Value), `"fromTheFuture":{"x":1}`) || !strings.Contains(string(e.Value), "4s") {
		t.Errorf("stored after an edit: %s, %v", e.Value, err)
	}
}

func TestHistory(t *testing.T) {
	f := newFixture(t)
	f.apply(service("payments", ""))
	f.want(http.StatusCreated, "PUT", policies+"/p", doc("shop", "p", simple), "X-Breakwater-Actor: alice", "X-Breakwater-Reason: slow payments")
	f.want(http.StatusOK, "DELETE", policies+"/p", "", "X-Breakwater-Actor: bob")
	snap, err := f.kv.List(t.Context(), store.HistoryPrefix(store.Policies, "shop", "p"))
	if err != nil || len(snap.Entries) != 2 {
		t.Fatalf("%d generations in the history, %v, want 2", len(snap.Entries), err)
	}
	var first, second struct {
		Generation int64
		Deleted    bool
		By, Why    string
		Object     *manifest.Object[any]
	}
	for i, record := range []any{&first, &second} {
		if err := json.Unmarshal(snap.Entries[i].Value, record); err != nil {
			t.Fatal(err)
		}
	}
	if first.Generation != 1 || first.By != "alice" || first.Why != "slow payments" || first.Object == nil || first.Object.Metadata.Name != "p" {
		t.Errorf("first generation: %s", snap.Entries[0].Value)
	}
	if second.Generation != 2 || !second.Deleted || second.By != "bob" || second.Object != nil {
		t.Errorf("tombstone: %s", snap.Entries[1].Value)
	}
}

func TestHistoryIsTrimmed(t *testing.T) {
	f := newFixture(t, func(c *apiserver.Config) { c.HistoryKept = 20 })
	f.apply(service("payments", ""))
	for i := range 45 {
		f.apply(doc("shop", "p", fmt.Sprintf("to: {service: payments}, timeout: {request: %ds}", i+1)))
	}
	snap, err := f.kv.List(t.Context(), store.HistoryPrefix(store.Policies, "shop", "p"))
	if n := len(snap.Entries); err != nil || n < 20 || n >= 30 {
		t.Errorf("%d generations are kept, %v, want 20 to 29", n, err)
	}
	if last := snap.Entries[len(snap.Entries)-1].Key; !strings.HasSuffix(last, "0000000045") {
		t.Errorf("the last generation is %s, want 45", last)
	}
}

func TestReadAtRevision(t *testing.T) {
	f := newFixture(t)
	result := f.apply(service("payments", ""))
	at := fmt.Sprintf("?revision=%d", result.Revision)
	f.want(http.StatusOK, "GET", services+"/payments"+at, "")
	late := parse[api.Problem](t, f.want(http.StatusGatewayTimeout, "GET", fmt.Sprintf("%s?revision=%d", services, result.Revision+1), ""))
	if late.Type != api.Late || late.Revision != result.Revision {
		t.Errorf("problem %+v, want %s at revision %d", late, api.Late, result.Revision)
	}
}

// TestRacesAreShownInConditions writes behind the API's back what the API would have refused, as two replicas at once could.
func TestRacesAreShownInConditions(t *testing.T) {
	f := newFixture(t)
	f.apply(service("payments", "") + doc("shop", "a", simple) + doc("shop", "b", "to: {service: payments}, retry: {numRetries: 1}"))
	f.smuggle("b", `"spec":{"to":{"service":"payments"},"timeout":{"request":"9s"}}`)
	for _, name := range []string{"a", "b"} {
		if status, message := f.condition(name, api.Effective); status != "False Conflicted" {
			t.Errorf("Effective of %s is %s (%s), want False Conflicted", name, status, message)
		}
	}
	f.apply(doc("shop", "b", "to: {service: payments}, from: {service: orders}, retry: {numRetries: 1}"))
	f.smuggle("b", `"spec":{"to":{"service":"payments"},"from":{"service":"orders"},"timeout":{"perTry":"9s"}}`)
	if status, message := f.condition("a", api.Effective); status != "False InvalidMerge" {
		t.Errorf("Effective of a is %s (%s), want False InvalidMerge", status, message)
	}
}

// smuggle writes another spec into a stored policy.
func (f *fixture) smuggle(name, spec string) {
	f.t.Helper()
	key := store.PolicyKey("shop", name)
	e, err := f.kv.Get(f.t.Context(), key)
	if err != nil {
		f.t.Fatal(err)
	}
	head, _, _ := strings.Cut(string(e.Value), `"spec":`)
	revision, err := f.kv.Commit(f.t.Context(), store.Txn{Ops: []store.Op{{Key: key, Value: []byte(head + spec + "}")}}})
	if err != nil {
		f.t.Fatal(err)
	}
	if err := f.loop.Wait(f.t.Context(), revision); err != nil {
		f.t.Fatal(err)
	}
}
