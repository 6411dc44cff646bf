package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/internal/testkit/etcdcluster"
	"github.com/breakwater-mesh/breakwater/internal/testkit/ports"
	"github.com/breakwater-mesh/breakwater/internal/testkit/wire"
	"github.com/breakwater-mesh/breakwater/pkg/store"
	"github.com/breakwater-mesh/breakwater/pkg/store/etcd"
	"github.com/breakwater-mesh/breakwater/pkg/store/storetest"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"go.uber.org/zap"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, endpoints []string) *etcd.Store {
	t.Helper()
	return openWith(t, etcd.Options{Endpoints: endpoints})
}

// openOver is a store over the one member of c, and another one over a link to it.
func openOver(t *testing.T, c *etcdcluster.Cluster) (direct, s *etcd.Store, link *wire.Link) {
	t.Helper()
	link, err := wire.Start(strings.TrimPrefix(c.Endpoints()[0], "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(link.Close)
	return open(t, c.Endpoints()), open(t, []string{"http://" + link.Address}), link
}

func openWith(t *testing.T, o etcd.Options) *etcd.Store {
	t.Helper()
	s, err := etcd.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

// TestCluster runs what needs three members over one cluster, the contract first. The order matters only to the last one, which
// throws the data away.
func TestCluster(t *testing.T) {
	t.Parallel()
	c := etcdcluster.Start(t, 3)
	s := open(t, c.Endpoints())
	limits := store.Limits{MaxOps: etcd.DefaultMaxTxnOps, MaxBytes: etcd.DefaultMaxRequestBytes, OpsFlag: "--etcd-max-txn-ops"}
	storetest.Run(t, storetest.Options{}, func(t *testing.T) storetest.Fixture {
		return storetest.Fixture{KV: s, Limits: limits, Compact: s.Compact}
	})
	for _, test := range []struct {
		name string
		run  func(*testing.T, *etcdcluster.Cluster)
	}{
		{"LeaderKilledUnderWrites", testLeaderKilled},
		{"NoQuorum", testNoQuorum},
		{"AllMembersRestarted", testAllRestarted},
		{"StoreWentBack", testWentBack},
		{"AnotherCluster", testAnotherCluster},
	} {
		if !t.Run(test.name, func(t *testing.T) { test.run(t, c) }) {
			break
		}
	}
}

// testLeaderKilled: a write that was acked is there afterwards, and a watch and a follower see every change once and in order.
func testLeaderKilled(t *testing.T, c *etcdcluster.Cluster) {
	const prefix, writers = "/leader-killed/", 4
	s := open(t, c.Endpoints())
	start, err := s.List(t.Context(), prefix)
	if err != nil {
		t.Fatal(err)
	}
	mirror, stop := storetest.Follow(t, s, prefix)
	defer stop()
	mirror.WaitRevision(t, start.Revision)

	loads := make([]*load, writers)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for i := range writers {
		loads[i] = &load{kv: s, prefix: fmt.Sprintf("%s%d/", prefix, i), enough: make(chan struct{}), more: 20}
		wg.Go(func() { loads[i].run(ctx) })
	}
	for _, l := range loads {
		l.waitAcked(t, 20)
	}
	leader := c.Leader()
	c.Kill(leader)
	for _, l := range loads {
		l.finish()
	}
	wg.Wait()
	c.Restart(leader)
	c.WaitHealthy()

	snap, err := s.List(t.Context(), prefix)
	if err != nil {
		t.Fatal(err)
	}
	present := make(map[string]store.Entry)
	for _, e := range snap.Entries {
		present[e.Key] = e
	}
	var gap time.Duration
	acked, unknown := 0, 0
	for _, l := range loads {
		for key, revision := range l.acked {
			if present[key].Revision != revision {
				t.Errorf("%s was acked at revision %d; the store has %d", key, revision, present[key].Revision)
			}
		}
		acked, unknown, gap = acked+len(l.acked), unknown+l.unknown, max(gap, l.gap)
	}
	t.Logf("%d writes acked, %d of unknown outcome, the longest gap between two acks %v", acked, unknown, gap.Round(time.Millisecond))
	if gap > 5*time.Second {
		t.Errorf("no write was taken for %v after the leader's death", gap)
	}
	last := snap.Entries[0].Revision
	for _, e := range snap.Entries {
		last = max(last, e.Revision)
	}
	mirror.WaitRevision(t, last)
	mirror.Check(t, snap)
	checkDeliveries(t, mirror.Deliveries(), snap)
	waitCaughtUp(t, c, leader, last)
}

// checkDeliveries: every key was created once, so that each must have been told exactly once, in the order of revisions.
func checkDeliveries(t *testing.T, deliveries []store.Delivery, snap store.Snapshot) {
	t.Helper()
	told := make(map[string]int)
	var last int64
	for i, d := range deliveries {
		if d.Reset || d.Snapshot != (i == 0) {
			t.Errorf("delivery %d: reset %v, snapshot %v", i, d.Reset, d.Snapshot)
		}
		for _, ev := range d.Events {
			told[ev.Key]++
			if ev.Revision < last {
				t.Errorf("%s of revision %d told after %d", ev.Key, ev.Revision, last)
			}
			last = ev.Revision
		}
	}
	for _, e := range snap.Entries {
		if told[e.Key] != 1 {
			t.Errorf("%s was told %d times, want once", e.Key, told[e.Key])
		}
	}
}

// waitCaughtUp waits until a member that came back has itself applied revision.
func waitCaughtUp(t *testing.T, c *etcdcluster.Cluster, member int, revision int64) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for c.Revision(member) < revision {
		if time.Now().After(deadline) {
			t.Fatalf("the restarted member is at revision %d, want %d", c.Revision(member), revision)
		}
	}
}

// load is one writer: it creates key after key.
type load struct {
	kv     store.KV
	prefix string
	more   int           // acks after the fault, then it ends
	enough chan struct{} // closed by finish

	mu      sync.Mutex
	acked   map[string]int64 // revisions by key
	unknown int              // writes that may or may not have happened
	lastAck time.Time
	gap     time.Duration
}

func (l *load) run(ctx context.Context) {
	remaining := l.more
	for i := 0; remaining > 0 && ctx.Err() == nil; i++ {
		key := fmt.Sprintf("%s%06d", l.prefix, i)
		call, cancel := context.WithTimeout(ctx, time.Second)
		revision, err := l.kv.Commit(call, store.Txn{Conds: []store.Cond{{Key: key}}, Ops: []store.Op{{Key: key, Value: []byte("x")}}})
		cancel()
		l.note(key, revision, err)
		select {
		case <-l.enough:
			if err == nil {
				remaining--
			}
		default:
		}
	}
}

func (l *load) note(key string, revision int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.unknown++
		return
	}
	if l.acked == nil {
		l.acked = make(map[string]int64)
	}
	now := time.Now()
	if !l.lastAck.IsZero() {
		l.gap = max(l.gap, now.Sub(l.lastAck))
	}
	l.acked[key], l.lastAck = revision, now
}

func (l *load) waitAcked(t *testing.T, n int) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		l.mu.Lock()
		have := len(l.acked)
		l.mu.Unlock()
		if have >= n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d writes acked in 20 s, want %d", have, n)
		}
		<-tick.C
	}
}

