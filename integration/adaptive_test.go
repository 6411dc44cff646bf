package integration_test

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/integration/harness"
)

// refusal is the answer of the filter that bounds the calls at once.
const refusal = "reached concurrency limit"

// bounded is a service as one caller sees it, whose calls at once are bounded by their latency.
type bounded struct {
	t      *testing.T
	client *harness.Client
	name   string
	host   *harness.Host
}

// sleepy answers after as many milliseconds as it is asked to.
func sleepy(w http.ResponseWriter, r *http.Request) {
	d, err := time.ParseDuration(cmp.Or(r.URL.Query().Get("after"), "0s"))
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	select {
	case <-time.After(d):
	case <-r.Context().Done():
	}
}

// atOnce is how many of n calls at once reach the host; the others are refused, with 503.
func (b bounded) atOnce(n int64) int64 {
	b.t.Helper()
	ctx, hangUp := context.WithCancel(b.t.Context())
	defer hangUp()
	b.host.Set(harness.Behaviour{Hang: true})
	defer b.host.Set(harness.Behaviour{})
	var refused atomic.Int64
	for range n {
		go func() {
			if call := b.client.GetContext(ctx, b.name, "/"); call.Status == http.StatusServiceUnavailable && call.Body == refusal {
				refused.Add(1)
			}
		}()
	}
	eventually(b.t, func() error {
		if in, out := b.host.Active(), refused.Load(); in+out != n {
			return fmt.Errorf("of %d calls to %s %d are under way and %d refused", n, b.name, in, out)
		}
		return nil
	})
	through := b.host.Active()
	hangUp()
	underWay(b.t, b.host, 0)
	return through
}

// second is how a call is answered while another one is under way.
func (b bounded) second(want int) {
	b.t.Helper()
	ctx, hangUp := context.WithCancel(b.t.Context())
	defer hangUp()
	b.host.Set(harness.Behaviour{Hang: true})
	defer b.host.Set(harness.Behaviour{})
	go b.client.GetContext(ctx, b.name, "/")
	underWay(b.t, b.host, 1)
	if call := b.client.Get(b.name, "/"); call.Status != want {
		b.t.Errorf("the second call was answered %d %q, want %d", call.Status, call.Body, want)
	}
	hangUp()
	underWay(b.t, b.host, 0)
}

// load has ten callers at once for a while, each fourth of whose calls takes slow, and the others fast.
func (b bounded) load(fast, slow time.Duration) {
	ctx, cancel := context.WithTimeout(b.t.Context(), 250*time.Millisecond)
	defer cancel()
	var wg sync.WaitGroup
	for worker := range 10 {
		wg.Go(func() {
			for i := worker; ctx.Err() == nil; i++ {
				after := fast
				if i%4 == 0 {
					after = slow
				}
				if b.client.Get(b.name, "/?after="+after.String()).Status != http.StatusOK {
					<-time.After(5 * time.Millisecond) // an application that is refused does not turn in circles
				}
			}
		})
	}
	wg.Wait()
}

func (b bounded) loaded(fast, slow time.Duration) func() { return func() { b.load(fast, slow) } }

// allows waits until the limit is between least and most, after each load.
func (b bounded) allows(least, most int64, loads ...func()) {
	b.t.Helper()
	eventually(b.t, func() error {
		for _, load := range loads {
			load()
		}
		if n := b.atOnce(10); n < least || n > most {
			return fmt.Errorf("%d calls to %s reach the host at once, want %d to %d", n, b.name, least, most)
		}
		return nil
	})
}

