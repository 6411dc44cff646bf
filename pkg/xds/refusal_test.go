package xds

import (
	"bytes"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// record is a log whose lines can be looked at while it is written.
type record struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (r *record) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(b)
}

func (r *record) lines(part string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Count(r.text.String(), part)
}

func (r *record) logger() hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{Output: r, Level: hclog.Info})
}

func TestAnOffenderIsNamedOnceInAWhile(t *testing.T) {
	log := new(record)
	o := offenders{log: log.logger()}
	now := time.Now()
	for range 1000 {
		o.name(now, "orders-1", "rate", "too fast", "node", "orders-1")
	}
	o.name(now, "orders-1", "names", "too many", "node", "orders-1")
	if n := log.lines("\n"); n != 2 {
		t.Errorf("%d lines, want one for each kind", n)
	}
	for i := range 10 * mostNamed {
		o.name(now, fmt.Sprint("invented-", i), "rate", "too fast", "node", i)
	}
	if n := log.lines("too fast"); n != mostNamed {
		t.Errorf("%d lines however many ids are invented, want %d", n, mostNamed)
	}
	o.name(now.Add(quiet), "orders-1", "rate", "too fast", "node", "orders-1")
	if log.lines("too fast") != mostNamed+1 || log.lines("times=1900") != 1 {
		t.Errorf("after a while it is named again, and what was not said is counted: %s", log.text.String())
	}
}

func TestATurnstileLetsThroughNotMoreOftenThanItMay(t *testing.T) {
	var s turnstile
	now := time.Now()
	pass := func(id string, n int) (passed int) {
		for range n {
			if s.pass(id, now) {
				passed++
			}
		}
		return passed
	}
	if n := pass("orders-1", 1000); n != opensAtOnce {
		t.Errorf("%d of 1000 passed, want %d", n, opensAtOnce)
	}
	if !s.pass("orders-2", now) {
		t.Error("another id is held up")
	}
	now = now.Add(10 * time.Second)
	if n := pass("orders-1", 1000); n != 10*opensASecond {
		t.Errorf("%d passed after 10 s, want %d", n, 10*opensASecond)
	}
	for i := range 2 * mostIDs {
		s.pass(fmt.Sprint(i), now)
	}
	if len(s.ids) > mostIDs {
		t.Errorf("%d ids are kept, want %d at most", len(s.ids), mostIDs)
	}
	now = now.Add(2 * forgetAfter)
	if s.pass("x", now); len(s.ids) != 1 {
		t.Errorf("%d ids are kept that were not seen for long", len(s.ids))
	}
}

func TestSharesOfFirstAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission(100, 20*time.Second, 3*time.Second)
		stuck, next, last := share{of: a}, share{of: a}, share{of: a}
		for range 2 {
			if !stuck.take(60, true) {
				t.Fatal("a stream that has a share waits")
			}
		}
		if next.take(60, true) {
			t.Fatal("there is room for 120 of 100 bytes")
		}
		if next.take(10, false) {
			t.Fatal("a stream goes before those that wait")
		}
		began := time.Now()
		if err := next.turn(t.Context(), 60, time.Now()); err != nil || time.Since(began) != 3*time.Second {
			t.Errorf("after %s: %v, want that a share is kept for 3 s", time.Since(began), err)
		}
		go func() {
			time.Sleep(time.Second)
			next.settle(30) // half of it was answered
		}()
		began = time.Now()
		if err := last.turn(t.Context(), 70, time.Now()); err != nil || time.Since(began) != time.Second {
			t.Errorf("after %s: %v, want that what is answered makes room", time.Since(began), err)
		}
		next.close()
		last.close()
		stuck.close()
		if !a.bytes.TryAcquire(100) {
			t.Error("something was not given back")
		}
		began = time.Now()
		if err := last.turn(t.Context(), 1000, time.Now()); status.Code(err) != codes.ResourceExhausted || time.Since(began) != 20*time.Second {
			t.Errorf("after %s: %v, want ResourceExhausted after 20 s", time.Since(began), err)
		}
		a.bytes.Release(100)
		if err := last.turn(t.Context(), 1000, time.Now()); err != nil || !a.bytes.TryAcquire(100) { // more than there ever is; and the stream has ended
			t.Errorf("%v, or what an ended stream took is kept", err)
		}
	})
}

// However many streams are stuck in their first answer, the others come to their turn.
func TestStuckStreamsDoNotKeepOthersOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, big(1, 20), Config{FirstAnswers: 4 * responseBytes})
		names := make([]string, 20)
		for i := range names {
			names[i] = fmt.Sprint("shop/s", i)
		}
		for i := range 4 {
			c := r.connect()
			c.node.Id = fmt.Sprint("stuck-", i)
			c.subscribe(view.EDS, names...)
		}
		synctest.Wait()
		began := time.Now()
		c := r.connect()
		c.node.Id = "honest"
		c.subscribe(view.EDS, names...)
		got := 0
		for got < 20 {
			m := c.recv()
			got += len(m.Resources)
			if d := time.Since(began); d < time.Second || d > 4*shareKept {
				t.Errorf("%d resources after %s, want all 20 once the others lost their turns", got, d)
			}
			c.ack(m)
		}
		c.quiet()
	})
}