// finish lets the load end once the cluster has taken some more writes.
func (l *load) finish() { close(l.enough) }

// testNoQuorum: with two of three members dead, writes and reads fail within their deadline, and a follower says that it is
// stale; what it had stays. When a member comes back, all goes on.
func testNoQuorum(t *testing.T, c *etcdcluster.Cluster) {
	const prefix = "/no-quorum/"
	s := open(t, c.Endpoints())
	before := put(t, s, prefix+"before")
	mirror, stop := storetest.Follow(t, s, prefix)
	defer stop()
	mirror.WaitRevision(t, before)
	c.Kill(0)
	c.Kill(1)
	for name, do := range map[string]func(context.Context) error{
		"commit": func(ctx context.Context) error {
			_, err := s.Commit(ctx, store.Txn{Ops: []store.Op{{Key: prefix + "lost", Value: []byte("x")}}})
			return err
		},
		"get":  func(ctx context.Context) error { _, err := s.Get(ctx, prefix+"before"); return err },
		"list": func(ctx context.Context) error { _, err := s.List(ctx, prefix); return err },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		begin := time.Now()
		err := do(ctx)
		cancel()
		if !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s without a quorum: got %v, want ErrUnavailable", name, err)
		}
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("%s with a second to go took %v", name, took)
		}
	}
	since, why := mirror.WaitStale(t)
	t.Logf("stale since %v ago: %v", time.Since(since).Round(time.Millisecond), why)
	if since.IsZero() || !errors.Is(why, store.ErrUnavailable) {
		t.Errorf("stale since %v because of %v, want a time and ErrUnavailable", since, why)
	}
	c.Restart(0)
	c.Restart(1)
	c.WaitHealthy()
	mirror.WaitRevision(t, put(t, s, prefix+"after"))
	snap, err := s.List(t.Context(), prefix)
	if err != nil {
		t.Fatal(err)
	}
	mirror.Check(t, snap)
}

