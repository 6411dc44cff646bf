package apiserver_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/apiserver"
	"github.com/breakwater-mesh/breakwater/pkg/envoy"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// ledger is a book in which every delivery has come equally far.
type ledger struct {
	mu      sync.Mutex
	proxies []api.ProxyDelivery // of every delivery
	changed chan struct{}
}

func (l *ledger) Proxies() []api.Proxy { return nil }

func (l *ledger) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	return l.changed
}

func (l *ledger) Look() apiserver.Fleet {
	l.mu.Lock()
	defer l.mu.Unlock()
	return page(append([]api.ProxyDelivery(nil), l.proxies...))
}

// set replaces what is in the book.
func (l *ledger) set(list ...api.ProxyDelivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.proxies = list
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

type page []api.ProxyDelivery

func (p page) Revision(rev int64, _ bool) api.Delivery {
	d := api.Delivery{Revision: rev, World: rev, Proxies: append([]api.ProxyDelivery(nil), p...)}
	for _, one := range p {
		if one.State == api.DeliveryAcked {
			d.Acked++
		}
	}
	d.Sum()
	return d
}

func (p page) Object(context.Context, string, manifest.Key, bool) (api.Delivery, error) {
	d := p.Revision(1, true)
	d.World = 1000
	return d, nil
}

func at(id string, state api.DeliveryState) api.ProxyDelivery {
	return api.ProxyDelivery{ID: id, Namespace: "shop", Service: "orders", Dialect: "envoy", Profile: "sidecar", Version: "1.40.0", State: state}
}

func no(id string, state api.DeliveryState) api.ProxyDelivery {
	p := at(id, state)
	p.Rejected = []api.Refused{{Type: "CDS", Name: "shop/payments", Message: "no such policy"}}
	return p
}

func TestDeliveryInWords(t *testing.T) {
	book := &ledger{}
	f := newFixture(t, func(c *apiserver.Config) { c.Book = book })
	f.apply(service("payments", "") + doc("shop", "p", "to: {service: payments}, timeout: {request: 2s}"))
	many := []api.ProxyDelivery{}
	for i := range 120 {
		many = append(many, at(fmt.Sprintf("o%03d", i), api.DeliveryPending))
	}
	for name, tt := range map[string]struct {
		proxies          []api.ProxyDelivery
		state            api.DeliveryState
		message          string
		programmed       string
		named, concerned int
	}{
		"nobody":     {nil, "unconcerned", "no connected proxy makes calls that it concerns", "Unknown NoProxies", 0, 0},
		"all":        {[]api.ProxyDelivery{at("a", "acked"), at("b", "acked")}, "acked", "acked by 2 of 2 connected proxies", "True Acked", 0, 2},
		"waiting":    {[]api.ProxyDelivery{at("c", "joining"), at("a", "acked"), at("b", "pending")}, "pending", "1 acked; waiting for b, c", "False Pending", 2, 3},
		"offline":    {[]api.ProxyDelivery{at("a", "acked"), at("b", "offline")}, "acked", "acked by 1 of 1 connected proxies", "True Acked", 1, 1},
		"rejected":   {[]api.ProxyDelivery{at("b", "pending"), no("c", "rejected"), at("a", "acked")}, "rejected", "1 acked, 1 pending; c rejected cluster shop/payments: no such policy", "False Rejected", 2, 3},
		"superseded": {[]api.ProxyDelivery{no("c", "superseded"), at("a", "acked")}, "superseded", "1 acked, 0 pending; c rejected a newer cluster shop/payments: no such policy", "False Rejected", 1, 2},
		"many":       {many, "pending", "0 acked; waiting for o000, o001, o002, o003, o004, 115 more", "False Pending", 100, 120},
	} {
		book.set(tt.proxies...)
		d := parse[api.Delivery](t, f.want(http.StatusOK, "GET", api.DeliveryFor(api.DeliveryQuery{Revision: 1}), ""))
		if d.State != tt.state || d.Message != tt.message || len(d.Proxies) != tt.named || d.Concerned != tt.concerned || d.Revision != 1 {
			t.Errorf("%s: got %+v, want %+v", name, d, tt)
		}
		if d.More != len(tt.proxies)-d.Acked-tt.named {
			t.Errorf("%s: %d more, want %d", name, d.More, len(tt.proxies)-d.Acked-tt.named)
		}
		if all := parse[api.Delivery](t, f.want(http.StatusOK, "GET", api.DeliveryFor(api.DeliveryQuery{Revision: 1, All: true}), "")); len(all.Proxies) != len(tt.proxies) {
			t.Errorf("%s: all are %d, want %d", name, len(all.Proxies), len(tt.proxies))
		}
		got, message := f.condition("p", api.Programmed)
		if got != tt.programmed || message != tt.message {
			t.Errorf("%s: Programmed is %s (%s), want %s (%s)", name, got, message, tt.programmed, tt.message)
		}
	}
}

// A policy of which a dialect enforces nothing is not waited for there, and nobody is told that it is in force.
func TestWhoEnforcesNothingOfAPolicy(t *testing.T) {
	book := &ledger{}
	f := newFixture(t, func(c *apiserver.Config) {
		c.Book = book
		c.Classes = func() map[world.ClassKey]int {
			return map[world.ClassKey]int{{Profile: "sidecar", Tier: "1.40"}: 1, {Dialect: "grpc", Profile: "grpc", Tier: envoy.Tier("")}: 1}
		}
	})
	f.apply(service("payments", "") + doc("shop", "p", "to: {service: payments}, healthCheck: {http: {path: /}, interval: 5s}") + doc("shop", "q", "to: {service: payments}, timeout: {request: 2s}") +
		doc("shop", "alone", "to: {service: payments}, hedge: {onPerTryTimeout: true}") + doc("shop", "judge", "to: {service: payments}, failureCriteria: {http: {statuses: [5xx]}}"))
	program := at("g", "acked")
	program.Profile, program.Dialect = "grpc", "grpc"
	book.set(at("a", "acked"), program)
	// Where there is nothing to hedge with, nothing is hedged; an Envoy holds it all the same, and another policy may bring a retry.
	for name, want := range map[string]int{"p": 1, "q": 0, "alone": 1, "judge": 1} {
		s := parse[api.StatusResponse](t, f.want(http.StatusOK, "GET", api.StatusPath(api.Policies, "shop", name), ""))
		d := s.Delivery
		if d == nil || d.Unsupported != want || d.Acked != 2-want || d.Revision != s.Revision || d.State != "acked" {
			t.Errorf("%s: delivery %+v, want %d unsupported", name, d, want)
		}
		if want == 1 && !strings.HasSuffix(d.Message, "; 1 can't enforce any of it") {
			t.Errorf("the message is %q, want it to say that 1 can't", d.Message)
		}
		for _, of := range parse[api.DeliveryList](t, f.want(http.StatusOK, "GET", api.DeliveriesPath, "")).Items {
			if of.Name == name && (of.Delivery.Unsupported != want || of.Delivery.Acked != 2-want) {
				t.Errorf("%s among all: delivery %+v, want %d unsupported", name, of.Delivery, want)
			}
		}
	}
	book.set(program)
	for _, p := range parse[api.PolicyList](t, f.want(http.StatusOK, "GET", api.ListPath(api.Policies, "shop"), "")).Items {
		want := api.Unknown
		if p.Metadata.Name == "q" {
			want = api.True
		}
		if c := p.Status.Conditions[len(p.Status.Conditions)-1]; c.Type != api.Programmed || c.Status != want {
			t.Errorf("%s in the list: %+v, want Programmed %s", p.Metadata.Name, c, want)
		}
	}
}

func TestStatusOfEveryKindHasTheDelivery(t *testing.T) {
	book := &ledger{}
	f := newFixture(t, func(c *apiserver.Config) { c.Book = book })
	f.apply(service("payments", "") + doc("shop", "p", simple) + guardrail("shop", "g", "to: {service: payments}, bounds: [{field: timeout.request, max: 5s}]"))
	book.set(at("a", "acked"))
	for plural, name := range map[string]string{api.Policies: "p", api.Guardrails: "g", api.Services: "payments"} {
		s := parse[api.StatusResponse](t, f.want(http.StatusOK, "GET", api.StatusPath(plural, "shop", name), ""))
		if s.Delivery == nil || s.Delivery.Acked != 1 || s.Conditions[len(s.Conditions)-1].Type != api.Programmed {
			t.Errorf("%s: %+v, want its delivery", plural, s)
		}
	}
	f = newFixture(t)
	f.apply(service("payments", ""))
	s := parse[api.StatusResponse](t, f.want(http.StatusOK, "GET", api.StatusPath(api.Services, "shop", "payments"), ""))
	if s.Delivery != nil {
		t.Errorf("without a book the delivery is %+v, want none", s.Delivery)
	}
}

// A wait is answered by the event that it waits for, by its end, or by the server's.
func TestDeliveryIsWaitedFor(t *testing.T) {
	book := &ledger{}
	stopping := make(chan struct{})
	f := newFixture(t, func(c *apiserver.Config) { c.Book, c.Stopping = book, stopping })
	f.apply(service("payments", ""))
	ask := func(q api.DeliveryQuery) (answer chan api.Delivery) {
		answer = make(chan api.Delivery, 1)
		q.Revision = 1
		go func() {
			r := f.do("GET", api.DeliveryFor(q), "")
			answer <- parse[api.Delivery](t, r)
		}()
		return answer
	}
	pends := func(answer chan api.Delivery, when string) {
		t.Helper()
		select {
		case d := <-answer:
			t.Fatalf("%s: answered %+v, want it to wait", when, d)
		case <-time.After(30 * time.Millisecond):
		}
	}
	book.set(at("a", "pending"))
	answer := ask(api.DeliveryQuery{Wait: time.Minute})
	pends(answer, "pending")
	book.set(at("a", "joining"))
	pends(answer, "joining")
	book.set(at("a", "acked"))
	if d := <-answer; d.State != "acked" {
		t.Errorf("answered %+v, want acked", d)
	}
	answer = ask(api.DeliveryQuery{Wait: time.Minute, MinAcked: 2})
	pends(answer, "one of two")
	book.set(at("a", "acked"), at("b", "acked"))
	if d := <-answer; d.Acked != 2 {
		t.Errorf("answered %+v, want 2 acked", d)
	}
	answer = ask(api.DeliveryQuery{Wait: time.Minute, MinAcked: 9})
	book.set(at("a", "acked"), no("b", "rejected"))
	if d := <-answer; d.State != "rejected" {
		t.Errorf("answered %+v, want rejected at once", d)
	}
	book.set(at("a", "pending"))
	if d := <-ask(api.DeliveryQuery{Wait: 10 * time.Millisecond}); d.State != "pending" {
		t.Errorf("answered %+v, want pending when time is over", d)
	}
	answer = ask(api.DeliveryQuery{Wait: time.Minute})
	pends(answer, "pending")
	close(stopping)
	if d := <-answer; d.State != "pending" {
		t.Errorf("answered %+v, want pending when the server stops", d)
	}
}

// What replicas say of their proxies becomes one answer: a proxy that has moved counts once, as the replica with its newest stream has it.
func TestDeliveriesOfReplicasMerge(t *testing.T) {
	since := func(p api.ProxyDelivery, minute int) api.ProxyDelivery {
		at := time.Date(2026, 11, 23, 12, minute, 0, 0, time.UTC)
		p.Connected, p.Since = &at, &at
		return p
	}
	one := page{at("a", "acked"), at("b", "offline"), since(at("c", "offline"), 1), at("d", "pending"), since(at("e", "pending"), 1), since(at("f", "acked"), 3)}.Revision(7, true)
	two := page{at("b", "acked"), since(at("c", "offline"), 2), since(at("e", "acked"), 2), since(no("f", "rejected"), 2)}.Revision(7, true)
	two.World, two.Unreachable = 9, []api.Unreachable{{Replica: "cp-3", Address: "10.0.0.3:8080", Reason: "connection refused"}}
	d := api.MergeDeliveries(one, two)
	d.Tell(10, false)
	if d.Acked != 4 || d.Offline != 1 || d.Pending != 1 || d.Rejected != 0 || d.Concerned != 5 || d.World != 7 || d.State != "pending" || len(d.Proxies) != 2 || d.Proxies[1].Since.Minute() != 2 {
		t.Errorf("merged to %+v, want b acked, c offline once, e and f acked once", d)
	}
	if want := "4 acked; waiting for d; no answer from replica cp-3 at 10.0.0.3:8080 (connection refused)"; d.Message != want {
		t.Errorf("message %q, want %q", d.Message, want)
	}
	all := api.MergeDeliveries(page{at("a", "acked")}.Revision(7, true), two, two)
	if all.Rejected != 1 || all.Acked != 3 {
		t.Errorf("%+v: want f rejected once", all)
	}
	quiet := api.MergeDeliveries(page{at("a", "acked")}.Revision(7, true), api.Delivery{World: 7, Unreachable: two.Unreachable})
	quiet.Tell(10, false)
	if want := "1 acked; no answer from replica cp-3 at 10.0.0.3:8080 (connection refused)"; quiet.State != "pending" || quiet.Done(0) || quiet.Message != want {
		t.Errorf("%+v is done though a replica gave no answer, or does not say so", quiet)
	}
	heard := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	early, late := api.Delivery{World: 7, Stale: &heard}, api.Delivery{World: 7, Stale: new(heard.Add(time.Minute))}
	deaf := api.MergeDeliveries(page{at("a", "acked")}.Revision(7, true), late, early)
	deaf.Tell(10, false)
	if want := "acked by 1 of 1 connected proxies; the store was last heard at 2026-11-23T12:00:00Z"; deaf.Stale == nil || !deaf.Stale.Equal(heard) || deaf.Message != want {
		t.Errorf("stale %v, message %q; want %v, %q", deaf.Stale, deaf.Message, heard, want)
	}
}