// The limit goes by the latency, as the fields say, on an Envoy and on an agent. Services without such a policy are not bounded.
func TestAdaptiveConcurrency(t *testing.T) {
	t.Parallel()
	const fast, slow = 20 * time.Millisecond, 80 * time.Millisecond
	limit := func(fields, latency string) string {
		return "adaptiveConcurrency: {" + fields + ", minLatency: {requests: 8, concurrency: 2, jitterPercent: 0, " + latency + "}}"
	}
	const one = "adaptiveConcurrency: {minLatency: {concurrency: 1}}"
	cases := map[string]struct {
		policy string
		sees   func(b bounded)
	}{
		"free":              {"", func(b bounded) { b.allows(10, 10) }},
		"behind a fallback": {one + "\n  fallback: {response: {status: 203}}", func(b bounded) { b.second(http.StatusNonAuthoritativeInfo) }},
		"in other words":    {one + "\n  errorMapping: {gateway: true}", func(b bounded) { b.second(http.StatusServiceUnavailable) }},
		"measured first": {"adaptiveConcurrency: {minLatency: {concurrency: 3}}", func(b bounded) {
			b.allows(3, 3)
			b.allows(4, 10, b.loaded(fast, fast)) // once 50 calls have been measured
		}},
		"up to its maximum": {limit("maxConcurrency: 4, updateInterval: 20ms", "interval: 60s"), func(b bounded) {
			b.allows(2, 2)
			b.allows(4, 4, b.loaded(fast, fast))
		}},
		"down again": {limit("maxConcurrency: 8, updateInterval: 50ms", "interval: 3s"), func(b bounded) {
			b.allows(8, 8, b.loaded(fast, fast))
			b.allows(8, 8, b.loaded(fast, slow)) // a fourth of the calls is not half of them
			b.allows(2, 6, b.loaded(fast, fast), b.loaded(slow, slow))
		}},
		"by nine calls in ten": {limit("maxConcurrency: 8, updateInterval: 50ms, percentile: 90", "interval: 3s"), func(b bounded) {
			b.allows(8, 8, b.loaded(fast, fast))
			b.allows(2, 6, b.loaded(fast, fast), b.loaded(fast, slow))
		}},
		"with a wide buffer": {limit("maxConcurrency: 8, updateInterval: 20ms", "bufferPercent: 100"), func(b bounded) {
			b.allows(8, 8, b.loaded(fast, fast))
			b.allows(8, 8, b.loaded(2*fast, 2*fast))
		}},
		"without a buffer": {limit("maxConcurrency: 8, updateInterval: 20ms", "bufferPercent: 0, interval: 3s"), func(b bounded) {
			b.allows(8, 8, b.loaded(fast, fast))
			b.allows(2, 6, b.loaded(fast, fast), b.loaded(2*fast, 2*fast))
		}},
		"seldom": {limit("updateInterval: 60s", "interval: 60s"), func(b bounded) { b.allows(2, 2, b.loaded(fast, fast)) }},
		"measured anew": {limit("maxConcurrency: 8, updateInterval: 20ms", "interval: 1s"), func(b bounded) {
			b.allows(8, 8, b.loaded(fast, fast))
			b.allows(2, 2)
		}},
	}
	m := newMesh(t)
	name := func(title string) string { return strings.ReplaceAll(title, " ", "-") }
	hosts := map[string]*harness.Host{}
	var documents []string
	for title, c := range cases {
		n := name(title)
		hosts[title] = startHost(t, http.HandlerFunc(sleepy))
		m.hosts[n] = []*harness.Host{hosts[title]}
		documents = append(documents, m.manifest(n))
		if c.policy != "" {
			documents = append(documents, policyFor(n, n, c.policy))
		}
	}
	m.apply(append(documents, m.manifest("orders"))...)
	envoy, agent := m.envoy("orders"), m.agent("orders")
	for title := range cases {
		agent.reaches(name(title), http.StatusOK)
	}
	for title, c := range cases {
		t.Run(title, func(t *testing.T) {
			c.sees(bounded{t, envoy.Client, name(title), hosts[title]})
			c.sees(bounded{t, agent.Client, name(title), hosts[title]})
		})
	}
}

// appConn is one connection of an application to its proxy.
type appConn struct {
	net.Conn
	r *bufio.Reader
}

func dialApp(t *testing.T, address string) *appConn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &appConn{c, bufio.NewReader(c)}
}

func (c *appConn) ask(t *testing.T, host string) {
	t.Helper()
	if _, err := fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", host); err != nil {
		t.Fatal(err)
	}
}

// answer is the status of the next response, and whether the connection ends with it.
func (c *appConn) answer() (status int, last bool, err error) {
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return 0, true, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, resp.Close, err
}

// outboundVersion is the version that Envoy tells of its listener for applications.
func (s *sidecar) outboundVersion() (string, error) {
	body, err := s.ConfigDump()
	if err != nil {
		return "", err
	}
	var dump envoyDump
	if err := json.Unmarshal(body, &dump); err != nil {
		return "", err
	}
	for _, c := range dump.Configs {
		for _, l := range c.Listeners {
			if l.Name == "outbound" && l.Active != nil {
				return l.Active.Version, nil
			}
		}
	}
	return "", errors.New("no such listener")
}