// put writes a key, as often as it takes.
func put(t *testing.T, s *etcd.Store, key string) int64 {
	t.Helper()
	return write(t, s, set(key, "x"))
}

func write(t *testing.T, s *etcd.Store, ops ...store.Op) int64 {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		revision, err := s.Commit(t.Context(), store.Txn{Ops: ops})
		if err == nil {
			return revision
		}
		if !errors.Is(err, store.ErrUnavailable) || time.Now().After(deadline) {
			t.Fatalf("write %s: %v", ops[0].Key, err)
		}
	}
}

// testAllRestarted: the whole cluster dies and comes back with its data; nothing is told twice.
func testAllRestarted(t *testing.T, c *etcdcluster.Cluster) {
	const prefix = "/all-restarted/"
	s := open(t, c.Endpoints())
	first := put(t, s, prefix+"first")
	mirror, stop := storetest.Follow(t, s, prefix)
	defer stop()
	mirror.WaitRevision(t, first)
	for i := range 3 {
		c.Kill(i)
	}
	for i := range 3 {
		c.Restart(i)
	}
	c.WaitHealthy()
	mirror.WaitRevision(t, put(t, s, prefix+"second"))
	snap, err := s.List(t.Context(), prefix)
	if err != nil {
		t.Fatal(err)
	}
	mirror.Check(t, snap)
	checkDeliveries(t, mirror.Deliveries(), snap)
}

func testWentBack(t *testing.T, c *etcdcluster.Cluster) { recreate(t, c, c.Token()) }

func testAnotherCluster(t *testing.T, c *etcdcluster.Cluster) { recreate(t, c, c.Token()+"-another") }

// recreate: the cluster comes back without its data, under the same identity or a new one: a reset tells what is gone.
func recreate(t *testing.T, c *etcdcluster.Cluster, token string) {
	const prefix = "/recreate/"
	s := open(t, c.Endpoints())
	for i := range 30 {
		put(t, s, fmt.Sprintf("%sold-%d", prefix, i))
	}
	mirror, stop := storetest.Follow(t, s, prefix)
	defer stop()
	mirror.WaitRevision(t, put(t, s, prefix+"old"))
	c.Recreate(token)
	put(t, s, prefix+"new")
	reset := mirror.WaitReset(t)
	if reset.Snapshot {
		t.Error("a reset says that it is the first snapshot")
	}
	mirror.WaitRevision(t, put(t, s, prefix+"newer"))
	snap, err := s.List(t.Context(), prefix)
	if err != nil {
		t.Fatal(err)
	}
	if len(snap.Entries) != 2 {
		t.Errorf("the new cluster has %d entries, want 2", len(snap.Entries))
	}
	mirror.Check(t, snap)
}

