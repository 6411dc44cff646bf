package integration_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/integration/harness"
	"github.com/breakwater-mesh/breakwater/internal/testkit/etcdcluster"
)

// quorum is three members of etcd, two control planes over them, and those who write and watch.
type quorum struct {
	t        *testing.T
	cluster  *etcdcluster.Cluster
	replicas []*replica
	orders   *sidecar // a proxy of the first
}

// replica is one control plane. Through it the two services of a name are written, while its onlooker watches those of all.
type replica struct {
	*mesh
	name     string
	onlooker *onlooker
	next     int // number of the next write
	kept     map[string]bool
}

func newQuorum(t *testing.T) *quorum {
	t.Helper()
	q := &quorum{t: t, cluster: etcdcluster.StartGuarded(t, 3)}
	for _, name := range []string{"a", "b"} {
		q.replicas = append(q.replicas, &replica{mesh: newMesh(t, q.cluster.Flags()...), name: name, next: 1, kept: map[string]bool{}})
	}
	first := q.replicas[0]
	first.service("orders", 0)
	for _, service := range q.services() {
		first.service(service, 1)
	}
	for _, r := range q.replicas {
		if _, w := r.write(context.Background()); w.status != http.StatusOK {
			t.Fatalf("the first write of %s: %+v", r.name, w)
		}
	}
	for _, r := range q.replicas {
		r.onlooker = r.mesh.onlooker("onlooker-"+r.name, q.services()...)
	}
	q.orders = first.envoy("orders")
	q.orders.reaches("a1", http.StatusOK)
	return q
}

func (q *quorum) services() (names []string) {
	for _, r := range q.replicas {
		names = append(names, r.name+"1", r.name+"2")
	}
	return names
}

// written is a write and what became of it.
type written struct {
	status       int // 0: no answer
	answer       string
	retryAfter   string
	begun, ended time.Time
}

func (w written) took() time.Duration { return w.ended.Sub(w.begun) }

// write gives both services of the replica the next number, and leaves a policy that tells of this write alone.
func (r *replica) write(ctx context.Context) (mark string, w written) {
	n := r.next
	r.next++
	mark = fmt.Sprintf("%s-%06d", r.name, n)
	timeout := fmt.Sprintf("timeout: {request: %dms}", 1000+n)
	body := strings.Join([]string{policyFor(r.name+"1", r.name+"1", timeout), policyFor(r.name+"2", r.name+"2", timeout), policyFor(mark, mark, timeout)}, "---\n")
	w.begun = time.Now()
	defer func() { w.ended = time.Now() }()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+r.cp.API+"/api/v1/apply?wide=true", strings.NewReader(body))
	if err != nil {
		return mark, written{answer: err.Error()}
	}
	req.Header.Set("Content-Type", "application/yaml")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.answer = err.Error()
		return mark, w
	}
	defer resp.Body.Close()
	var answer strings.Builder
	_ = resp.Write(&answer)
	w.status, w.answer, w.retryAfter = resp.StatusCode, answer.String(), resp.Header.Get("Retry-After")
	return mark, w
}

// load is writes by all replicas at once.
type load struct {
	mu      sync.Mutex
	acked   int
	longest time.Duration // between two acks, of whichever replica
	last    time.Time
	refused []written
}

func (l *load) note(w written) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.status != http.StatusOK {
		l.refused = append(l.refused, w)
		return
	}
	l.acked++
	if !l.last.IsZero() {
		l.longest = max(l.longest, w.ended.Sub(l.last))
	}
	l.last = w.ended
}

// more waits until n writes more were acked.
func (l *load) more(t *testing.T, n int) {
	t.Helper()
	count := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.acked
	}
	want := count() + n
	eventually(t, func() error {
		if have := count(); have < want {
			return fmt.Errorf("%d writes were acked, want %d", have, want)
		}
		return nil
	})
}

// under makes a fault, and its end, while both replicas write and requests go through Envoy. Afterwards nothing may be lost, and everybody
// hold what was written last.
func (q *quorum) under(fault func(l *load)) *load {
	q.t.Helper()
	l := &load{}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var group sync.WaitGroup
	for _, r := range q.replicas {
		group.Go(func() {
			for ctx.Err() == nil {
				mark, w := r.write(context.Background())
				if l.note(w); w.status == http.StatusOK {
					r.kept[mark] = true
				}
			}
		})
	}
	var calls harness.Results
	group.Go(func() { harness.Load(ctx, 50, 10, &calls, func() harness.Call { return q.orders.Get("a1", "/") }) })
	l.more(q.t, 20)
	fault(l)
	healed := time.Now()
	l.more(q.t, 20)
	stop()
	group.Wait()
	wantNoFailures(q.t, calls.Take(), "etcd was in trouble")
	q.judge()
	q.t.Logf("%d writes acked, %d refused, the longest gap between two acks %v; everybody is current %v after the end of the fault",
		l.acked, len(l.refused), l.longest.Round(time.Millisecond), time.Since(healed).Round(time.Millisecond))
	for _, w := range l.refused {
		if w.status != http.StatusServiceUnavailable || w.retryAfter == "" {
			q.t.Errorf("a write was answered after %v with %d, Retry-After %q; want 503 and when to come back: %s", w.took(), w.status, w.retryAfter, w.answer)
		}
	}
	return l
}

