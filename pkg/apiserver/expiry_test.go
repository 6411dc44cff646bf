package apiserver_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/apiserver"
	"github.com/breakwater-mesh/breakwater/pkg/store"
)

// until is a policy that ends in that time.
func until(name string, in time.Duration) string {
	return doc("shop", name, fmt.Sprintf("to: {service: payments}, precedence: %d, timeout: {request: 3s}, expiresAt: '%s'", len(name), time.Now().Add(in).UTC().Format(time.RFC3339)))
}

// expiring runs f with a server and an expiry over kv, where that is not nil, on a clock of the test's own.
func expiring(t *testing.T, wrap func(store.KV) store.KV, f func(*fixture)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, func(c *apiserver.Config) { c.Now = nil })
		fx.apply(service("payments", ""))
		c := apiserver.Config{KV: fx.kv, Worlds: fx.loop}
		if wrap != nil {
			c.KV = wrap(fx.kv)
		}
		run(t, apiserver.NewExpiry(c).Run)
		f(fx)
	})
}

// tombstone is the last record of a policy's history.
type tombstone struct {
	Generation int64
	Deleted    bool
	At         time.Time
	By, Why    string
}

func (f *fixture) last(name string) (t tombstone, generations int) {
	f.t.Helper()
	snap, err := f.kv.List(f.t.Context(), store.HistoryPrefix(store.Policies, "shop", name))
	if err != nil || len(snap.Entries) == 0 {
		f.t.Fatalf("history of %s: %d entries, %v", name, len(snap.Entries), err)
	}
	if err := json.Unmarshal(snap.Entries[len(snap.Entries)-1].Value, &t); err != nil {
		f.t.Fatal(err)
	}
	return t, len(snap.Entries)
}

func (f *fixture) has(want bool, names ...string) {
	f.t.Helper()
	for _, name := range names {
		if got := f.do("GET", policies+"/"+name, "").status == http.StatusOK; got != want {
			f.t.Errorf("%v: policy %s is there: %v, want %v", time.Now(), name, got, want)
		}
	}
}

func TestAPolicyIsRemovedWhenItExpires(t *testing.T) {
	expiring(t, nil, func(f *fixture) {
		f.apply(until("a", time.Hour) + until("bb", 3*time.Hour) + doc("shop", "ccc", "to: {service: payments}, precedence: 9, timeout: {request: 3s}"))
		time.Sleep(time.Hour - time.Second)
		f.has(true, "a", "bb", "ccc")
		due := time.Now().Add(time.Second)
		time.Sleep(2 * time.Second)
		f.has(false, "a")
		f.has(true, "bb", "ccc")
		got, n := f.last("a")
		if n != 2 || !got.Deleted || got.Generation != 2 || got.By != apiserver.ExpiryAuthor || !strings.Contains(got.Why, due.UTC().Format(time.RFC3339)) || got.At.Sub(due) > time.Second {
			t.Errorf("the history of %d ends with %+v; want the tombstone of who removed it, why, and when: at %v", n, got, due)
		}
	})
}

// counting counts what is asked of a store.
type counting struct {
	store.KV
	calls atomic.Int32
}

func (c *counting) Get(ctx context.Context, key string) (store.Entry, error) {
	c.calls.Add(1)
	return c.KV.Get(ctx, key)
}

func (c *counting) List(ctx context.Context, prefix string) (store.Snapshot, error) {
	c.calls.Add(1)
	return c.KV.List(ctx, prefix)
}

func (c *counting) Commit(ctx context.Context, txn store.Txn) (int64, error) {
	c.calls.Add(1)
	return c.KV.Commit(ctx, txn)
}

func TestExpiryAsksTheStoreOnlyForWhatIsDue(t *testing.T) {
	kv := &counting{}
	expiring(t, func(under store.KV) store.KV { kv.KV = under; return kv }, func(f *fixture) {
		f.apply(until("a", 10*time.Hour))
		time.Sleep(9 * time.Hour)
		if n := kv.calls.Load(); n != 0 {
			t.Errorf("%d requests before anything was due, want none", n)
		}
		f.apply(until("bb", time.Minute)) // sooner than what it waits for
		time.Sleep(time.Minute + time.Second)
		f.has(false, "bb")
		if n := kv.calls.Load(); n != 2 {
			t.Errorf("%d requests for one removal, want one read and one write", n)
		}
	})
}

// TestAPolicyThatWasGivenMoreTimeStays: the edit comes between the moment in which the policy was found to be due, and its removal.
func TestAPolicyThatWasGivenMoreTimeStays(t *testing.T) {
	for name, late := range map[string]bool{"before it is read": false, "before it is written": true} {
		t.Run(name, func(t *testing.T) {
			var f *fixture
			edit := func() { f.apply(until("a", 2*time.Hour)) }
			expiring(t, func(under store.KV) store.KV { return &overtaken{KV: under, late: late, by: edit} }, func(fx *fixture) {
				f = fx
				f.apply(until("a", time.Hour))
				time.Sleep(time.Hour + time.Minute)
				f.has(true, "a")
				if got, n := f.last("a"); n != 2 || got.Deleted {
					t.Errorf("after the edit the history of %d ends with %+v", n, got)
				}
				time.Sleep(2 * time.Hour)
				f.has(false, "a")
			})
		})
	}
}

