package apiserver_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/apiserver"
	registry "github.com/breakwater-mesh/breakwater/pkg/fleet"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// crew is replicas over one store in memory, each with an API on a port of its own and a book that the test writes.
type crew struct {
	*fixture
	books   []*roster
	servers []*httptest.Server
	fleets  []*registry.Registry
	stops   []func() // of the registries
}

// roster is a ledger that names its proxies too.
type roster struct {
	roll
	classes map[world.ClassKey]int
	ejected map[world.ClassKey][]map[string]int
}

func newCrew(t *testing.T, n int) *crew {
	c := &crew{fixture: newFixture(t)}
	for i := range n {
		book := &roster{}
		server := httptest.NewUnstartedServer(nil)
		peers := registry.New(registry.Config{KV: c.kv, Self: api.Replica{ID: string(rune('a' + i)), Address: server.Listener.Addr().String()}})
		server.Config.Handler = apiserver.New(apiserver.Config{
			KV: c.kv, Worlds: c.loop, Book: book, Peers: peers, PeerWait: 300 * time.Millisecond, ReadWait: 200 * time.Millisecond,
			Classes: func() map[world.ClassKey]int { return book.classes },
			Ejected: func() map[world.ClassKey][]map[string]int { return book.ejected },
			Held: func(_ context.Context, id string, _ bool) (*api.ProxyConfig, error) {
				for _, p := range book.Proxies() {
					if p.ID == id {
						return &api.ProxyConfig{ID: peers.Self().ID + " has " + id}, nil
					}
				}
				return nil, nil
			},
		})
		server.Start()
		t.Cleanup(server.Close)
		ctx, stop := context.WithCancel(t.Context())
		run(t, func(context.Context) error { return peers.Run(ctx) })
		t.Cleanup(stop)
		<-peers.Joined()
		c.books, c.fleets, c.servers = append(c.books, book), append(c.fleets, peers), append(c.servers, server)
		c.stops = append(c.stops, stop)
	}
	for _, f := range c.fleets {
		meets(f, n-1)
	}
	return c
}

// meets waits until f knows so many others.
func meets(f *registry.Registry, others int) {
	for {
		changed := f.Changed()
		if len(f.Others()) >= others {
			return
		}
		<-changed
	}
}

// ask asks replica i.
func (c *crew) ask(i, status int, path string) reply {
	c.t.Helper()
	one := &fixture{t: c.t, handler: c.servers[i].Config.Handler}
	return one.want(status, "GET", path, "")
}

func (c *crew) delivery(i int, wait time.Duration) api.Delivery {
	c.t.Helper()
	return parse[api.Delivery](c.t, c.ask(i, 200, api.DeliveryFor(api.DeliveryQuery{Revision: 1, Wait: wait, All: true})))
}

func connected(id string, minute int) api.Proxy {
	return api.Proxy{ID: id, Namespace: "shop", Service: "orders", Dialect: "envoy", Types: []api.ProxyType{}, Connected: time.Date(2026, 11, 23, 12, minute, 0, 0, time.UTC)}
}

