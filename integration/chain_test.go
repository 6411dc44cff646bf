package integration_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/integration/harness"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// naive is the recipe that is written again and again: the same at every hop, any 5xx retried and counted.
const naive = `apiVersion: breakwater/v1alpha1
kind: Policy
metadata: {namespace: shop, name: naive}
spec:
  to: {service: "*"}
  timeout: {request: 1s, perTry: 300ms}
  retry: {numRetries: 3, retryOn: [5xx], methods: all, budget: {percent: 100, minConcurrent: 100}}
  circuitBreaker: {failureThreshold: 5, recoveryTimeout: 30s}
  bulkhead: {maxConcurrent: 24}
`

// patient is how long the apps of the chain wait by themselves.
const patient = time.Second

// chained is a mesh with the chain of examples/ in it, and a proxy beside each caller.
type chained struct {
	*mesh
	hops  []*harness.Hop
	calls atomic.Int64
}

func newChain(m *mesh, outbound func(service string) string) *chained {
	m.t.Helper()
	c := &chained{mesh: m}
	var err error
	if c.hops, err = harness.StartChain(4); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { harness.StopChain(c.hops) })
	for _, h := range c.hops {
		m.hosts[h.Name] = h.Hosts
		m.apply(m.manifest(h.Name, "dependsOn: ["+h.Next+"]"))
	}
	for _, h := range c.hops {
		if h.Next != "" {
			h.Out.Store(harness.NewClient(outbound(h.Name), patient))
		}
	}
	c.well()
	return c
}

// well waits until a call that goes down to email is answered.
func (c *chained) well() {
	c.t.Helper()
	eventually(c.t, func() error {
		if call := c.hops[0].Out.Load().Get("orders", "/3"); call.Status != http.StatusOK {
			return fmt.Errorf("the chain answers %d %q, %v", call.Status, call.Body, call.Err)
		}
		return nil
	})
}

// load sends orders for a while: four in ten go down to email, three to payments, three to orders alone.
func (c *chained) load(d time.Duration) harness.Summary {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	var results harness.Results
	edge := c.hops[0].Out.Load()
	harness.Load(ctx, 60, 500, &results, func() harness.Call {
		depth := []int{3, 0, 3, 1, 3, 0, 1, 3, 0, 1}[c.calls.Add(1)%10]
		return edge.Get("orders", fmt.Sprintf("/%d", depth))
	})
	return results.Take()
}

// email makes the first n of email's hosts behave so, and the others well.
func (c *chained) email(n int, b harness.Behaviour) {
	for i, host := range c.hops[len(c.hops)-1].Hosts {
		if i < n {
			host.Set(b)
		} else {
			host.Set(harness.Behaviour{})
		}
	}
}

// recipe applies policies, and waits until the proxies hold them.
func (c *chained) recipe(documents string) {
	c.t.Helper()
	c.apply(documents)
	decoded, faults := manifest.Decode("", []byte(documents), manifest.YAML, manifest.Limits{})
	if len(faults) > 0 {
		c.t.Fatal(faults)
	}
	for _, d := range decoded {
		if d.Kind == policy.Kind {
			c.programmed(d.Metadata.Name)
		}
	}
}

func example(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "examples", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestTheChainThroughHardFaults breaks one host of email, then hangs all of them, without policies, under the recipe that is written again
// and again, and under the examples: off fails, the naive recipe fails more, chain.yaml loses nothing of one host and with fallback.yaml
// nothing at all. On a busy machine calls run out of time by themselves: then another chain may try, twice.
func TestTheChainThroughHardFaults(t *testing.T) {
	t.Parallel()
	for kind, proxy := range map[string]func(m *mesh, service string) string{
		"Envoy":  func(m *mesh, service string) string { return m.envoy(service).Outbound },
		"agents": func(m *mesh, service string) string { return m.agent(service).Outbound },
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			var wrong []string
			for range 3 {
				m := newMesh(t)
				if wrong = newChain(m, func(service string) string { return proxy(m, service) }).hardFaults(); len(wrong) == 0 {
					return
				}
				t.Logf("not as it should be:\n%s", strings.Join(wrong, "\n"))
			}
			t.Errorf("three times in a row, at last:\n%s", strings.Join(wrong, "\n"))
		})
	}
}

// hardFaults says what is not as it should be.
func (c *chained) hardFaults() (wrong []string) {
	c.t.Helper()
	check := func(ok bool, format string, args ...any) {
		if !ok {
			wrong = append(wrong, fmt.Sprintf(format, args...))
		}
	}
	oneHost, allHang := harness.Behaviour{Status: http.StatusServiceUnavailable}, harness.Behaviour{Hang: true}
	c.email(1, oneHost)
	offOne := c.load(time.Second)
	c.email(4, allHang)
	off := c.load(1500 * time.Millisecond)
	c.email(0, allHang)

	c.recipe(naive)
	c.email(4, allHang)
	c.load(2 * time.Second) // until the breakers are open that count any 5xx, all the way up
	worse := c.load(time.Second)
	c.email(0, allHang)
	c.remove("policies", "naive") // an agent keeps its ejections from one breaker to the next
	c.well()

	c.recipe(example(c.t, "chain.yaml"))
	c.email(1, oneHost)
	one := c.load(1500 * time.Millisecond)

	c.recipe(example(c.t, "fallback.yaml"))
	queue := c.service("email-queue", 2, "dependsOn: []")
	c.email(4, allHang)
	all := c.load(2 * time.Second)

	c.t.Logf("success in percent: one host 503: off %.1f, chain %.1f; all of email hangs: off %.1f, naive %.1f, chain and fallback %.1f",
		offOne.SuccessPercent(), one.SuccessPercent(), off.SuccessPercent(), worse.SuccessPercent(), all.SuccessPercent())
	queued := requests(queue)
	check(queued >= 30, "the queue got %d mails, want all of some 48", queued)
	check(offOne.SuccessPercent() <= 97 && off.SuccessPercent() <= 70,
		"without policies: %+v with one host failing, %+v with all of email hanging; the faults did not bite", offOne, off)
	check(worse.SuccessPercent() < off.SuccessPercent(), "the naive recipe: %+v, want fewer successes than without policies: %+v", worse, off)
	check(one.SuccessPercent() >= 98, "chain.yaml with one host failing: %+v, want no failures", one) // a call or two of a hundred are the machine's
	check(all.SuccessPercent() >= 98, "chain.yaml and fallback.yaml with all of email hanging: %+v, want no failures", all)
	return wrong
}