// What an edit of adaptive concurrency does to a real Envoy, which takes it as another filter chain of its listener: no ejection is lost, no
// cluster is built anew, a call under way is answered. Connections that are opened from now on are bounded; those that are open keep what
// they had until Envoy drains them, within --drain-time-s, and what is still under way then is cut off. Switched off is at once, everywhere.
func TestAdaptiveConcurrencyEditDrainsTheListener(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	hosts := m.service("payments", 2)
	m.service("email", 1)
	m.service("orders", 0)
	orders := m.envoy("orders", func(l *launch) { l.arguments = []string{"--drain-time-s", "2"} })
	m.apply(policyFor("eject", "payments", outlier, "loadBalancing: {panicThreshold: 0}"))
	m.programmed("eject")
	m.eject(orders, hosts[1])
	good := hosts[0]
	good.Set(harness.Behaviour{Hang: true})
	endless, short, open := dialApp(t, orders.Outbound), dialApp(t, orders.Outbound), dialApp(t, orders.Outbound)
	under := func(c *appConn, behaviour harness.Behaviour) {
		t.Helper()
		n := good.Active()
		good.Set(behaviour)
		c.ask(t, "payments")
		underWay(t, good, n+1)
		good.Set(harness.Behaviour{})
	}
	answered := func(what string, c *appConn, want int) (last bool) {
		t.Helper()
		got, last, err := c.answer()
		if err != nil || got != want {
			t.Errorf("%s: answered %d, %v, want %d", what, got, err, want)
		}
		return last
	}
	under(endless, harness.Behaviour{Hang: true})
	under(short, harness.Behaviour{Delay: 500 * time.Millisecond})
	clusters, closed := orders.stat("cluster_manager.cluster_modified"), orders.stat(payments+"upstream_cx_destroy")
	version := must(orders.outboundVersion())(t)

	edited := time.Now()
	m.apply(policyFor("bound", "payments", "adaptiveConcurrency: {minLatency: {concurrency: 1}}"))
	m.programmed("bound")
	fresh := dialApp(t, orders.Outbound)
	under(fresh, harness.Behaviour{Delay: 500 * time.Millisecond})
	other := dialApp(t, orders.Outbound)
	other.ask(t, "payments")
	answered("a second call over new connections", other, http.StatusServiceUnavailable)
	other.ask(t, "email")
	answered("another service", other, http.StatusOK)
	open.ask(t, "payments")
	answered("a call over a connection that was open", open, http.StatusOK)
	answered("a call under way during the edit", short, http.StatusOK)
	answered("the call that is allowed", fresh, http.StatusOK)
	if now, out, destroyed := orders.stat("cluster_manager.cluster_modified"), orders.stat(ejected), orders.stat(payments+"upstream_cx_destroy"); now != clusters || out != 1 || destroyed != closed {
		t.Errorf("after the edit %d clusters were built anew, %d hosts are ejected, %d connections to hosts were closed; want 0, 1 and 0", now-clusters, out, destroyed-closed)
	}
	if n := orders.stat("listener_manager.listener_in_place_updated"); n != 1 {
		t.Errorf("listener_in_place_updated = %d, want 1", n)
	}
	if now := must(orders.outboundVersion())(t); now != version {
		t.Errorf("Envoy tells the version %s of the listener that it updated in place, want that of the first, %s; compare versions again where it tells them", now, version)
	}

	eventually(t, func() error { // the application is asked to leave, some time before the end
		open.ask(t, "payments")
		status, last, err := open.answer()
		if err != nil || status != http.StatusOK || !last {
			return fmt.Errorf("answered %d, %v, and may stay", status, err)
		}
		return nil
	})
	if status, _, err := endless.answer(); err == nil {
		t.Errorf("a call that lasts longer than the drain was answered %d, want it cut off", status)
	}
	if took := time.Since(edited); took < 1900*time.Millisecond {
		t.Errorf("a call under way was cut off %v after the edit, want not before the 2s of the drain", took)
	}

	underWay(t, good, 0)
	under(fresh, harness.Behaviour{Hang: true})
	m.apply(policyFor("bound", "payments", "adaptiveConcurrency: {disabled: true}"))
	m.programmed("bound")
	other.ask(t, "payments")
	answered("a second call over a connection that was bounded, after the end of the policy", other, http.StatusOK)
}
