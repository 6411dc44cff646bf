package integration_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// on lets the parts report to a test.
func (q *quorum) on(t *testing.T) {
	q.t, q.orders.t = t, t
	for _, r := range q.replicas {
		r.mesh.t = t
	}
}

func leaderKilled(t *testing.T, q *quorum) {
	leader := q.cluster.Leader()
	l := q.under(func(l *load) {
		q.cluster.Kill(leader)
		l.more(t, 10)
		q.cluster.Restart(leader)
		q.cluster.WaitHealthy()
	})
	l.gap(t, 5*time.Second)
}

func leaderStopped(t *testing.T, q *quorum) {
	leader := q.cluster.Leader()
	l := q.under(func(l *load) {
		q.cluster.Pause(leader)
		l.more(t, 10)
		q.cluster.Resume(leader)
		q.cluster.WaitHealthy()
	})
	l.gap(t, 5*time.Second)
}

func leaderIsolated(t *testing.T, q *quorum) {
	leader := q.cluster.Leader()
	l := q.under(func(l *load) {
		q.cluster.Isolate(leader)
		l.more(t, 10)
		q.cluster.Rejoin(leader)
		q.cluster.WaitHealthy()
	})
	l.gap(t, 5*time.Second)
}

func noQuorum(t *testing.T, q *quorum) {
	lost := []int{q.cluster.Leader()}
	lost = append(lost, (lost[0]+1)%3)
	l := q.under(func(l *load) {
		for _, i := range lost {
			q.cluster.Kill(i)
		}
		l.refuses(t, 4)
		q.alive()
		for _, i := range lost {
			q.cluster.Restart(i)
		}
		q.cluster.WaitHealthy()
	})
	slices.SortFunc(l.refused, func(a, b written) int { return int(a.took() - b.took()) })
	t.Logf("writes without a quorum were refused after %v to %v", l.refused[0].took(), l.refused[len(l.refused)-1].took())
	for _, w := range l.refused {
		if w.took() > 4*time.Second {
			t.Errorf("a write without a quorum was refused after %v, want 2 s: %s", w.took(), w.answer)
		}
	}
}

// refuses waits until n writes were refused.
func (l *load) refuses(t *testing.T, n int) {
	t.Helper()
	eventually(t, func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.refused) < n {
			return fmt.Errorf("%d writes were refused, want %d", len(l.refused), n)
		}
		return nil
	})
}

// alive checks that reads are answered, and after a while new proxies served: after ten seconds the store is taken to be down.
func (q *quorum) alive() {
	q.t.Helper()
	for _, r := range q.replicas {
		if _, err := r.policies(); err != nil {
			q.t.Error(err)
		}
		if long() {
			eventually(q.t, func() error { _, err := r.wanted("orders", "127.0.0.1:1"); return err })
		}
	}
}

func slowDisk(t *testing.T, q *quorum) {
	l := q.under(func(l *load) {
		for i := range 3 {
			q.cluster.SlowDisk(i, 500*time.Millisecond)
		}
		l.more(t, 6)
		for i := range 3 {
			q.cluster.SlowDisk(i, 0)
		}
	})
	l.gap(t, 5*time.Second)
}

// alarm: etcd refuses writes until an operator has seen to it. The answer names the alarm; all else goes on.
func alarm(t *testing.T, q *quorum, name string) {
	l := q.under(func(l *load) {
		q.cluster.Raise(0, name)
		l.refuses(t, 6)
		q.alive()
		for _, r := range q.replicas {
			if _, err := r.wanted("orders", "127.0.0.1:1"); err != nil {
				t.Errorf("a proxy that comes new while the alarm is on: %v", err)
			}
		}
		q.cluster.Disarm(0, name)
	})
	for _, w := range l.refused {
		if !strings.Contains(w.answer, name) {
			t.Errorf("a write was refused without a word of the alarm %s: %s", name, w.answer)
		}
	}
}

// certificateReplaced: the certificate that control planes show, and its key, are replaced by ones that etcd does not take, and then by new
// ones that it does. Connections that there are go on; new ones are made with what is there.
func certificateReplaced(t *testing.T, q *quorum) {
	q.under(func(l *load) {
		q.cluster.Certify(false)
		l.more(t, 10)
		q.cluster.Sever()
		l.refuses(t, 2)
		q.alive()
		q.cluster.Certify(true)
	})
}

// memberMute: what a member sends is lost, and what is sent to it, while its connections stay open.
func memberMute(t *testing.T, q *quorum) {
	for i := range 3 { // one of them has the watch of the first control plane, and one that of the second
		l := q.under(func(l *load) {
			q.cluster.Mute(i)
			l.more(t, 10)
			q.holdAll()
			q.cluster.Unmute(i)
		})
		l.gap(t, 5*time.Second)
	}
}

// holdAll waits until the onlookers of both hold something that was written after this.
func (q *quorum) holdAll() {
	q.t.Helper()
	begun := time.Now()
	for _, r := range q.replicas {
		for _, service := range q.services() {
			before, _ := r.onlooker.holds(service)
			eventually(q.t, func() error {
				if n, err := r.onlooker.holds(service); err != nil || n == before {
					return fmt.Errorf("%s holds %d of %s, %v, as it did before", r.name, n, service, err)
				}
				return nil
			})
		}
	}
	q.t.Logf("everybody has heard of a later write after %v", time.Since(begun).Round(time.Millisecond))
}