// TestOvertakenAfterARestore: the only member is restored from an older snapshot, as the same cluster, and comes past the revision that a
// follower has seen before that one hears of it. The writes in place of those that were lost are as like them as can be.
func TestOvertakenAfterARestore(t *testing.T) {
	t.Parallel()
	const prefix = "/overtaken/"
	c := etcdcluster.Start(t, 1)
	direct, s, link := openOver(t, c)
	put(t, direct, prefix+"kept")
	for _, test := range []struct {
		name        string
		lost, other []store.Op
	}{
		{"OtherKeys", []store.Op{set(prefix+"lost", "x")}, []store.Op{set(prefix+"other", "x")}},
		{"AnotherValueAtTheSameRevision", []store.Op{set(prefix+"kept", "lost")}, []store.Op{set(prefix+"kept", "other")}},
		{"NothingBelowThePrefix", []store.Op{{Key: prefix + "kept", Delete: true}}, []store.Op{set("/elsewhere", "x")}},
	} {
		t.Run(test.name, func(t *testing.T) {
			mirror, stop := storetest.Follow(t, s, prefix)
			defer stop()
			mirror.WaitRevision(t, put(t, direct, prefix+"before"))
			file := c.Snapshot(0)
			lost := write(t, direct, test.lost...)
			mirror.WaitRevision(t, lost)
			before := len(mirror.Deliveries())

			link.Hold()
			c.Restore(file, c.Token(), 0)
			if other := write(t, direct, test.other...); other != lost {
				t.Fatalf("the write in place of revision %d has revision %d", lost, other)
			}
			put(t, direct, prefix+"more")
			last := put(t, direct, prefix+"more")
			link.Cut()
			link.Release()
			mirror.WaitRevision(t, last)
			snap, err := direct.List(t.Context(), prefix)
			if err != nil {
				t.Fatal(err)
			}
			mirror.Check(t, snap)
			var resets []error
			for _, d := range mirror.Deliveries()[before:] {
				if d.Reset {
					resets = append(resets, d.Why)
				}
			}
			if len(resets) != 1 {
				t.Errorf("%d resets, want one: %v", len(resets), resets)
			}
			t.Log(resets)
		})
	}
}

func set(key, value string) store.Op { return store.Op{Key: key, Value: []byte(value)} }

// TestSilentWatch: nothing comes any more over the connections to the one address there is, though they stay open. Within ten seconds a watch
// says so and goes on over new ones.
func TestSilentWatch(t *testing.T) {
	t.Parallel()
	const prefix = "/silent/"
	c := etcdcluster.Start(t, 1)
	direct, s, link := openOver(t, c)
	mirror, stop := storetest.Follow(t, s, prefix)
	defer stop()
	mirror.WaitRevision(t, put(t, direct, prefix+"before"))

	link.Strand()
	stranded := time.Now()
	revision := put(t, direct, prefix+"unheard")
	_, why := mirror.WaitStale(t)
	t.Logf("stale after %v: %v", time.Since(stranded).Round(time.Millisecond), why)
	mirror.WaitRevision(t, revision)
	if took := time.Since(stranded); took > 14*time.Second {
		t.Errorf("the watch went on after %v, want about ten seconds", took)
	}
	snap, err := direct.List(t.Context(), prefix)
	if err != nil {
		t.Fatal(err)
	}
	mirror.Check(t, snap)
	checkDeliveries(t, mirror.Deliveries(), snap)
}