// Every replica says the same of all proxies, and each for itself alone where it is asked to.
func TestAnyReplicaAnswersForAll(t *testing.T) {
	c := newCrew(t, 3)
	c.apply(service("payments", "") + doc("shop", "p", "to: {service: payments}, timeout: {request: 2s}"))
	c.books[0].set(at("o1", "acked"), at("o2", "offline"))
	c.books[1].set(at("o2", "acked"))
	c.books[2].set(at("o3", "pending"))
	c.books[0].connect(connected("o1", 1), connected("o2", 1))
	c.books[1].connect(connected("o2", 2))
	status := api.StatusPath(api.Policies, "shop", "p")
	for i := range 3 {
		if d := c.delivery(i, 0); d.State != "pending" || d.Acked != 2 || d.Offline != 0 || len(d.Proxies) != 3 || d.Proxies[0].ID != "o3" || d.Proxies[0].Replica != "c" {
			t.Errorf("replica %d answers %+v", i, d)
		}
		if got := parse[api.PolicyList](t, c.ask(i, 200, api.ListPath(api.Policies, "shop"))).Items[0].Status.Conditions[3]; got.Status != api.False || got.Message != "2 acked; waiting for o3" {
			t.Errorf("replica %d lists %+v", i, got)
		}
		if got := parse[api.StatusResponse](t, c.ask(i, 200, status)); got.Delivery.Message != "2 acked; waiting for o3" || got.Conditions[3].Reason != "Pending" {
			t.Errorf("replica %d answers %+v", i, got)
		}
		list := parse[api.ProxyList](t, c.ask(i, 200, api.ProxiesPath))
		if len(list.Items) != 2 || list.Items[0].Replica != "a" || list.Items[1].Replica != "b" {
			t.Errorf("replica %d lists %+v", i, list)
		}
		if p := parse[api.Proxy](t, c.ask(i, 200, api.ProxyPath("o2"))); p.Replica != "b" {
			t.Errorf("replica %d has o2 as %+v", i, p)
		}
		for id, want := range map[string]string{"o1": "a has o1", "o2": "b has o2"} {
			for _, path := range []string{api.ProxyConfigPath(id), api.ProxyDiffPath(id)} {
				if p := parse[api.ProxyConfig](t, c.ask(i, 200, path)); p.ID != want {
					t.Errorf("replica %d: %s is %+v, want %s", i, path, p, want)
				}
			}
		}
		c.ask(i, 404, api.ProxyPath("o9"))
		c.ask(i, 404, api.ProxyConfigPath("o9"))
		if got := parse[api.EffectiveResponse](t, c.ask(i, 200, api.EffectivePath("shop", "payments", api.EffectiveQuery{Proxy: "o2"}))); got.From != "shop/orders" {
			t.Errorf("replica %d finds the caller %q", i, got.From)
		}
		if got := parse[api.ReplicaList](t, c.ask(i, 200, api.ReplicasPath)); len(got.Items) != 3 || got.Items[i].ID != got.Self {
			t.Errorf("replica %d knows %+v", i, got)
		}
	}
	if d := parse[api.StatusResponse](t, c.ask(1, 200, api.OfReplica(status, "b"))).Delivery; d.Acked != 1 || len(d.Proxies) != 1 {
		t.Errorf("of its own proxies b says %+v", d)
	}
	for _, path := range []string{status, api.ProxiesPath, api.ProxyPath("o1"), api.ProxyDiffPath("o1"), api.ClassesPath, api.DeliveriesPath, api.DeliveryFor(api.DeliveryQuery{Revision: 1})} {
		if p := parse[api.Problem](t, c.ask(1, http.StatusMisdirectedRequest, api.OfReplica(path, "a"))); p.Type != api.Misdirected {
			t.Errorf("%s: %+v", path, p)
		}
	}
}

// A wait ends when the proxies of all replicas have it, at once where one rejects it, and not while a replica does not answer.
func TestWaitIsForAllReplicas(t *testing.T) {
	c := newCrew(t, 2)
	c.books[0].set(at("o1", "acked"))
	c.books[1].set(at("o2", "pending"))
	if d := c.delivery(0, 10*time.Millisecond); d.State != "pending" {
		t.Errorf("the other replica's proxy is pending: %+v", d)
	}
	answer := make(chan api.Delivery, 1)
	wait := func() { go func() { answer <- c.delivery(0, time.Minute) }() }
	wait()
	c.books[1].set(at("o2", "acked"))
	if d := <-answer; d.State != "acked" || d.Acked != 2 {
		t.Errorf("answered %+v, want two acked", d)
	}
	c.books[0].set(at("o1", "pending"))
	c.books[1].set(at("o2", "pending"))
	wait()
	c.books[1].set(no("o2", "rejected"))
	if d := <-answer; d.State != "rejected" || !strings.Contains(d.Message, "o2 rejected cluster") {
		t.Errorf("answered %+v, want rejected", d)
	}

	c.books[0].set(at("o1", "acked"))
	c.servers[1].Close()
	d := c.delivery(0, 50*time.Millisecond)
	if d.State != "pending" || len(d.Unreachable) != 1 || d.Unreachable[0].Replica != "b" || d.Unreachable[0].Reason != "connection refused" {
		t.Errorf("answered %+v, want that b does not answer", d)
	}
	if p := parse[api.Problem](t, c.ask(0, 503, api.ProxyPath("o2"))); !strings.Contains(p.Detail, "no answer from replica b") {
		t.Errorf("nobody knows where o2 is: %+v", p)
	}
	if list := parse[api.ProxyList](t, c.ask(0, 200, api.ProxiesPath)); len(list.Unreachable) != 1 {
		t.Errorf("the list is not whole, and does not say so: %+v", list)
	}
	wait()
	c.stops[1]()
	if d := <-answer; d.State != "acked" || len(d.Unreachable) != 0 {
		t.Errorf("answered %+v, want acked once b is gone", d)
	}
}

