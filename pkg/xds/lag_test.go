package xds

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/breakwater-mesh/breakwater/pkg/view"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// stopwatch keeps what it is told of proxies that have caught up, and of bytes and streams.
type stopwatch struct {
	noMetrics
	caughtUp chan [2]time.Duration
	bytes    chan int
	forms    chan string
}

func newStopwatch() *stopwatch {
	return &stopwatch{caughtUp: make(chan [2]time.Duration, 10), bytes: make(chan int, 100), forms: make(chan string, 10)}
}

func (s *stopwatch) CaughtUp(sent, answered time.Duration) {
	s.caughtUp <- [2]time.Duration{sent, answered}
}
func (s *stopwatch) Sent(_ view.Type, _, bytes int) { s.bytes <- bytes }
func (s *stopwatch) Stream(dialect, form string, change int) {
	if change > 0 {
		s.forms <- dialect + " " + form
	}
}

// want takes the one measurement there is, of a change that was seen then, and whose last response came so long after at least.
func (s *stopwatch) want(t *testing.T, seen time.Time, least time.Duration) {
	t.Helper()
	sent := <-s.caughtUp
	if all := time.Since(seen); sent[0] < least || sent[0] > sent[1] || sent[1] > all {
		t.Errorf("caught up: sent after %s, answered after %s; want both, in this order, between %s and %s", sent[0], sent[1], least, all)
	}
	if n := len(s.caughtUp); n > 0 {
		t.Errorf("%d more measurements, want one for each change", n)
	}
}

func seenNow(h *world.Head) *world.Head {
	h.Seen = time.Now()
	return h
}

func TestHowLongAProxyIsBehindIsMeasured(t *testing.T) {
	watch := newStopwatch()
	first := seenNow(shop{}.head(1))
	r := newRig(t, first, Config{Metrics: watch})
	c := r.connect()
	c.start() // a first load is no change
	if form := <-watch.forms; form != "envoy delta" {
		t.Errorf("a stream of %q, want envoy delta", form)
	}

	one := seenNow(shop{"CDS shop/payments": "1"}.head(2))
	r.classes.publish(one)
	c.want("CDS shop/payments")
	c.want("EDS shop/payments") // with its cluster
	watch.want(t, one.Seen, 0)

	// A change of what it does not want is none.
	h := shop{"CDS shop/payments": "1"}.head(3)
	h.Views[view.RDS] = h.Views[view.RDS].With([]view.Change{view.Put(view.New(view.RDS, "shop/other", nil, nil))})
	r.classes.publish(seenNow(h))
	c.quiet()

	// A change that comes before the one before is answered counts with it.
	two := seenNow(shop{"CDS shop/payments": "1", "RDS shop/payments": "2"}.head(4))
	r.classes.publish(two)
	held := c.expect("RDS shop/payments")
	c.quiet()
	pause := time.Now()
	r.classes.publish(seenNow(shop{"CDS shop/payments": "1", "RDS shop/payments": "2", "RDS shop/billing": "2"}.head(5)))
	c.quiet() // it waits for the answer
	c.ack(held)
	c.want("RDS shop/billing")
	watch.want(t, two.Seen, pause.Sub(two.Seen))

	// A rejection is an answer.
	r.classes.publish(seenNow(shop{"CDS shop/payments": "1", "RDS shop/payments": "bad", "RDS shop/billing": "2"}.head(6)))
	c.nack(c.expect("RDS shop/payments"), "shop/payments: no")
	<-watch.caughtUp
	last := seenNow(shop{"CDS shop/payments": "1", "RDS shop/payments": "bad", "RDS shop/billing": "3"}.head(7))
	r.classes.publish(last)
	c.want("RDS shop/billing")
	watch.want(t, last.Seen, 0)
}

func TestBytesSentAreCounted(t *testing.T) {
	watch := newStopwatch()
	r := newRig(t, shop{}.head(1), Config{Metrics: watch})
	s := r.connectWorld()
	s.node.UserAgentName = "gRPC Go"
	s.ask(view.CDS, "", "", "shop/payments")
	m := s.want(view.CDS, "shop/payments")
	if got, want := <-watch.bytes, proto.Size(m); got != want {
		t.Errorf("%d bytes counted, the response has %d", got, want)
	}
	if form := <-watch.forms; form != "grpc sotw" {
		t.Errorf("a stream of %q, want grpc sotw", form)
	}
}