// TestUserAndPassword runs against a member that asks for them.
func TestUserAndPassword(t *testing.T) {
	t.Parallel()
	c := etcdcluster.Start(t, 1)
	admin, err := clientv3.New(clientv3.Config{Endpoints: c.Endpoints(), Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	_, roleErr := admin.RoleAdd(t.Context(), "breakwater")
	_, grantErr := admin.RoleGrantPermission(t.Context(), "breakwater", "/breakwater/", "/breakwater0", clientv3.PermissionType(clientv3.PermReadWrite))
	_, rootErr := admin.UserAdd(t.Context(), "root", "secret")
	_, rootRoleErr := admin.UserGrantRole(t.Context(), "root", "root")
	_, userErr := admin.UserAdd(t.Context(), "bw", "right")
	_, userRoleErr := admin.UserGrantRole(t.Context(), "bw", "breakwater")
	_, enableErr := admin.AuthEnable(t.Context())
	if err := errors.Join(roleErr, grantErr, rootErr, rootRoleErr, userErr, userRoleErr, enableErr, admin.Close()); err != nil {
		t.Fatal(err)
	}

	s := openWith(t, etcd.Options{Endpoints: c.Endpoints(), User: "bw", Password: "right"})
	mirror, stop := storetest.Follow(t, s, store.ConfigPrefix)
	defer stop()
	mirror.WaitRevision(t, put(t, s, store.PolicyKey("shop", "retries")))
	_, err = s.Commit(t.Context(), store.Txn{Ops: []store.Op{{Key: "/elsewhere", Value: []byte("x")}}})
	if err == nil || errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("a write outside of the user's keys: got %v, want a refusal for good", err)
	}
	for _, o := range []etcd.Options{{User: "bw", Password: "wrong"}, {}} {
		o.Endpoints, o.DialTimeout = c.Endpoints(), time.Minute
		begin := time.Now()
		s, err := etcd.Open(t.Context(), o)
		if err == nil {
			t.Errorf("opened with user %q and password %q", o.User, o.Password)
			_ = s.Close()
		} else if errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), c.Endpoints()[0]) || !strings.Contains(err.Error(), "--etcd-user") || time.Since(begin) > 15*time.Second {
			t.Errorf("user %q, password %q: got %v after %v, want a refusal at once that names the endpoint and --etcd-user", o.User, o.Password, err, time.Since(begin))
		}
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	refused := "http://" + ports.Closed()
	mute, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	for _, test := range []struct {
		name string
		o    etcd.Options
		most time.Duration
		want []string
	}{
		{"refused", etcd.Options{Endpoints: []string{refused}}, time.Second, []string{refused, "connection refused"}},
		{"mute", etcd.Options{Endpoints: []string{"http://" + mute.Addr().String()}, DialTimeout: time.Second}, 3 * time.Second, []string{mute.Addr().String()}},
		{"mute, with a user", etcd.Options{Endpoints: []string{"http://" + mute.Addr().String()}, DialTimeout: time.Second, User: "u", Password: "p"}, 3 * time.Second, []string{mute.Addr().String()}},
		{"none", etcd.Options{}, time.Second, []string{"no endpoints"}},
		{"no such CA", etcd.Options{Endpoints: []string{refused}, CAFile: "/no/such/file"}, time.Second, []string{"/no/such/file"}},
		{"no such certificate", etcd.Options{Endpoints: []string{refused}, CertFile: "/no/such/cert", KeyFile: "/no/such/key"}, time.Second, []string{"/no/such/cert"}},
	} {
		begin := time.Now()
		s, err := etcd.Open(t.Context(), test.o)
		if err == nil {
			t.Errorf("%s: opened", test.name)
			_ = s.Close()
			continue
		}
		for _, want := range test.want {
			if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: got %q, want one line with %q", test.name, err, want)
			}
		}
		if took := time.Since(begin); took > test.most {
			t.Errorf("%s: took %v, want at most %v", test.name, took, test.most)
		}
	}
}