// A replica that is slow, or not of our kind, is named with the reason, and holds nobody up for long.
func TestSilentReplicasAreNamed(t *testing.T) {
	c := newCrew(t, 1)
	hang := make(chan struct{})
	for id, answers := range map[string]http.HandlerFunc{
		"slow": func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-hang:
			case <-r.Context().Done():
			}
		},
		"old": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(422)
			_, _ = w.Write([]byte(`{"status":422,"title":"Invalid","detail":"unknown parameter"}`))
		},
		"noise": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) },
	} {
		server := httptest.NewServer(answers)
		t.Cleanup(server.Close)
		run(t, registry.New(registry.Config{KV: c.kv, Self: api.Replica{ID: id, Address: server.Listener.Addr().String()}}).Run)
	}
	t.Cleanup(func() { close(hang) })
	meets(c.fleets[0], 3)
	c.books[0].set(at("o1", "acked"))
	d := c.delivery(0, 0)
	got := map[string]string{}
	for _, u := range d.Unreachable {
		got[u.Replica] = u.Reason
	}
	if d.State != "pending" || len(got) != 3 || got["slow"] != "it does not answer in time" || got["old"] != "unknown parameter" || !strings.Contains(got["noise"], "can't be read") {
		t.Errorf("answered %+v", d)
	}
}

// The answer to a write, and a list, count the proxies of all replicas, and are done with none that has not seen the write, or does not answer.
func TestConditionsAreOfAllReplicas(t *testing.T) {
	c := newCrew(t, 2)
	c.apply(service("payments", ""))
	c.books[0].set(at("o1", "acked"), at("o9", "offline"))
	c.books[1].set(at("o2", "acked"), at("o3", "acked"))
	put := func(seconds int) api.Condition {
		t.Helper()
		one := &fixture{t: t, handler: c.servers[0].Config.Handler}
		text := doc("shop", "p", fmt.Sprintf("to: {service: payments}, timeout: {request: %ds}", seconds))
		return parse[api.PolicyResponse](t, one.do("PUT", policies+"/p", text)).Status.Conditions[3]
	}
	listed := func() api.Condition {
		t.Helper()
		return parse[api.PolicyList](t, c.ask(0, 200, api.ListPath(api.Policies, ""))).Items[0].Status.Conditions[3]
	}
	for _, got := range []api.Condition{put(2), listed()} {
		if got.Status != api.True || got.Message != "acked by 3 of 3 connected proxies" {
			t.Errorf("%+v, want it acked by three", got)
		}
	}
	c.books[1].set(at("o2", "pending"), no("o3", "rejected"))
	for _, got := range []api.Condition{put(3), listed()} {
		if got.Reason != "Rejected" || got.Message != "1 acked, 1 pending; o3 rejected cluster shop/payments: no such policy" {
			t.Errorf("%+v, want it rejected by o3", got)
		}
	}
	many := []api.ProxyDelivery{}
	for i := range 120 {
		many = append(many, at(fmt.Sprintf("p%03d", i), api.DeliveryPending))
	}
	c.books[1].set(many...)
	if got := listed(); got.Message != "1 acked; waiting for p000, p001, p002, p003, p004, 115 more" {
		t.Errorf("%+v, want 120 waited for", got)
	}
	all := parse[api.DeliveryList](t, c.ask(0, 200, api.DeliveriesFor(api.DeliveriesQuery{Kind: "Policy", Name: "p"})))
	if len(all.Items) != 1 || all.Items[0].Delivery.Pending != 120 || len(all.Items[0].Delivery.Proxies) != 10 || all.Items[0].Delivery.More != 110 {
		t.Errorf("%+v, want p with ten of 120 named", all)
	}
	c.servers[1].Close()
	for _, got := range []api.Condition{put(4), listed()} {
		if got.Status != api.Unknown || got.Reason != "Unreachable" || !strings.Contains(got.Message, "1 acked; no answer from replica b") {
			t.Errorf("%+v, want that b does not answer", got)
		}
	}
}