func TestNearTheMemoryLimitNewStreamsAreRefusedAndOldOnesStayCurrent(t *testing.T) {
	var crowded atomic.Bool
	r := newRig(t, shop{}.head(1), Config{Crowded: func(time.Time) bool { return crowded.Load() }})
	c := r.connect()
	c.start()
	crowded.Store(true)
	late := r.connect()
	late.ended(codes.ResourceExhausted, "near its memory limit")
	r.classes.publish(shop{"limits": "5"}.head(2))
	c.subscribe(view.RTDS, "limits-0")
	c.want("RTDS limits-0")
	c.quiet()
	strangers := make([]string, fewStrange+1)
	for i := range strangers {
		strangers[i] = fmt.Sprint("strange-", i)
	}
	c.subscribe(view.RDS, strangers...)
	c.ended(codes.ResourceExhausted, "near its memory limit")
	crowded.Store(false)
	r.connect().start()
}

func TestTheMemoryLimitIsTheRuntimes(t *testing.T) {
	if used, limit := memory(); used != 0 {
		t.Errorf("%d bytes of %d count without a limit, want none", used, limit)
	}
	old := debug.SetMemoryLimit(1 << 40)
	defer debug.SetMemoryLimit(old)
	debug.FreeOSMemory()
	used, limit := memory()
	if used < 1<<20 || used > 1<<30 || limit != 1<<40 || new(headroom).near(time.Now()) {
		t.Errorf("%d bytes of %d", used, limit)
	}
	debug.SetMemoryLimit(int64(used))
	if !new(headroom).near(time.Now()) {
		t.Error("the limit is what is used, and not near")
	}
}

func TestANodeIDHasSoManyStreams(t *testing.T) {
	log := new(record)
	r := newRig(t, shop{}.head(1), Config{MaxStreams: 2, Logger: log.logger()})
	a, b := r.connect(), r.connect()
	a.start()
	b.start()
	for range 3 {
		c := r.connect()
		c.subscribe(view.LDS)
		c.ended(codes.ResourceExhausted, `node id "orders-1" has 2 streams open`)
	}
	a.stop()
	a.ended(codes.Canceled, "")
	r.wait(func() bool { return len(r.server.Proxies()) == 1 })
	r.connect().start()
	b.quiet()
	if log.lines("reason=streams") != 1 || log.lines("several streams") != 1 || log.lines("node=orders-1") != 2 {
		t.Errorf("the log names the id not once for each thing it does:\n%s", log.text.String())
	}
}

// wait waits for something that comes soon.
func (r *rig) wait(f func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatal("it does not come")
		}
	}
}

func TestAStreamThatAsksTooMuchIsSlowedDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(record)
		r := newRig(t, shop{}.head(1), Config{Logger: log.logger()})
		c := r.connect()
		c.subscribe(view.RDS)
		began := time.Now()
		const more = 10 * asksASecond
		go func() {
			for range asksAtOnce + more {
				if c.s.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: view.RDS.URL(), ResponseNonce: "stale"}) != nil {
					return
				}
			}
			_ = c.s.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: view.LDS.URL()})
		}()
		c.expect("LDS outbound")
		if d := time.Since(began).Round(time.Second); d != 10*time.Second {
			t.Errorf("the last of them was heard after %s, want 10 s", d)
		}
		if log.lines("reason=rate") != 1 {
			t.Errorf("the log does not name it once:\n%s", log.text.String())
		}
	})
}

// A proxy that answers what it has not read can't hold up its stream for ever.
func TestAnswersToWhatWasNotReadDoNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, big(1, 100), Config{})
		c := r.connect()
		names := make([]string, 100)
		for i := range names {
			names[i] = fmt.Sprint("shop/s", i)
		}
		c.subscribe(view.EDS, names...) // it reads nothing
		for i := range 10 {
			synctest.Wait()
			c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: view.EDS.URL(), ResponseNonce: fmt.Sprint(i)})
		}
		time.Sleep(DefaultAnswerTimeout + time.Second)
		synctest.Wait()
		if p := r.server.Proxies(); len(p) != 0 {
			t.Errorf("the book still has %+v", p)
		}
		c.ended(codes.DeadlineExceeded, "a response of EDS")
	})
}

func TestNoncesDiffer(t *testing.T) {
	s := New(Config{})
	a, b := &stream{server: s}, &stream{server: s}
	seen := map[string]bool{}
	for n := range uint64(1000) {
		seen[a.seal(n)], seen[b.seal(n)] = true, true
	}
	if len(seen) != 2000 || !strings.HasPrefix(a.seal(7), "7-") {
		t.Errorf("%d of 2000 nonces differ; %q", len(seen), a.seal(7))
	}
}

// What was answered makes room for others at once.
func TestAnswersGiveTheShareBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, shop{}.head(1), Config{})
		c := r.connect()
		c.subscribe(view.CDS)
		m := c.expect("CDS shop/billing shop/payments")
		if r.server.admission.bytes.TryAcquire(DefaultFirstAnswers) {
			t.Fatal("nothing is under way")
		}
		c.ack(m)
		synctest.Wait()
		if !r.server.admission.bytes.TryAcquire(DefaultFirstAnswers) {
			t.Error("what was answered counts still")
		}
	})
}

// What streams hold is gone once they have ended.
func TestARefusedStreamLeavesNothing(t *testing.T) {
	r := newRig(t, shop{}.head(1), Config{})
	for range 3 {
		c := r.connect()
		c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: "x"})
		c.ended(codes.InvalidArgument, "is not served")
	}
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	if len(r.server.streams)+len(r.server.ids) != 0 || !r.server.admission.bytes.TryAcquire(DefaultFirstAnswers) {
		t.Error("something is left")
	}
}