// overtaken is a store in which somebody else is faster, once.
type overtaken struct {
	store.KV
	late bool
	done atomic.Bool
	by   func()
}

func (o *overtaken) first(now bool) {
	if now && !o.done.Swap(true) {
		o.by()
	}
}

func (o *overtaken) Get(ctx context.Context, key string) (store.Entry, error) {
	o.first(!o.late)
	return o.KV.Get(ctx, key)
}

func (o *overtaken) Commit(ctx context.Context, txn store.Txn) (int64, error) {
	o.first(o.late)
	return o.KV.Commit(ctx, txn)
}

func TestExpiryWaitsForAStoreThatFails(t *testing.T) {
	kv := &counting{}
	expiring(t, func(under store.KV) store.KV { kv.KV = under; return kv }, func(f *fixture) {
		f.apply(until("a", time.Minute))
		f.kv.Fail(errors.New("gone"))
		time.Sleep(time.Hour)
		if n := kv.calls.Load(); n < 20 || n > 150 {
			t.Errorf("%d attempts in an hour, want one every half to whole minute", n)
		}
		f.kv.Fail(nil)
		time.Sleep(2 * time.Minute)
		f.has(false, "a")
	})
}

func TestAReplicaThatStartsRemovesWhatIsOverdue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, func(c *apiserver.Config) { c.Now = nil })
		f.apply(service("payments", "") + until("a", time.Minute) + until("bb", time.Minute))
		time.Sleep(time.Hour)
		f.has(true, "a", "bb")
		run(t, apiserver.NewExpiry(apiserver.Config{KV: f.kv, Worlds: f.loop}).Run)
		time.Sleep(time.Millisecond)
		f.has(false, "a", "bb")
	})
}

func TestWritesOfAPolicyThatIsOver(t *testing.T) {
	expiring(t, nil, func(f *fixture) {
		past := parse[api.Problem](t, f.want(http.StatusUnprocessableEntity, "POST", api.ApplyPath, until("a", -time.Minute)))
		if len(past.Errors) != 1 || past.Errors[0].Field != "spec.expiresAt" || !strings.Contains(past.Errors[0].Message, "is past: it is "+time.Now().UTC().Format(time.RFC3339)+"; write a later time") {
			t.Errorf("a time that is past: %+v", past.Errors)
		}
		manifest := until("a", time.Hour)
		f.apply(manifest)
		time.Sleep(2 * time.Hour)
		f.has(false, "a")

		again := f.apply(manifest)
		if len(again.Results) != 1 || again.Results[0].Action != api.Unchanged || len(again.Warnings) != 1 ||
			!strings.Contains(again.Warnings[0].Message, "the policy was removed at") || !strings.Contains(again.Warnings[0].Message, apiserver.ExpiryAuthor) {
			t.Errorf("the same manifest again: %+v, want unchanged and a warning that says what happened", again)
		}
		f.has(false, "a")
		one := parse[api.Problem](t, f.want(http.StatusUnprocessableEntity, "PUT", policies+"/a", manifest))
		if len(one.Errors) != 1 || !strings.Contains(one.Errors[0].Message, "the policy was removed at") {
			t.Errorf("the same by PUT: %+v", one.Errors)
		}
		edited := strings.Replace(manifest, "3s", "4s", 1)
		f.want(http.StatusUnprocessableEntity, "POST", api.ApplyPath, edited)
		f.apply(strings.Replace(until("a", time.Hour), "3s", "4s", 1))
		f.has(true, "a")
		if got, _ := f.last("a"); got.Generation != 3 {
			t.Errorf("it came back as generation %d, want 3", got.Generation)
		}
	})
}

// TestAnExpiredPolicyThatIsStillThere: no replica has come to remove it yet.
func TestAnExpiredPolicyThatIsStillThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, func(c *apiserver.Config) { c.Now = nil })
		manifest := service("payments", "") + until("a", time.Minute)
		f.apply(manifest)
		time.Sleep(time.Hour)
		again := f.apply(manifest)
		if len(again.Warnings) != 1 || !strings.Contains(again.Warnings[0].Message, "is about to be removed") {
			t.Errorf("applied again: %+v, want a warning that it is about to be removed", again)
		}
	})
}

func TestWhenAPolicyExpiresIsShown(t *testing.T) {
	f := newFixture(t)
	f.apply(service("payments", "") + doc("shop", "p", simple+", expiresAt: 2026-12-01T00:00:00Z"))
	const at = `"expiresAt":"2026-12-01T00:00:00Z"`
	for _, path := range []string{policies + "/p", policies + "/p/status", services + "/payments/effective"} {
		if got := f.want(http.StatusOK, "GET", path, "").body; !strings.Contains(strings.ReplaceAll(got, " ", ""), at) {
			t.Errorf("%s does not say when it expires: %s", path, got)
		}
	}
}