// A replica that has not seen a write yet has delivered nothing of it.
func TestWhoHasNotSeenAWriteHasNotDeliveredIt(t *testing.T) {
	acked := api.Delivery{Revision: 7, World: 7, Acked: 2, Concerned: 2, State: api.DeliveryAcked}
	none := api.Delivery{Revision: 7, World: 7, State: api.DeliveryUnconcerned, Offline: 1, Proxies: []api.ProxyDelivery{at("moved", api.DeliveryOffline)}}
	before := api.Delivery{Revision: 5, World: 6, Acked: 1, Concerned: 1, State: api.DeliveryAcked}
	for name, tt := range map[string]struct {
		list []api.Delivery
		want api.DeliveryState
	}{
		"all":    {[]api.Delivery{acked, none, acked}, api.DeliveryAcked},
		"nobody": {[]api.Delivery{none, none}, api.DeliveryUnconcerned},
		"late":   {[]api.Delivery{acked, before}, api.DeliveryPending},
		"silent": {[]api.Delivery{acked, {World: 7, State: api.DeliveryUnconcerned, Unreachable: []api.Unreachable{{Replica: "b"}}}}, api.DeliveryPending},
		"worst":  {[]api.Delivery{acked, {Revision: 7, World: 7, State: api.DeliverySuperseded}, before}, api.DeliverySuperseded},
	} {
		if d := api.AddDeliveries(tt.list...); d.State != tt.want || d.Revision != 7 || len(d.Proxies) > 0 {
			t.Errorf("%s: %+v, want %s", name, d, tt.want)
		}
	}
}

var orders = world.ClassKey{Namespace: "shop", Service: "orders", Dialect: "envoy", Profile: "sidecar", Tier: "1.40", Outbound: "127.0.0.1:15001", Runtime: true}

// What a write does, and whether it is wide, is said of the proxies of all replicas. While one is silent nobody knows, and that is said.
func TestImpactIsOfAllReplicas(t *testing.T) {
	c := newCrew(t, 2)
	c.apply(depends("orders", "payments, billing") + depends("edge", "") + service("payments", "") + service("billing", ""))
	edge := orders
	edge.Service = "edge"
	c.books[0].classes = map[world.ClassKey]int{edge: 30, orders: 1}
	c.books[0].ejected = map[world.ClassKey][]map[string]int{orders: {{"shop/payments": 1}}}
	every := doc("shop", "p", `to: {service: "*"}, `+breaker)
	a := &fixture{t: t, handler: c.servers[0].Config.Handler}
	impact := func() *api.Impact {
		t.Helper()
		return parse[api.ApplyResult](t, a.want(200, "POST", api.ApplyPath+"?dryRun=true", every)).Impact
	}
	if i := impact(); i.Connected != 31 || i.Proxies != 1 || i.Wide {
		t.Errorf("%+v, want 1 of 31 proxies", i)
	}
	c.books[1].classes = map[world.ClassKey]int{orders: 4}
	c.books[1].ejected = map[world.ClassKey][]map[string]int{orders: {{"shop/payments": 2}, nil, {}, nil}}
	i := impact()
	if i.Connected != 35 || i.Proxies != 5 || !i.Wide || len(i.Unreachable) != 0 || i.Fidelity[0].Dialects[0].Proxies != 5 {
		t.Errorf("%+v, want 5 of 35 proxies, and wide", i)
	}
	if r := i.Rebuilt[1]; r.Cluster != "shop/payments" || r.Proxies != 5 || r.UnknownProxies != 2 || r.LiveEjections == nil || *r.LiveEjections != 3 {
		t.Errorf("%+v, want 3 live ejections of 5 proxies, 2 of them unknown", r)
	}
	if p := parse[api.Problem](t, a.want(422, "POST", api.ApplyPath, every)); !strings.Contains(p.Detail, "on 5 of 35 connected proxies:") {
		t.Errorf("%s, want it refused for 5 of 35", p.Detail)
	}
	list := parse[api.ClassList](t, c.ask(1, 200, api.ClassesPath))
	if len(list.Items) != 2 || list.Items[1].Proxies != 5 || list.Items[1].Reporting != 3 || list.Items[1].Ejected["shop/payments"] != 3 {
		t.Errorf("%+v, want both classes", list)
	}

	c.servers[1].Close()
	if i := impact(); !i.Wide || len(i.Unreachable) != 1 || i.Unreachable[0].Replica != "b" || i.Connected != 31 {
		t.Errorf("%+v, want that b does not answer", i)
	}
	p := parse[api.Problem](t, a.want(422, "POST", api.ApplyPath, every))
	if p.Type != api.TooWide || !strings.Contains(p.Detail, "on 1 of 31 connected proxies, and on an unknown number of those of replica b at ") {
		t.Errorf("%s, want that nobody knows", p.Detail)
	}
	c.books[0].classes = nil // nobody who answers has any
	if p := parse[api.Problem](t, a.want(422, "POST", api.ApplyPath, every)); !strings.Contains(p.Detail, "on 0 of 0 connected proxies, and on an unknown number") {
		t.Errorf("%s, want that nobody knows", p.Detail)
	}
	gentle := parse[api.ApplyResult](t, a.want(200, "POST", api.ApplyPath, doc("shop", "q", `to: {service: "*"}, timeout: {request: 1s}`)))
	if len(gentle.Warnings) != 1 || !strings.Contains(gentle.Warnings[0].Message, "how exactly proxies enforce it is not known of replica b at ") {
		t.Errorf("%+v, want that b was not asked", gentle.Warnings)
	}
	a.want(200, "POST", api.ApplyPath+"?wide=true", every)
	c.stops[1]()
	for len(impact().Unreachable) > 0 { // until its entry has gone
	}
}

