package apiserver_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/apiserver"
	"github.com/breakwater-mesh/breakwater/pkg/reconcile"
	"github.com/breakwater-mesh/breakwater/pkg/store"
)

const leased = services + "/payments/endpoints/"

// live is the entry of an agent's sign of life.
func (f *fixture) live(id string) store.Entry {
	f.t.Helper()
	e, err := f.kv.Get(f.t.Context(), store.LiveKey("shop", "payments", id))
	if err != nil {
		f.t.Fatal(err)
	}
	return e
}

// lose ends the lease of an endpoint, as its silence does.
func (f *fixture) lose(id string) {
	f.t.Helper()
	if err := f.kv.Revoke(f.t.Context(), f.live(id).Lease); err != nil {
		f.t.Fatal(err)
	}
}

// state waits until an endpoint is answered in a state.
func (f *fixture) state(id, want string) api.Endpoint {
	f.t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		e := parse[api.Endpoint](f.t, f.want(http.StatusOK, "GET", leased+id, ""))
		if e.State == want {
			return e
		}
		if time.Now().After(deadline) {
			f.t.Fatalf("endpoint %s is %q, want %q", id, e.State, want)
		}
	}
}

func TestLeasedEndpointIsRegisteredAndRenewed(t *testing.T) {
	f := newFixture(t)
	f.apply(service("payments", ""))
	body := "{address: 10.0.0.1, weight: 3}"
	e := parse[api.Endpoint](t, f.want(http.StatusCreated, "PUT", leased+"a?lease=60s", body))
	if e.Lease != "1m" || e.State != api.StateLive || e.Since != nil {
		t.Errorf("answer %+v, want a live endpoint with a lease of 1m", e)
	}
	if f.live("a").Lease == 0 {
		t.Fatal("no leased sign of life in the store")
	}
	f.state("a", api.StateLive)
	before := f.revision()
	for range 3 {
		f.want(http.StatusOK, "PUT", leased+"a?lease=60s", body)
	}
	if after := f.revision(); after != before {
		t.Errorf("renewals moved the store from revision %d to %d", before, after)
	}
	old := f.live("a").Lease
	f.want(http.StatusOK, "PUT", leased+"a?lease=30s", body)
	if f.live("a").Lease == old {
		t.Error("another length kept the old lease")
	}
	f.want(http.StatusOK, "PUT", leased+"a?lease=30s", "{address: 10.0.0.1, weight: 4}")
	if got := f.state("a", api.StateLive); *got.Spec.Weight != 4 || got.Lease != "30s" {
		t.Errorf("after an edit %+v, want weight 4 and a lease of 30s", got)
	}
	list := parse[api.EndpointList](t, f.want(http.StatusOK, "GET", services+"/payments/endpoints", ""))
	if len(list.Items) != 1 || list.Items[0].State != api.StateLive {
		t.Errorf("list %+v, want one live endpoint", list.Items)
	}
	// What was read can be written again, with its lease.
	read := f.want(http.StatusOK, "GET", leased+"a", "").body
	f.want(http.StatusOK, "PUT", leased+"a?lease=30s", read)
}

func TestLostLeaseIsMadeAnew(t *testing.T) {
	f := newFixture(t)
	f.apply(service("payments", ""))
	f.want(http.StatusCreated, "PUT", leased+"a?lease=60s", "{address: 10.0.0.1}")
	f.lose("a")
	f.state("a", api.StateUnheard)
	f.want(http.StatusOK, "PUT", leased+"a?lease=60s", "{address: 10.0.0.1}")
	f.state("a", api.StateLive)
	f.lose("a") // and at once, before this replica has seen it
	f.want(http.StatusOK, "PUT", leased+"a?lease=60s", "{address: 10.0.0.1}")
	if f.live("a").Lease == 0 {
		t.Error("a renewal of a lease that was gone left no sign of life")
	}
	// A backup of the store from before the registration is put back.
	snap, err := f.kv.List(t.Context(), "/")
	if err != nil {
		t.Fatal(err)
	}
	var kept []store.Entry
	for _, e := range snap.Entries {
		if !strings.Contains(e.Key, "/endpoints/") && !strings.HasPrefix(e.Key, store.LivePrefix) {
			kept = append(kept, e)
		}
	}
	f.kv.Restore(2, 5, kept)
	for deadline := time.Now().Add(10 * time.Second); f.do("GET", leased+"a", "").status != http.StatusNotFound; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the restored store still shows the endpoint")
		}
	}
	f.want(http.StatusCreated, "PUT", leased+"a?lease=60s", "{address: 10.0.0.1}")
	f.state("a", api.StateLive)
}

