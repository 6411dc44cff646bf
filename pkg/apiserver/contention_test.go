package apiserver_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/apiserver"
	"github.com/breakwater-mesh/breakwater/pkg/store"
)

// slow is a store that takes its time over a commit, as one that writes to disk does.
type slow struct {
	store.KV
	takes time.Duration
}

func (s slow) Commit(ctx context.Context, txn store.Txn) (int64, error) {
	pause, cancel := context.WithTimeout(ctx, s.takes)
	defer cancel()
	<-pause.Done()
	return s.KV.Commit(ctx, txn)
}

func TestEightWritersOfOneObject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.apply(service("payments", ""))
		f.handler = apiserver.New(apiserver.Config{KV: slow{f.kv, 4 * time.Millisecond}, Worlds: f.loop})
		const writers, writes = 8, 20
		var group sync.WaitGroup
		for i := range writers {
			group.Go(func() {
				for n := range writes {
					r := f.do("PUT", policies+"/p", doc("shop", "p", fmt.Sprintf("to: {service: payments}, timeout: {request: %dms}", 1+i*writes+n)))
					if r.status != http.StatusOK && r.status != http.StatusCreated {
						t.Errorf("writer %d, write %d: %d %s", i, n, r.status, r.body)
					}
				}
			})
		}
		group.Wait()
		p := parse[api.PolicyResponse](t, f.want(http.StatusOK, "GET", policies+"/p", ""))
		if p.Metadata.Generation != writers*writes {
			t.Errorf("the policy is at generation %d after %d writes", p.Metadata.Generation, writers*writes)
		}
	})
}

// contested is a store on which others are always faster.
type contested struct{ store.KV }

func (contested) Commit(context.Context, store.Txn) (int64, error) { return 0, store.ErrConflict }

func TestWriteThatIsAlwaysLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.apply(service("payments", ""))
		created := f.want(http.StatusCreated, "PUT", policies+"/p", doc("shop", "p", simple))
		f.handler = apiserver.New(apiserver.Config{KV: contested{f.kv}, Worlds: f.loop})
		begun := time.Now()
		body := doc("shop", "p", "to: {service: payments}, timeout: {request: 4s}")
		r := f.want(http.StatusServiceUnavailable, "PUT", policies+"/p", body)
		if took := time.Since(begun); took < 4*time.Second || took > 6*time.Second {
			t.Errorf("it gave up after %v, want the write limit of 5s", took)
		}
		if p := parse[api.Problem](t, r); r.header.Get("Retry-After") == "" || p.Type != api.Unavailable {
			t.Errorf("headers %v, problem %+v, want %s with Retry-After", r.header, p, api.Unavailable)
		}
		// What the precondition says still holds, so this is no 412 either.
		f.want(http.StatusServiceUnavailable, "PUT", policies+"/p", body, "If-Match: "+created.header.Get("ETag"))
	})
}
