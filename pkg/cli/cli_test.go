package cli_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/apiserver"
	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/cli"
	"github.com/breakwater-mesh/breakwater/pkg/client"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/reconcile"
	"github.com/breakwater-mesh/breakwater/pkg/store"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// TestMain lets scripts call bwctl: the test binary is it.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"bwctl": func() {
		os.Exit(cli.Run(context.Background(), cli.Env{
			Args: os.Args[1:], In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv, Version: "v0.0.0-test",
		}))
	}})
}

// TestScripts runs each script against a server of its own. "exit N bwctl ..." wants that exit code.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			server := startServer(env)
			env.Setenv("BREAKWATER_SERVER", server)
			env.Setenv("USER", "tester")
			env.Setenv("GORACE", "atexit_sleep_ms=0") // else every bwctl under the race detector ends with a nap of a second
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exit": wantExit, "lease": lease},
	})
}

func startServer(env *testscript.Env) string {
	kv := store.NewMemory(store.Limits{})
	loop := reconcile.New(kv, hclog.NewNullLogger(), nil)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = loop.Run(ctx) // it ends with the context
	}()
	clock := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	server := httptest.NewServer(apiserver.New(apiserver.Config{
		KV: kv, Worlds: loop, Book: book{}, Classes: classes, Ejected: ejected, Version: "v0.0.0-server", Now: func() time.Time { return clock },
		Held: held, Quarantined: quarantined,
	}))
	env.Defer(func() {
		server.Close()
		cancel()
		<-done
	})
	return server.URL
}

var (
	sidecars = world.ClassKey{Namespace: "shop", Service: "orders", Dialect: "envoy", Profile: "sidecar", Tier: "1.40", Outbound: "127.0.0.1:15001", Runtime: true}
	silent   = world.ClassKey{Namespace: "shop", Service: "web", Dialect: "envoy", Profile: "sidecar", Tier: "1.40", Outbound: "127.0.0.1:15001", Runtime: true}
	agents   = world.ClassKey{Namespace: "shop", Service: "orders", Dialect: "agent", Profile: "agent", Outbound: "127.0.0.1:15001"}
)

// classes has two sidecars and an agent of orders, and a sidecar of web.
func classes() map[world.ClassKey]int {
	return map[world.ClassKey]int{sidecars: 2, silent: 1, agents: 1}
}

// ejected is what one of the two says, and the agent; web's says nothing.
func ejected() map[world.ClassKey][]map[string]int {
	return map[world.ClassKey][]map[string]int{sidecars: {{"shop/billing": 1}, nil}, agents: {{"shop/billing": 2}}}
}

// quarantined is what revision 6 wrote.
func quarantined() []world.Quarantined {
	key := func(name string) manifest.Key { return manifest.Key{Namespace: "shop", Name: name} }
	return []world.Quarantined{{
		Kind: "Policy", Key: key("poison"), Generation: 3, Revision: 6, InForce: 2, Service: key("payments"), Caller: key("orders"), Err: errors.New("no such thing"),
	}}
}

// book has one proxy that rejected something.
type book struct{}

func (book) Proxies() []api.Proxy {
	return []api.Proxy{{
		ID: "orders-1", Namespace: "shop", Service: "orders", Dialect: "envoy", Version: "1.40.0", Profile: "sidecar", Address: "127.0.0.1:4711",
		Connected: time.Date(2026, 11, 23, 11, 0, 0, 0, time.UTC),
		Types: []api.ProxyType{
			{Type: "CDS", Subscribed: 3, Acked: 2, Pending: 1, Rejected: []api.Rejection{{Name: "shop/payments", Version: "ab", Message: "no such thing"}}},
			{Type: "RDS", Subscribed: 3, Acked: 3},
		},
		Ejected: map[string]int{"shop/payments": 1, "shop/billing": 2},
	}}
}

func (book) Changed() <-chan struct{} { return nil }

func (book) Look() apiserver.Fleet { return deliveries{} }

// deliveries are canned: of the revisions up to 6 each comes to another end, later ones have been accepted.
type deliveries struct{}

func (deliveries) Revision(rev int64, _ bool) api.Delivery {
	d := api.Delivery{Revision: rev, World: rev}
	proxy := func(id string, state api.DeliveryState) {
		p := api.ProxyDelivery{ID: id, Namespace: "shop", Service: "orders", State: state}
		switch state {
		case api.DeliveryAcked:
			d.Acked++
		case api.DeliveryPending:
			p.Waiting = []string{"CDS shop/payments"}
		case api.DeliveryRejected, api.DeliverySuperseded:
			p.Rejected = []api.Refused{{Type: "CDS", Name: "shop/payments", Message: "no such thing"}}
		}
		d.Proxies = append(d.Proxies, p)
	}
	states := map[int64][]api.DeliveryState{
		1: {}, 2: {api.DeliveryAcked, api.DeliveryPending}, 3: {api.DeliveryAcked, api.DeliveryRejected}, 4: {api.DeliverySuperseded}, 5: {api.DeliveryAcked, api.DeliveryOffline},
	}
	list, ok := states[rev]
	if !ok {
		list = []api.DeliveryState{api.DeliveryAcked, api.DeliveryAcked}
	}
	for i, state := range list {
		proxy(fmt.Sprint("orders-", i), state)
	}
	d.Sum()
	return d
}

func (d deliveries) Object(context.Context, string, manifest.Key, bool) (api.Delivery, error) {
	return d.Revision(100, false), nil
}

// held is what orders-1 holds: of its cluster not what it should. The other proxies that are known hold nothing.
func held(_ context.Context, id string, diff bool) (*api.ProxyConfig, error) {
	c := &api.ProxyConfig{ID: id, Resources: []api.ProxyResource{}}
	switch id {
	case "orders-1":
	case "web-1":
		return c, nil
	default:
		return nil, nil
	}
	cluster := api.ProxyResource{
		Type: "CDS", Name: "shop/payments", Version: "cd", Acked: "ab", State: api.DeliveryRejected, Policies: []string{"shop/p", "shop/q"},
		Rejected: &api.Refused{Type: "CDS", Name: "shop/payments", Version: "cd", Message: "no such thing"},
	}
	if !diff {
		routes := api.ProxyResource{Type: "RDS", Name: "shop/payments", Version: "ef", Acked: "ef", State: api.DeliveryAcked}
		c.Resources = append(c.Resources, cluster, routes)
		return c, nil
	}
	cluster.Lines = []api.DiffLine{{Path: "connect_timeout", Old: `"1s"`, Now: `"2s"`}}
	brought := api.ProxyResource{Type: "EDS", Name: "shop/payments", Version: "12", Acked: "34", State: api.DeliveryPending, Unknown: true}
	c.Resources = append(c.Resources, cluster, brought)
	return c, nil
}

// lease registers an endpoint of shop/SERVICE as its agent does: lease SERVICE ID ADDRESS.
func lease(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: lease SERVICE ID ADDRESS")
	}
	c, err := client.New(ts.Getenv("BREAKWATER_SERVER"))
	ts.Check(err)
	defer c.Close()
	_, err = c.LeaseEndpoint(context.Background(), "shop", args[0], args[1], catalog.EndpointSpec{Address: args[2]}, time.Minute)
	ts.Check(err)
}

// wantExit runs a command that must end with an exit code.
func wantExit(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exit CODE COMMAND...")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if exit, ok := err.(*exec.ExitError); ok {
		got = strings.TrimPrefix(exit.String(), "exit status ")
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != args[0] {
		ts.Fatalf("exit code %s, want %s", got, args[0])
	}
}