func TestRemovalTakesTheSignOfLifeAlong(t *testing.T) {
	f := newFixture(t)
	f.apply(service("payments", ""))
	f.want(http.StatusCreated, "PUT", leased+"a?lease=60s", "{address: 10.0.0.1}")
	lease := f.live("a").Lease
	f.want(http.StatusOK, "DELETE", leased+"a", "")
	if e := f.live("a"); e.Revision != 0 {
		t.Errorf("the sign of life is still there: %+v", e)
	}
	if err := f.kv.Renew(t.Context(), lease); !errors.Is(err, store.ErrConflict) {
		t.Errorf("the lease of a removed endpoint is renewed: %v", err)
	}
	f.want(http.StatusNotFound, "DELETE", leased+"a", "")
	f.want(http.StatusCreated, "PUT", leased+"a?lease=60s", "{address: 10.0.0.1}")
}

func TestByHandEndsTheLease(t *testing.T) {
	f := newFixture(t)
	f.apply(service("payments", ""))
	f.want(http.StatusCreated, "PUT", leased+"a?lease=60s", "{address: 10.0.0.1}")
	e := parse[api.Endpoint](t, f.want(http.StatusOK, "PUT", leased+"a", "{address: 10.0.0.1}"))
	if e.Lease != "" || e.State != "" || f.live("a").Revision != 0 {
		t.Errorf("answer %+v, want an endpoint without a lease, and no sign of life", e)
	}
	f.want(http.StatusOK, "PUT", leased+"a?lease=60s", "{address: 10.0.0.1}")
	f.state("a", api.StateLive)
}

func TestASuccessorTakesTheAddressOfTheSilent(t *testing.T) {
	f := newFixture(t)
	f.apply(service("payments", ""))
	f.want(http.StatusCreated, "PUT", leased+"old?lease=60s", "{address: 10.0.0.1}")
	p := parse[api.Problem](t, f.want(http.StatusConflict, "PUT", leased+"new?lease=60s", "{address: 10.0.0.1}"))
	if p.Type != api.EndpointConflict || len(p.Conflicts) != 1 || p.Conflicts[0].Name != "payments/old" {
		t.Errorf("problem %+v, want a conflict with the endpoint that is heard", p)
	}
	if f.live("new").Revision != 0 {
		t.Error("a refused registration left a sign of life")
	}
	f.lose("old")
	f.want(http.StatusCreated, "PUT", leased+"new?lease=60s", "{address: 10.0.0.1}")
	f.want(http.StatusNotFound, "GET", leased+"old", "")
	f.state("new", api.StateLive)

	f.want(http.StatusCreated, "PUT", leased+"hand", "{address: 10.0.0.2}")
	f.want(http.StatusConflict, "PUT", leased+"other?lease=60s", "{address: 10.0.0.2}")
}

func TestLeaseWithoutAStore(t *testing.T) {
	f := newFixture(t)
	f.apply(service("payments", ""))
	f.want(http.StatusCreated, "PUT", leased+"a?lease=60s", "{address: 10.0.0.1}")
	f.state("a", api.StateLive)
	f.kv.Fail(errors.New("no quorum"))
	r := f.want(http.StatusServiceUnavailable, "PUT", leased+"a?lease=60s", "{address: 10.0.0.1}")
	if r.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	f.want(http.StatusServiceUnavailable, "DELETE", leased+"a", "")
	f.kv.Fail(nil)
	f.want(http.StatusOK, "PUT", leased+"a?lease=60s", "{address: 10.0.0.1}")
}

func TestAnyReplicaTakesARenewal(t *testing.T) {
	f := newFixture(t)
	f.apply(service("payments", ""))
	other := &fixture{t: t, kv: f.kv, loop: reconcile.New(f.kv, hclog.NewNullLogger(), nil)}
	run(t, other.loop.Run)
	if err := other.loop.Wait(t.Context(), f.revision()); err != nil {
		t.Fatal(err)
	}
	other.handler = apiserver.New(apiserver.Config{KV: f.kv, Worlds: other.loop, Version: "test"})
	for round := range 20 {
		one, two := f, other
		if round%2 == 1 {
			one, two = other, f
		}
		one.want(http.StatusCreated, "PUT", leased+"a?lease=60s", "{address: 10.0.0.1}")
		before := f.revision()
		two.want(http.StatusOK, "PUT", leased+"a?lease=60s", "{address: 10.0.0.1}") // perhaps it has not seen it yet
		if after := f.revision(); after != before {
			t.Errorf("a renewal at another replica moved the store from revision %d to %d", before, after)
		}
		two.want(http.StatusOK, "DELETE", leased+"a", "")
		if f.live("a").Revision != 0 {
			t.Error("a removal at another replica left the sign of life")
		}
	}
}