// compactedUnderLag: while a control plane stands still, a service and policies go, and what it would have to catch up with is forgotten.
func compactedUnderLag(t *testing.T, q *quorum) {
	first, lagging := q.replicas[0], q.replicas[1]
	first.apply(first.manifest("fleeting"), policyFor("fleeting", "nobody", "timeout: {request: 1s}"))
	for _, r := range q.replicas {
		eventually(t, func() error { _, err := r.onlooker.holds("fleeting"); return err })
		r.onlooker.leave("fleeting")
	}
	if err := lagging.cp.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	q.cluster.Sever() // and so nothing waits in its sockets
	var last string
	for range 5 {
		mark, w := first.write(context.Background())
		if w.status != http.StatusOK {
			t.Fatalf("write %s: %+v", mark, w)
		}
		first.kept[mark], last = true, mark
	}
	first.remove("policies", "fleeting")
	if _, _, err := first.cp.Do(http.MethodDelete, "/api/v1/namespaces/shop/services/fleeting?wide=true&allowShrink=true", ""); err != nil {
		t.Fatal(err)
	}
	revision := q.cluster.Compact()
	if err := lagging.cp.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	woken := time.Now()
	eventually(t, func() error {
		policies, err := lagging.policies()
		if err != nil || policies[last] == "" || policies["fleeting"] != "" {
			return fmt.Errorf("%v; write %s is %q, the policy that is gone %q", err, last, policies[last], policies["fleeting"])
		}
		if n, err := lagging.onlooker.holds("fleeting"); err == nil {
			return fmt.Errorf("the onlooker holds %d of the service that is gone", n)
		}
		return nil
	})
	t.Logf("compacted at revision %d; the control plane that lagged is current %v after it went on", revision, time.Since(woken).Round(time.Millisecond))
	q.judge()
}

// olderSnapshot: the cluster is restored from a snapshot, in each of the ways that etcdutl knows. All go back to what it holds, without a
// restart, and on from there.
func olderSnapshot(t *testing.T, q *quorum) {
	for _, way := range []struct {
		name, token string
		bump        uint64
		short       bool
	}{
		{"another token", q.cluster.Token() + "-another", 0, false},
		{"the same token", q.cluster.Token(), 0, true},
		{"bump-revision, mark-compacted", q.cluster.Token(), 1_000_000, false},
	} {
		if !way.short && !long() {
			continue
		}
		t.Run(way.name, func(t *testing.T) {
			q.on(t)
			q.under(func(*load) {})
			file, before := q.cluster.Snapshot(1), q.state()
			q.under(func(l *load) { l.more(t, 20) })
			for _, r := range q.replicas {
				r.onlooker.allowBack(true)
			}
			q.cluster.Restore(file, way.token, way.bump)
			up := time.Now()
			eventually(t, func() error {
				if d := differences(q.state(), before); len(d) > 0 {
					return fmt.Errorf("not as the snapshot: %s", strings.Join(d, "\n"))
				}
				return nil
			})
			t.Logf("everybody has the snapshot's state %v after the cluster is up", time.Since(up).Round(time.Millisecond))
			for _, r := range q.replicas {
				r.onlooker.allowBack(false)
				policies, err := r.policies()
				if err != nil {
					t.Fatal(err)
				}
				for mark := range r.kept {
					if policies[mark] == "" {
						delete(r.kept, mark)
					}
				}
			}
			q.under(func(*load) {})
		})
	}
}

// overtaken: a control plane stands still while the cluster is restored and has come past what that has seen. It must not take the new
// history for a continuation of the old one.
func overtaken(t *testing.T, q *quorum) {
	for _, way := range []struct {
		name, token string
		bump        uint64
	}{
		{"the same token", q.cluster.Token(), 0},
		{"bump-revision, mark-compacted", q.cluster.Token(), 1_000_000},
		{"another token", q.cluster.Token() + "-overtaken", 0},
	} {
		t.Run(way.name, func(t *testing.T) {
			q.on(t)
			first, lagging := q.replicas[0], q.replicas[1]
			file := q.cluster.Snapshot(0)
			q.under(func(*load) {})
			for _, r := range q.replicas {
				r.onlooker.allowBack(true)
				clear(r.kept) // the restore loses them
			}
			if err := lagging.cp.Signal(syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			before := q.cluster.Revision(0)
			q.cluster.Restore(file, way.token, way.bump)
			for q.cluster.Revision(0) <= before+5 {
				if mark, w := first.write(context.Background()); w.status == http.StatusOK {
					first.kept[mark] = true
				}
			}
			q.cluster.Sever()
			if err := lagging.cp.Signal(syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
			eventually(t, func() error {
				want, err := first.policies()
				if err != nil {
					return err
				}
				got, err := lagging.policies()
				if err != nil {
					return err
				}
				if d := differences(got, want); len(d) > 0 {
					return fmt.Errorf("the control plane that was away differs in %d policies: %s", len(d), d[0])
				}
				return nil
			})
			q.judge()
			for _, r := range q.replicas {
				r.onlooker.allowBack(false)
			}
		})
	}
}

// state is what all hold: the onlookers, and the policies as both control planes answer them.
func (q *quorum) state() held {
	q.t.Helper()
	all := held{}
	for _, r := range q.replicas {
		policies, err := r.policies()
		if err != nil {
			q.t.Fatal(err)
		}
		for name, timeout := range policies {
			all[r.name+" has "+name] = timeout
		}
		for _, service := range q.services() {
			n, err := r.onlooker.holds(service)
			all[r.name+" shows "+service] = fmt.Sprint(n, err)
		}
	}
	return all
}