// A watch tells of the proxies of all replicas, and how far things have come with them, from any replica.
func TestAWatchIsOfAllReplicas(t *testing.T) {
	c := newCrew(t, 2)
	c.apply(service("payments", "") + doc("shop", "p", simple))
	c.books[0].connect(connected("o1", 1), connected("o2", 1))
	c.books[1].connect(connected("o2", 2))
	c.books[1].set(at("o2", "pending"))
	all := []string{"put Proxy shop/o1", "put Proxy shop/o2", "put Policy Delivery shop/p", "synced proxies,delivery"}
	var streams []*stream
	for i := range 2 {
		s := watch(t, c.servers[i].URL, "?kinds=proxies,delivery", "")
		s.want("resync proxies,delivery: a new watch")
		s.want(all...)
		streams = append(streams, s)
	}
	c.books[1].connect(connected("o2", 2), connected("o3", 3))
	streams[0].want("put Proxy shop/o3")
	c.books[1].set(at("o2", "acked"))
	e := streams[0].want("put Policy Delivery shop/p")
	if !strings.Contains(string(e.Object), `"acked":1`) || !strings.Contains(string(e.Object), `"state":"acked"`) {
		t.Errorf("%s, want it acked", e.Object)
	}
	all = slices.Insert(all, 2, "put Proxy shop/o3")
	again := watch(t, c.servers[1].URL, "?kinds=proxies,delivery", streams[0].last)
	again.want("resync proxies,delivery: no id says what was told of these")
	again.want(all...)

	proxies := watch(t, c.servers[0].URL, "?kinds=proxies&namespace=shop", "")
	proxies.want("resync proxies: a new watch", "put Proxy shop/o1", "put Proxy shop/o2", "put Proxy shop/o3", "synced proxies")
	c.servers[1].CloseClientConnections()
	c.servers[1].Close()
	if e := proxies.want("put Unreachable /b"); !strings.Contains(string(e.Object), `"reason":"connection refused"`) {
		t.Errorf("%s, want the reason", e.Object)
	}
	c.books[0].connect(connected("o1", 1))
	c.stops[1]() // what it said last is told no more
	var rest []string
	for len(rest) < 3 {
		rest = append(rest, say(proxies.next()))
	}
	if got := strings.Join(rest, ", "); got != "delete Unreachable /b, delete Proxy shop/o2, delete Proxy shop/o3" {
		t.Errorf("once b is gone: %s", got)
	}
}
