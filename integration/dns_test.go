package integration_test

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"google.golang.org/grpc/codes"

	"github.com/breakwater-mesh/breakwater/integration/harness"
)

// byName is a service whose endpoints a name has in DNS, and an Envoy and an agent that call it.
type byName struct {
	*mesh
	dns     *harness.DNS
	hosts   []*harness.Host // at one port of 127.0.0.1, 127.0.0.2 and so on; each answers with its IP address
	service string          // its manifest
	callers map[string]watched
}

// watched is a caller whose statistics can be read.
type watched interface {
	caller
	Stat(name string) (int64, error)
}

const nameOfPayments = "payments.test"

// newByName has n hosts, of which the first two are in DNS, and no callers yet.
func newByName(t *testing.T, n int) *byName {
	t.Helper()
	d, err := harness.StartDNS()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	b := &byName{mesh: newMesh(t), dns: d, callers: map[string]watched{}}
	eventually(t, func() error {
		b.hosts, err = harness.StartHostsAtOnePort(n)
		return err
	})
	for _, h := range b.hosts {
		t.Cleanup(h.Close)
	}
	b.behave(harness.Behaviour{})
	b.says(0, 1)
	_, port, _ := net.SplitHostPort(b.hosts[0].Address)
	b.service = fmt.Sprintf("apiVersion: breakwater/v1alpha1\nkind: Service\nmetadata: {namespace: shop, name: payments}\nspec:\n  port: %s\n"+
		"  discovery: {dns: {host: %s., refresh: 100ms, resolvers: [%q]}}\n", port, nameOfPayments, d.Address)
	return b
}

func ipOf(h *harness.Host) string {
	ip, _, _ := net.SplitHostPort(h.Address)
	return ip
}

// behave makes some hosts, or all, behave so from now on.
func (b *byName) behave(how harness.Behaviour, which ...int) {
	for i, h := range b.hosts {
		if len(which) == 0 || slices.Contains(which, i) {
			how.Body = ipOf(h)
			h.Set(how)
		}
	}
}

// says puts these hosts into DNS, and nothing else.
func (b *byName) says(hosts ...int) {
	r := harness.Records{}
	for _, i := range hosts {
		r.Addresses = append(r.Addresses, ipOf(b.hosts[i]))
	}
	b.dns.Set(nameOfPayments, r)
}

// start starts both callers.
func (b *byName) start() {
	b.t.Helper()
	b.apply(b.service, b.manifest("orders"))
	b.callers = map[string]watched{"Envoy": b.envoy("orders"), "agent": b.agent("orders")}
}

// reach waits until every caller reaches these hosts and no other.
func (b *byName) reach(hosts ...int) {
	b.t.Helper()
	var want []string
	for _, i := range hosts {
		want = append(want, ipOf(b.hosts[i]))
	}
	for name, c := range b.callers {
		eventually(b.t, func() error {
			if got := reached(c, 6); !slices.Equal(got, want) {
				return fmt.Errorf("%s reaches %v, want %v", name, got, want)
			}
			return nil
		})
	}
}

