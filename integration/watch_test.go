package integration_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	statusv3 "github.com/envoyproxy/go-control-plane/envoy/service/status/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/breakwater-mesh/breakwater/internal/testkit/program"
	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// front is one address before several control planes, as a load balancer is: new connections go to one of them, or nowhere.
type front struct {
	*httptest.Server
	to atomic.Pointer[url.URL] // nil: nowhere
}

func newFront(t *testing.T) *front {
	f := &front{}
	proxy := &httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(f.to.Load()) }}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.to.Load() == nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { f.CloseClientConnections(); f.Close() })
	return f
}

// lead leads to the API at address from now on, and cuts what is open.
func (f *front) lead(address string) {
	f.to.Store(nil)
	if address != "" {
		f.to.Store(&url.URL{Scheme: "http", Host: address})
	}
	f.CloseClientConnections()
}

// watching is a bwctl watch as a program of its own.
type watching struct {
	t      *testing.T
	events chan printed
}

// printed is an event as bwctl prints it.
type printed struct {
	Change api.Change `json:"change"`
	api.Watched
}

func bwctlWatch(t *testing.T, server string, kinds ...string) *watching {
	t.Helper()
	bwctl, err := program.Build("./cmd/bwctl")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), bwctl, append([]string{"--server", server, "-n", "shop", "watch", "-o", "json"}, kinds...)...)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	w := &watching{t: t, events: make(chan printed, 1000)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(w.events)
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var e printed
			if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
				t.Errorf("bwctl prints %q: %v", lines.Text(), err)
			}
			w.events <- e
		}
	}()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-done; _ = cmd.Wait() })
	return w
}

// until reads on to the event that is looked for, and returns all, in short.
func (w *watching) until(found func(printed) bool) []string {
	w.t.Helper()
	ctx := within(w.t, patience)
	var all []string
	for {
		select {
		case e, open := <-w.events:
			if !open {
				w.t.Fatalf("bwctl ended after %q", all)
			}
			all = append(all, strings.TrimSpace(strings.Join([]string{string(e.Change), e.Kind, e.Name, strings.Join(e.Kinds, ",")}, " ")))
			if found(e) {
				return all
			}
		case <-ctx.Done():
			w.t.Fatalf("not told in time; after %q", all)
		}
	}
}

// ackedBy tells of the delivery of p, in its newest form, that so many have it.
func ackedBy(n int, revision int64) func(printed) bool {
	return func(e printed) bool {
		var d api.Delivery
		return e.Kind == api.DeliveryKind && e.Name == "p" && json.Unmarshal(e.Object, &d) == nil && d.State == api.DeliveryAcked && d.Acked == n && d.Revision >= revision
	}
}

// What bwctl watches goes on at another replica after the last event that it has seen: of policies only what happened since, of proxies and
// deliveries all there is, wherever they are connected. The admin port's client status says of a proxy what the proxy itself says.
func TestWatchGoesOnAtAnotherReplica(t *testing.T) {
	t.Parallel()
	c := newCrew(t, 2)
	c.planes[0].service("payments", 1)
	c.planes[0].service("orders", 0)
	c.planes[0].apply(policyFor("gone", "payments", "retry: {numRetries: 1}"))
	first := c.edit(0, 2)
	orders := c.planes[0].envoy("orders")
	f := newFront(t)
	f.lead(c.planes[0].cp.API)
	w := bwctlWatch(t, f.URL, "policies", "proxies", "delivery")
	told := w.until(ackedBy(1, first))
	for _, want := range []string{"resync   policies,proxies,delivery", "put Policy gone", "put Policy p", "put Proxy orders-1"} {
		if !slices.Contains(told, want) {
			t.Errorf("%q is not among what was told: %q", want, told)
		}
	}

	f.lead("")
	c.planes[0].remove("policies", "gone")
	second := c.edit(0, 3)
	if d := c.delivery(1, api.DeliveryQuery{Revision: second, Wait: patience}); d.State != api.DeliveryAcked {
		t.Fatalf("the edit is not there: %+v", d)
	}
	f.lead(c.planes[1].cp.API)
	told = w.until(ackedBy(1, second))
	if told = slices.DeleteFunc(told, func(e string) bool { return strings.HasPrefix(e, "put Delivery") }); len(told) > 4 {
		told = told[len(told)-4:] // before the end of the first connection proxies may have been told anew
	}
	if want := []string{"resync   proxies,delivery", "delete Policy gone", "put Policy p", "put Proxy orders-1"}; !slices.Equal(told, want) {
		t.Errorf("at the other replica it goes on with %q, want %q", told, want)
	}

	if all := clientStatus(t, c.planes[1].cp.Admin); len(all) != 0 {
		t.Errorf("the client status of the replica that has no proxy is %v", all)
	}
	all := clientStatus(t, c.planes[0].cp.Admin)
	dump := must(orders.ConfigDump())(t)
	var config api.ProxyConfig
	if err := ask(c.planes[1].cp, api.ProxyConfigPath("orders-1"), &config); err != nil {
		t.Fatal(err)
	}
	for _, r := range config.Resources {
		got := all["orders-1 "+r.Type+" "+r.Name]
		if got != "SYNCED ACKED "+r.Acked || r.Type == "RDS" && !strings.Contains(string(dump), fmt.Sprintf("%q", r.Acked)) {
			t.Errorf("of %s %s the client status is %q, want version %s, as Envoy has it", r.Type, r.Name, got, r.Acked)
		}
	}
	if len(config.Resources) < 10 || len(all) < len(config.Resources) {
		t.Errorf("%d resources, and the client status of %d", len(config.Resources), len(all))
	}
}

// clientStatus is what the admin port says of its proxies, by node, type and name.
func clientStatus(t *testing.T, admin string) map[string]string {
	t.Helper()
	conn := must(grpc.NewClient(admin, grpc.WithTransportCredentials(insecure.NewCredentials())))(t)
	defer conn.Close()
	answer, err := statusv3.NewClientStatusDiscoveryServiceClient(conn).FetchClientStatus(within(t, patience), &statusv3.ClientStatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]string)
	for _, proxy := range answer.GetConfig() {
		for _, r := range proxy.GetGenericXdsConfigs() {
			of, _ := view.FromURL(r.GetTypeUrl())
			all[proxy.GetNode().GetId()+" "+of.String()+" "+r.GetName()] = fmt.Sprint(r.GetConfigStatus(), " ", r.GetClientStatus(), " ", r.GetVersionInfo())
		}
	}
	return all
}
