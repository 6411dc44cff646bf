package apiserver_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/apiserver"
	registry "github.com/breakwater-mesh/breakwater/pkg/fleet"
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
	ledger
	connected []api.Proxy
}

func (r *roster) Proxies() []api.Proxy { return r.connected }

func newCrew(t *testing.T, n int) *crew {
	c := &crew{fixture: newFixture(t)}
	for i := range n {
		book := &roster{}
		server := httptest.NewUnstartedServer(nil)
		peers := registry.New(registry.Config{KV: c.kv, Self: api.Replica{ID: string(rune('a' + i)), Address: server.Listener.Addr().String()}})
		server.Config.Handler = apiserver.New(apiserver.Config{
			KV: c.kv, Worlds: c.loop, Book: book, Peers: peers, PeerWait: 300 * time.Millisecond, ReadWait: 200 * time.Millisecond,
			Held: func(_ context.Context, id string, _ bool) (*api.ProxyConfig, error) {
				for _, p := range book.connected {
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
	c.books[0].connected = []api.Proxy{connected("o1", 1), connected("o2", 1)}
	c.books[1].connected = []api.Proxy{connected("o2", 2)}
	status := api.StatusPath(api.Policies, "shop", "p")
	for i := range 3 {
		if d := c.delivery(i, 0); d.State != "pending" || d.Acked != 2 || d.Offline != 0 || len(d.Proxies) != 3 || d.Proxies[0].ID != "o3" || d.Proxies[0].Replica != "c" {
			t.Errorf("replica %d answers %+v", i, d)
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
	if got := parse[api.PolicyList](t, c.ask(1, 200, api.ListPath(api.Policies, "shop"))).Items[0].Status.Conditions[3]; got.Reason != "OneReplica" {
		t.Errorf("a list says %+v, want that it is of one replica", got)
	}
	for _, path := range []string{status, api.ProxiesPath, api.ProxyPath("o1"), api.ProxyDiffPath("o1"), api.DeliveryFor(api.DeliveryQuery{Revision: 1})} {
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
