package apiserver_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/apiserver"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// A policy in quarantine says so, with the reason and what holds in its place; the conditions of all others are as they were.
func TestStatusTellsOfQuarantine(t *testing.T) {
	var list []world.Quarantined
	f := newFixture(t, func(c *apiserver.Config) { c.Quarantined = func() []world.Quarantined { return list } })
	f.apply(service("payments", "") + doc("shop", "p", "to: {service: payments}, timeout: {request: 1s}") +
		guardrail("shop", "p", `to: {service: payments}, bounds: [{field: limits.maxRequests, max: 50}]`))
	q := world.Quarantined{
		Kind: policy.Kind, Key: manifest.Key{Namespace: "shop", Name: "p"}, Generation: 1,
		Service: manifest.Key{Namespace: "shop", Name: "payments"}, Caller: manifest.Key{Namespace: "shop", Name: "orders"}, Err: errors.New("panic: seeded"),
	}
	list = []world.Quarantined{q}
	const text = "generation 1 can't be built for calls of shop/orders to shop/payments (panic: seeded): nothing of it holds there"
	for _, kind := range []string{api.Effective, api.Programmed} {
		if status, message := f.condition("p", kind); status != "False Quarantined" || message != text {
			t.Errorf("%s is %s (%s), want False Quarantined (%s)", kind, status, message, text)
		}
	}
	if status, _ := f.condition("p", api.Accepted); status != "True Valid" {
		t.Errorf("Accepted is %s, want True Valid: it is stored", status)
	}
	for _, path := range []string{guardrails + "/p", policies} { // of the same name; and a list
		body := f.want(http.StatusOK, "GET", path, "").body
		if quarantined := strings.Contains(body, "Quarantined"); quarantined != (path == policies) {
			t.Errorf("%s tells of a quarantine: %v", path, quarantined)
		}
	}
	list = append(list, q) // for another caller
	list[0].Revision, list[1].Revision = 1, 1
	for revision, want := range map[int64]api.DeliveryState{1: api.DeliveryQuarantined, 2: api.DeliveryUnconcerned} {
		d := parse[api.Delivery](t, f.want(http.StatusOK, "GET", api.DeliveryFor(api.DeliveryQuery{Revision: revision, Wait: time.Minute}), ""))
		if told := d.Message == "Policy shop/p: "+text; d.State != want || told != (revision == 1) || len(d.Quarantined) > 1 {
			t.Errorf("delivery of revision %d is %+v, want %s", revision, d, want)
		}
	}
	f.apply(doc("shop", "p", "to: {service: payments}, timeout: {request: 2s}"))
	if status, _ := f.condition("p", api.Effective); status != "True Effective" {
		t.Errorf("the next generation is %s, want True Effective", status)
	}
}