// reached are the IP addresses that answered some calls, or what they answered otherwise.
func reached(c caller, calls int) []string {
	seen := map[string]bool{}
	for range calls {
		if call := c.Get("payments", "/"); call.Status == http.StatusOK {
			seen[call.Body] = true
		} else {
			seen[fmt.Sprint(call.Status, call.Err)] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// none waits until no caller has a host.
func (b *byName) none() {
	b.t.Helper()
	for name, c := range b.callers {
		eventually(b.t, func() error {
			if call := c.Get("payments", "/"); call.Status != http.StatusServiceUnavailable || !strings.Contains(call.Body, "no healthy upstream") {
				return fmt.Errorf("%s answers %d %q, %v", name, call.Status, call.Body, call.Err)
			}
			return nil
		})
	}
}

// asks waits until the name has been asked for n times more, by both callers together.
func (b *byName) asks(n int) {
	b.t.Helper()
	before := b.dns.Asked(nameOfPayments)
	eventually(b.t, func() error {
		if got := b.dns.Asked(nameOfPayments) - before; got < n {
			return fmt.Errorf("DNS was asked %d times, want %d", got, n)
		}
		return nil
	})
}

// load calls all the time until stop, which returns what came of it.
func (b *byName) load() (stop func() harness.Summary) {
	ctx, cancel := context.WithCancel(context.Background())
	var results harness.Results
	var group sync.WaitGroup
	for _, c := range b.callers {
		group.Go(func() { harness.Load(ctx, 50, 10, &results, func() harness.Call { return c.Get("payments", "/") }) })
	}
	return func() harness.Summary {
		cancel()
		group.Wait()
		return results.Take()
	}
}

func TestHostsAreWhatDNSSays(t *testing.T) {
	t.Parallel()
	b := newByName(t, 3)
	b.start()
	b.reach(0, 1)

	// Addresses come and go without a lost call, and while nobody can say which there are, those of before stay.
	stop := b.load()
	b.says(0, 1, 2)
	b.reach(0, 1, 2)
	b.says(2)
	b.reach(2)
	b.dns.Set(nameOfPayments, harness.Records{Code: dnsmessage.RCodeServerFailure})
	b.asks(8)
	b.reach(2)
	for name, c := range b.callers {
		for _, stat := range []string{"update_attempt", "update_success", "update_failure"} {
			if n, err := c.Stat("cluster.shop/payments." + stat); err != nil || n == 0 {
				t.Errorf("%s has counted %d, %v, as %s", name, n, err, stat)
			}
		}
	}
	b.says(1, 2)
	b.reach(1, 2)
	if got := stop(); got.SuccessPercent() != 100 {
		t.Errorf("%.2f %% of calls succeeded while addresses came and went: %+v", got.SuccessPercent(), got)
	}

	// An answer without addresses is one, and so is that there is no such name.
	b.says()
	b.none()
	b.says(0)
	b.reach(0)
	b.dns.Set(nameOfPayments, harness.Records{Code: dnsmessage.RCodeNameError})
	b.none()
	b.says(1)
	b.reach(1)
	if r := b.rejections(); len(r) > 0 {
		t.Errorf("rejected: %v", r)
	}
}

func TestPoliciesHoldForHostsOfDNS(t *testing.T) {
	t.Parallel()
	b := newByName(t, 3)
	b.start()
	b.reach(0, 1)
	b.apply(policyFor("breaker", "payments", "circuitBreaker: {failureThreshold: 3, recoveryTimeout: 60s}", "limits: {maxRequests: 400}"))
	b.programmed("breaker")
	b.reach(0, 1)
	ejects := func(n int64) {
		t.Helper()
		for name, c := range b.callers {
			eventually(t, func() error {
				c.Get("payments", "/")
				if got, err := c.Stat(ejected); err != nil || got != n {
					return fmt.Errorf("%s has %d ejected, %v; want %d", name, got, err, n)
				}
				return nil
			})
		}
	}
	b.behave(harness.Behaviour{Status: http.StatusServiceUnavailable}, 0)
	ejects(1)
	b.reach(1)

	// What DNS says again, and of others, brings no ejected host back; nor does an edit of a limit.
	b.asks(6)
	b.says(0, 1, 2)
	b.reach(1, 2)
	b.apply(policyFor("breaker", "payments", "circuitBreaker: {failureThreshold: 3, recoveryTimeout: 60s}", "limits: {maxRequests: 500}"))
	b.programmed("breaker")
	ejects(1)
	b.reach(1, 2)

	// All ejected is open: the threshold of panic is 0. A host that comes is reached at once.
	b.says(0, 1)
	b.reach(1)
	b.behave(harness.Behaviour{Status: http.StatusServiceUnavailable}, 1)
	ejects(2)
	b.none()
	b.says(0, 1, 2)
	b.reach(2)
}

// A name server that says nothing keeps no other service from being reached, at a start either.
func TestSilentDNSAtAStart(t *testing.T) {
	t.Parallel()
	b := newByName(t, 2)
	b.dns.Set(nameOfPayments, harness.Records{Silent: true})
	b.mesh.service("queue", 1)
	began := time.Now()
	b.start()
	for name, c := range b.callers {
		eventually(t, func() error {
			if call := c.Get("queue", "/"); call.Status != http.StatusOK {
				return fmt.Errorf("%s: %d %v", name, call.Status, call.Err)
			}
			return nil
		})
	}
	t.Logf("the other service was reached after %s", time.Since(began))
	b.none()
	b.says(0, 1)
	b.reach(0, 1)
}

// A service goes from endpoints that are written to DNS and back, without a lost call, and everyone has what it says.
func TestServiceGoesOverToDNSAndBack(t *testing.T) {
	t.Parallel()
	b := newByName(t, 2)
	found := b.service
	head, _, _ := strings.Cut(b.service, "  discovery")
	written := head + "  endpoints: [{address: 127.0.0.1}]\n"
	b.service = written
	b.start()
	b.reach(0)
	b.apply(policyFor("limit", "payments", "limits: {maxRequests: 400}"))
	b.programmed("limit")
	stop := b.load()
	for range 2 {
		b.apply(found)
		b.reach(0, 1)
		b.apply(policyFor("limit", "payments", "limits: {maxRequests: 500}"))
		b.programmed("limit")
		b.apply(written)
		b.reach(0)
		b.apply(policyFor("limit", "payments", "limits: {maxRequests: 400}"))
		b.programmed("limit")
	}
	if got := stop(); got.SuccessPercent() != 100 {
		t.Errorf("%.2f %% of calls succeeded: %+v", got.SuccessPercent(), got)
	}
}

// A gRPC client asks its machine for the name, of which it makes one host. It takes all policies; retries and timeouts hold.
func TestGRPCClientFindsItsHostByDNS(t *testing.T) {
	t.Parallel()
	host := startLedger(t)
	m := newMesh(t)
	_, port, _ := net.SplitHostPort(host.address)
	m.apply("apiVersion: breakwater/v1alpha1\nkind: Service\nmetadata: {namespace: shop, name: ledger}\nspec: {protocol: grpc, discovery: {dns: {host: localhost, port: "+port+"}}}\n", m.manifest("orders"),
		policyFor("p", "ledger", "outlierDetection: {failurePercentage: {threshold: 50, minimumHosts: 1, requestVolume: 1}}", "loadBalancing: {algorithm: least-request}"))
	c := m.grpcClient("ledger.shop")
	eventually(t, func() error {
		if code := check(t, c); code != codes.OK {
			return fmt.Errorf("a call ends with %s", code)
		}
		return nil
	})
	host.answer.Store(uint32(codes.Unavailable))
	m.apply(policyFor("p", "ledger", "retry: {numRetries: 2, retryOn: [unavailable], backOff: {base: 1ms, max: 2ms}}", "timeout: {request: 5s}"))
	eventually(t, func() error {
		before := host.calls.Load()
		if check(t, c); host.calls.Load()-before != 3 {
			return fmt.Errorf("a call makes %d attempts, want 3", host.calls.Load()-before)
		}
		return nil
	})
	m.programmed("p")
	if r := m.rejections(); len(r) > 0 {
		t.Errorf("rejected: %v", r)
	}
}