// judge looks for what was acked, and waits until all who watch hold what the API says.
func (q *quorum) judge() {
	q.t.Helper()
	for _, r := range q.replicas {
		eventually(q.t, func() error {
			for _, other := range q.replicas {
				if err := other.keeps(r); err != nil {
					return err
				}
			}
			return nil
		})
	}
	for _, r := range q.replicas {
		r.onlooker.unharmed(q.t)
	}
}

// keeps is nil if every write that r acked is there, as this replica sees it, and the last one in force with the onlookers of both.
func (r *replica) keeps(of *replica) error {
	policies, err := r.policies()
	if err != nil {
		return err
	}
	for mark := range of.kept {
		if policies[mark] == "" {
			return fmt.Errorf("write %s was acked and is not there", mark)
		}
	}
	for _, service := range []string{of.name + "1", of.name + "2"} {
		n, err := r.onlooker.holds(service)
		if err != nil {
			return err
		}
		if want := fmt.Sprintf("%dms", 1000+n); !same(policies[service], want) {
			return fmt.Errorf("onlooker of %s holds %s of %s, the API has %s", r.name, want, service, policies[service])
		}
	}
	return nil
}

func same(a, b string) bool {
	one, err := time.ParseDuration(a)
	other, again := time.ParseDuration(b)
	return errors.Join(err, again) == nil && one == other
}

// policies are the timeouts of all policies, by name.
func (r *replica) policies() (map[string]string, error) {
	all := map[string]string{}
	_, answer, err := r.cp.Do(http.MethodGet, "/api/v1/namespaces/shop/policies", "")
	if err != nil {
		return nil, err
	}
	var doc struct {
		Items []struct {
			Metadata struct{ Name string }
			Spec     struct{ Timeout struct{ Request string } }
		}
	}
	if err := json.Unmarshal([]byte(answer), &doc); err != nil {
		return nil, err
	}
	for _, item := range doc.Items {
		all[item.Metadata.Name] = item.Spec.Timeout.Request
	}
	return all, nil
}

// gap checks the longest time in which no write was taken. On a machine at rest it is within the 3 s that are promised.
func (l *load) gap(t *testing.T, most time.Duration) {
	t.Helper()
	if l.longest > most {
		t.Errorf("no write was taken for %v, want at most %v", l.longest, most)
	}
}

// TestQuorumSurvives makes faults on three members, one after the other. BREAKWATER_LONG=1 makes all of them, five times.
func TestQuorumSurvives(t *testing.T) {
	t.Parallel()
	q := newQuorum(t)
	for round := range choose(1, 5) {
		for _, fault := range []struct {
			name  string
			short bool // made in every run
			make  func(*testing.T, *quorum)
		}{
			{"LeaderKilled", true, leaderKilled},
			{"LeaderStopped", false, leaderStopped},
			{"LeaderIsolated", true, leaderIsolated},
			{"NoQuorum", true, noQuorum},
			{"SlowDisk", false, slowDisk},
			{"NoSpace", true, func(t *testing.T, q *quorum) { alarm(t, q, "NOSPACE") }},
			{"Corrupt", false, func(t *testing.T, q *quorum) { alarm(t, q, "CORRUPT") }},
			{"CertificateReplaced", true, certificateReplaced},
			{"MemberMute", false, memberMute},
			{"CompactedUnderLag", true, compactedUnderLag},
			{"OlderSnapshot", true, olderSnapshot},
			{"OvertakenAfterRestore", false, overtaken},
		} {
			if !fault.short && !long() {
				continue
			}
			begun := time.Now()
			ok := t.Run(fault.name, func(t *testing.T) {
				q.on(t)
				fault.make(t, q)
			})
			q.on(t)
			if !ok {
				return
			}
			t.Logf("round %d: %s took %v", round, fault.name, time.Since(begun).Round(time.Millisecond))
		}
	}
}
