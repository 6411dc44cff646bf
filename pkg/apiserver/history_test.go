package apiserver_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/apiserver"
	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/store"
)

// edits is the history of an object, the newest first, as "generation action by why changed".
func (f *fixture) edits(plural, name string) []string {
	f.t.Helper()
	h := parse[api.History](f.t, f.want(http.StatusOK, "GET", api.HistoryPath(plural, "shop", name), ""))
	var list []string
	for _, e := range h.Items {
		list = append(list, strings.TrimSpace(fmt.Sprintf("%d %s %s %s %s", e.Generation, e.Action, e.By, e.Why, strings.Join(e.Changed, ","))))
	}
	return list
}

func (f *fixture) wantEdits(plural, name string, want ...string) {
	f.t.Helper()
	if got := f.edits(plural, name); strings.Join(got, "\n") != strings.Join(want, "\n") {
		f.t.Errorf("the history of %s is\n%s\nwant\n%s", name, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func (f *fixture) rollBack(status int, plural, name string, generation int64, more string, headers ...string) reply {
	f.t.Helper()
	return f.want(status, "POST", api.RollbackPath(plural, "shop", name, generation)+more, "", headers...)
}

// An object's edits can be read, each as the object was, also when it is gone.
func TestEditsCanBeRead(t *testing.T) {
	f := newFixture(t)
	f.apply(service("payments", ""))
	f.want(http.StatusCreated, "PUT", policies+"/p", doc("shop", "p", simple), "X-Breakwater-Actor: ann", "X-Breakwater-Reason: new")
	f.want(http.StatusOK, "PUT", policies+"/p", doc("shop", "p", "to: {service: payments}, timeout: {request: 4s}, retry: {numRetries: 2}"), "X-Breakwater-Actor: bob")
	f.want(http.StatusOK, "DELETE", policies+"/p", "", "X-Breakwater-Actor: ann", "X-Breakwater-Reason: too slow")
	f.wantEdits(api.Policies, "p", "3 deleted ann too slow", "2 updated bob  spec.retry.numRetries,spec.timeout.request", "1 created ann new")

	current := f.want(http.StatusOK, "GET", services+"/payments", "").header.Get("ETag")
	if h := parse[api.History](t, f.want(http.StatusOK, "GET", api.HistoryPath(api.Services, "shop", "payments"), "")); h.Items[0].ETag() != current {
		t.Errorf("the last edit has the ETag %s, and the object %s", h.Items[0].ETag(), current)
	}
	old := parse[api.Past[policy.Spec]](t, f.want(http.StatusOK, "GET", api.GenerationPath(api.Policies, "shop", "p", 1), ""))
	if o := old.Object; o == nil || *o.Spec.Timeout.Request != "3s" || o.Metadata.Generation != 1 || o.Metadata.Revision != old.Revision || old.By != "ann" || old.Action != api.Created {
		t.Errorf("generation 1 was %+v", old)
	}
	if gone := parse[api.Past[policy.Spec]](t, f.want(http.StatusOK, "GET", api.GenerationPath(api.Policies, "shop", "p", 3), "")); gone.Object != nil || gone.Action != api.Deleted {
		t.Errorf("generation 3 was %+v, want a deletion", gone)
	}
	if s := parse[api.Past[catalog.ServiceSpec]](t, f.want(http.StatusOK, "GET", api.GenerationPath(api.Services, "shop", "payments", 1), "")); s.Object == nil || s.Object.Metadata.Name != "payments" {
		t.Errorf("the service was %+v", s)
	}
}

// A rollback is a write of its own: it has the next generation, an author and a reason, and what holds follows.
func TestRollback(t *testing.T) {
	f := newFixture(t)
	f.apply(service("payments", ""))
	f.apply(doc("shop", "p", simple))
	f.apply(doc("shop", "p", strings.ReplaceAll(simple, "3s", "4s")))
	r := parse[api.ApplyResult](t, f.rollBack(http.StatusOK, api.Policies, "p", 1, "", "X-Breakwater-Actor: ann"))
	if r.Results[0] != (api.Result{Kind: "Policy", Namespace: "shop", Name: "p", Action: api.Updated, Generation: 3}) {
		t.Errorf("results %+v", r.Results)
	}
	f.wantFields("shop/payments", "", map[string]string{"timeout.request": "3s < shop/p (timeout.request)"})
	f.wantEdits(api.Policies, "p", "3 updated ann rollback to generation 1 spec.timeout.request", "2 updated anonymous  spec.timeout.request", "1 created anonymous")

	before := f.revision()
	if r := parse[api.ApplyResult](t, f.rollBack(http.StatusOK, api.Policies, "p", 1, "")); r.Results[0].Action != api.Unchanged || f.revision() != before {
		t.Errorf("a rollback to what is there: %+v, and the store moved from %d to %d", r.Results, before, f.revision())
	}
	if r := parse[api.ApplyResult](t, f.rollBack(http.StatusOK, api.Policies, "p", 2, "&dryRun=true")); r.Results[0].Action != api.Updated || r.Impact == nil || f.revision() != before {
		t.Errorf("a dry run: %+v, and the store moved from %d to %d", r, before, f.revision())
	}
}

// What was deleted comes back as a new object of the name, with the labels and the hosts that it had.
func TestRollbackOfWhatWasDeleted(t *testing.T) {
	f := newFixture(t)
	f.apply(strings.Replace(service("payments", ", hosts: [pay.example]"), "name: payments", "name: payments, labels: {tier: back}", 1))
	first := f.want(http.StatusOK, "GET", services+"/payments", "").header.Get("ETag")
	f.want(http.StatusOK, "DELETE", services+"/payments", "")
	f.rollBack(http.StatusPreconditionFailed, api.Services, "payments", 1, "", "If-Match: "+first)
	f.rollBack(http.StatusOK, api.Services, "payments", 1, "", "If-None-Match: *")
	got := f.want(http.StatusOK, "GET", services+"/payments", "")
	s := parse[api.ServiceResponse](t, got)
	if s.Metadata.Labels["tier"] != "back" || s.Metadata.Generation != 3 || got.header.Get("ETag") == first {
		t.Errorf("it came back as %+v", s.Metadata)
	}
	if owner, ok := f.loop.World().HostOwner("pay.example"); !ok || owner.Name != "payments" {
		t.Errorf("pay.example belongs to %v", owner)
	}
	f.wantEdits(api.Services, "payments", "3 created anonymous rollback to generation 1", "2 deleted anonymous", "1 created anonymous")
}

// A rollback passes the checks of any write.
func TestRollbackIsCheckedAsAWrite(t *testing.T) {
	f := newFixture(t, withFleet(proxy("orders", "sidecar", "1.40.0")))
	f.apply(twoProtocols + doc("shop", "p", "to: {service: payments}, timeout: {request: 3s}, circuitBreaker: {scope: service}"))
	f.apply(doc("shop", "p", "to: {service: payments}, timeout: {connect: 1s}") + doc("shop", "q", "to: {service: payments}, timeout: {request: 4s}"))
	tag := f.want(http.StatusOK, "GET", policies+"/p", "").header.Get("ETag")
	if p := parse[api.Problem](t, f.rollBack(http.StatusConflict, api.Policies, "p", 1, "")); p.Type != api.PolicyConflict || p.Conflicts[0].Name != "q" {
		t.Errorf("problem %+v, want a conflict with q", p)
	}
	f.want(http.StatusOK, "DELETE", policies+"/q", "")
	if p := parse[api.Problem](t, f.rollBack(http.StatusUnprocessableEntity, api.Policies, "p", 1, "&requireExact=true")); p.Type != api.NotExact {
		t.Errorf("problem %+v, want %s", p, api.NotExact)
	}
	f.rollBack(http.StatusOK, api.Policies, "p", 1, "", "If-Match: "+tag)
	f.rollBack(http.StatusPreconditionFailed, api.Policies, "p", 2, "", "If-Match: "+tag)
}

// What a later version wrote into a generation comes back with it.
func TestRollbackKeepsWhatItDoesNotKnow(t *testing.T) {
	f := newFixture(t)
	f.apply(service("payments", "") + doc("shop", "p", simple))
	key := store.HistoryKey(store.Policies, "shop", "p", 1)
	e, err := f.kv.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	later := strings.Replace(string(e.Value), `"timeout":{`, `"timeout":{"later":"x",`, 1)
	if _, err := f.kv.Commit(t.Context(), store.Txn{Ops: []store.Op{{Key: key, Value: []byte(later)}}}); err != nil {
		t.Fatal(err)
	}
	f.apply(doc("shop", "p", "to: {service: payments}, timeout: {connect: 1s}"))
	f.rollBack(http.StatusOK, api.Policies, "p", 1, "")
	if e, err = f.kv.Get(t.Context(), store.PolicyKey("shop", "p")); err != nil || !strings.Contains(string(e.Value), `"later":"x"`) {
		t.Errorf("stored is %s, %v", e.Value, err)
	}
}

// A policy whose time is over does not come back by itself.
func TestRollbackOfAnExpiredPolicy(t *testing.T) {
	f := newFixture(t)
	f.apply(service("payments", "") + doc("shop", "p", simple+", expiresAt: 2026-11-23T13:00:00Z"))
	f.apply(doc("shop", "p", simple))
	f.handler = apiserver.New(apiserver.Config{KV: f.kv, Worlds: f.loop}) // whose clock has moved on
	p := parse[api.Problem](t, f.rollBack(http.StatusUnprocessableEntity, api.Policies, "p", 1, ""))
	if len(p.Errors) != 1 || p.Errors[0].Field != "spec.expiresAt" {
		t.Errorf("problem %+v, want a fault of spec.expiresAt", p)
	}
}

// One that was removed because of its expiresAt is no more written anew by a rollback than by an apply of its manifest.
func TestRollbackOfAPolicyThatExpired(t *testing.T) {
	f := newFixture(t)
	f.apply(service("payments", "") + doc("shop", "p", simple+", expiresAt: 2026-11-23T13:00:00Z"))
	f.want(http.StatusOK, "DELETE", policies+"/p", "", "X-Breakwater-Actor: "+apiserver.ExpiryAuthor)
	f.handler = apiserver.New(apiserver.Config{KV: f.kv, Worlds: f.loop}) // whose clock has moved on
	p := parse[api.Problem](t, f.rollBack(http.StatusUnprocessableEntity, api.Policies, "p", 1, ""))
	if len(p.Errors) != 1 || p.Errors[0].Field != "spec.expiresAt" || !strings.Contains(p.Errors[0].Message, "was removed at") {
		t.Errorf("problem %+v, want a fault of spec.expiresAt that says who removed it", p)
	}
	f.want(http.StatusNotFound, "GET", policies+"/p", "")
}

func TestHistoryWithoutAStore(t *testing.T) {
	f := newFixture(t)
	f.apply(service("payments", ""))
	f.kv.Fail(store.ErrUnavailable)
	f.want(http.StatusServiceUnavailable, "GET", api.HistoryPath(api.Services, "shop", "payments"), "")
	f.rollBack(http.StatusServiceUnavailable, api.Services, "payments", 1, "")
}
