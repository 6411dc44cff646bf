package resilience

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// envoyDefaults is `outlier_detection: {}`.
func envoyDefaults() Outlier {
	return Outlier{
		Consecutive5xx:                Consecutive{5, 100},
		ConsecutiveGatewayFailure:     Consecutive{5, 0},
		ConsecutiveLocalOriginFailure: Consecutive{5, 100},
		SuccessRate:                   SuccessRate{MinimumHosts: 5, RequestVolume: 100, StdevFactor: 1900, Enforcing: 100},
		FailurePercentage:             FailurePercentage{Threshold: 85, MinimumHosts: 5, RequestVolume: 50},
		EnforcingLocalOriginSR:        100,
		Interval:                      10 * time.Second,
		BaseEjectionTime:              30 * time.Second,
		MaxEjectionTime:               300 * time.Second,
		MaxEjectionPercent:            10,
		UnejectOnHealthCheck:          true,
	}
}

// eager is a detector that ejects whom it can.
func eager() Outlier {
	c := envoyDefaults()
	c.MaxEjectionPercent = 100
	return c
}

func zero() uint64 { return 0 }

// ring is a cluster under test, with its own clock.
type ring struct {
	t     *testing.T
	d     *Detector
	hosts []*HostState
	now   time.Time
	rnd   Rand
	log   []string
}

func newRing(t *testing.T, n int, c Outlier) *ring {
	r := &ring{t: t, d: NewDetector(c), now: time.Unix(1000, 0), rnd: zero}
	for range n {
		r.hosts = append(r.hosts, NewHostState())
	}
	return r
}

// record charges outcomes to a host, as a call would, and logs what happened.
func (r *ring) record(host int, outcomes ...Outcome) {
	for _, o := range outcomes {
		if ask := r.d.Record(r.hosts[host], o); ask != 0 {
			r.write(r.d.Eject(r.hosts, r.hosts[host], ask, r.now, r.rnd))
		}
	}
}

func (r *ring) tick(after time.Duration) {
	r.now = r.now.Add(after)
	r.write(r.d.Tick(r.hosts, r.now, r.rnd))
}

func (r *ring) write(events []Event) {
	for _, e := range events {
		r.log = append(r.log, fmt.Sprintf("%d %s %s", slices.Index(r.hosts, e.Host), asks[e.By], actions[e.Action]))
	}
}

// want compares the log since the last call.
func (r *ring) want(lines ...string) {
	r.t.Helper()
	if got, want := strings.Join(r.log, "; "), strings.Join(lines, "; "); got != want {
		r.t.Errorf("got  %q\nwant %q", got, want)
	}
	r.log = nil
}

var asks = map[Ask]string{
	AskGatewayFailure: "gateway", Ask5xx: "5xx", AskLocalOriginFailure: "local", AskSuccessRate: "sr", AskFailurePercentage: "fp",
	AskLocalOriginSuccessRate: "local-sr", AskLocalOriginFailurePercentage: "local-fp", AskDegraded: "degraded",
}

var actions = map[Action]string{
	HostEjected: "ejected", HostSpared: "spared", HostOverflow: "overflow", HostUnejected: "unejected", HostDegraded: "degraded", HostRecovered: "recovered",
}

func times(n int, o Outcome) []Outcome { return slices.Repeat([]Outcome{o}, n) }

func TestConsecutive(t *testing.T) {
	split := func(c *Outlier) { c.SplitLocalOriginErrors = true }
	gateway := func(c *Outlier) { c.ConsecutiveGatewayFailure.Enforcing = 100 }
	for _, tt := range []struct {
		name     string
		change   func(*Outlier)
		outcomes []Outcome
		want     string
	}{
		{"five 500", nil, times(5, 500), "0 5xx ejected"},
		{"four 500", nil, times(4, 500), ""},
		{"a success between", nil, slices.Concat(times(4, 500), times(1, 200), times(4, 500)), ""},
		{"a 4xx is a success", nil, slices.Concat(times(4, 500), times(1, 404), times(4, 500)), ""},
		{"600 is a success", nil, slices.Concat(times(4, 500), times(1, 600), times(4, 599)), ""},
		{"503 fires both, gateway first and not enforced", nil, times(5, 503), "0 gateway spared; 0 5xx ejected"},
		{"enforced gateway ejects first, then 5xx finds it ejected", gateway, times(5, 502), "0 gateway ejected"},
		{"500 ends a run of gateway errors", gateway, []Outcome{502, 503, 504, 503, 500}, "0 5xx ejected"},
		{"501 is no gateway error", gateway, times(5, 501), "0 5xx ejected"},
		{"505 is no gateway error", gateway, times(5, 505), "0 5xx ejected"},
		{"connect failure is 503", nil, times(5, ConnectFailed), "0 gateway spared; 0 5xx ejected"},
		{"reset is 503", nil, times(5, Reset), "0 gateway spared; 0 5xx ejected"},
		{"timeout is 504", nil, times(5, TimedOut), "0 gateway spared; 0 5xx ejected"},
		{"a timeout as 204 is a success", nil, slices.Concat(times(4, 500), times(1, TimedOutAs204), times(4, 500)), ""},
		{"connected means nothing", nil, []Outcome{500, Connected, 500, Connected, 500, Connected, 500, Connected, 500}, "0 5xx ejected"},
		{"overflow means nothing", nil, slices.Concat(times(4, 500), times(5, OutcomeIgnored), times(1, 500)), "0 5xx ejected"},
		{"threshold 0 never fires", func(c *Outlier) { c.Consecutive5xx.Threshold = 0; c.ConsecutiveGatewayFailure.Threshold = 0 }, times(50, 503), ""},
		{"threshold 1", func(c *Outlier) { c.Consecutive5xx.Threshold = 1 }, times(1, 500), "0 5xx ejected"},
		{"fires on equality, then not while ejected", nil, times(20, 500), "0 5xx ejected"},
		{"not enforced: the counter restarts", func(c *Outlier) { c.Consecutive5xx.Enforcing = 0 }, times(10, 500), "0 5xx spared; 0 5xx spared"},
		{"overflow: the counter restarts", func(c *Outlier) { c.MaxEjectionPercent = 0 }, times(10, 500), "0 5xx overflow; 0 5xx overflow"},
		{"split: connect failures are local", split, times(5, ConnectFailed), "0 local ejected"},
		{"split: resets and timeouts are local", split, []Outcome{Reset, TimedOut, Reset, TimedOutAs204, Reset}, "0 local ejected"},
		{"split: connecting clears", split, []Outcome{Reset, Reset, Reset, Reset, Connected, Reset}, ""},
		{"split: codes don't clear", split, []Outcome{Reset, Reset, 200, Reset, Reset, 200, Reset}, "0 local ejected"},
		{"split: local failures don't count as 5xx", split, []Outcome{500, 500, 500, 500, Reset, Reset}, ""},
		{"split: codes feed 5xx", split, times(5, 503), "0 gateway spared; 0 5xx ejected"},
		{"gRPC codes", nil, []Outcome{GRPCOutcome(2), GRPCOutcome(4), GRPCOutcome(12), GRPCOutcome(14), GRPCOutcome(99)}, "0 5xx ejected"},
		{"gRPC OK ends a run", nil, []Outcome{500, 500, 500, 500, GRPCOutcome(0), 500}, ""},
		{"gRPC 4 and 14 are gateway errors, 13 is not", gateway, []Outcome{GRPCOutcome(4), GRPCOutcome(14), GRPCOutcome(14), GRPCOutcome(4), GRPCOutcome(13)}, "0 5xx ejected"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := eager()
			if tt.change != nil {
				tt.change(&c)
			}
			r := newRing(t, 1, c)
			r.record(0, tt.outcomes...)
			if got := strings.Join(r.log, "; "); got != tt.want {
				t.Errorf("%v: got %q, want %q", tt.outcomes, got, tt.want)
			}
		})
	}
}

func TestEjectGate(t *testing.T) {
	for _, tt := range []struct {
		hosts   int
		percent uint32
		always  bool
		want    int // ejected when all fail
	}{
		{3, 10, false, 0}, {3, 33, false, 0}, {3, 34, false, 1}, {3, 10, true, 1}, {3, 0, true, 1}, {3, 100, false, 3},
		{9, 10, false, 0}, {10, 10, false, 1}, {20, 10, false, 2}, {10, 55, false, 5}, {4, 50, true, 2}, {1, 100, false, 1},
		{2, 400, false, 2},
	} {
		c := eager()
		c.MaxEjectionPercent, c.AlwaysEjectOneHost = tt.percent, tt.always
		r := newRing(t, tt.hosts, c)
		for i := range r.hosts {
			r.record(i, times(5, 500)...)
		}
		got := 0
		for _, h := range r.hosts {
			if h.Ejected() {
				got++
			}
		}
		if got != tt.want {
			t.Errorf("%d hosts, max %d %%, always one %v: %d ejected, want %d", tt.hosts, tt.percent, tt.always, got, tt.want)
		}
		if overflow := strings.Count(strings.Join(r.log, "\n"), "overflow"); overflow != tt.hosts-tt.want {
			t.Errorf("%d hosts, max %d %%: %d overflows, want %d", tt.hosts, tt.percent, overflow, tt.hosts-tt.want)
		}
	}
}

func TestEnforcingRoll(t *testing.T) {
	for _, tt := range []struct {
		roll      uint64
		enforcing uint32
		want      string
	}{
		{39, 40, "0 5xx ejected"}, {40, 40, "0 5xx spared"}, {139, 40, "0 5xx ejected"}, {0, 0, "0 5xx spared"}, {99, 100, "0 5xx ejected"},
	} {
		c := eager()
		c.Consecutive5xx.Enforcing = tt.enforcing
		r := newRing(t, 1, c)
		r.rnd = func() uint64 { return tt.roll }
		r.record(0, times(5, 500)...)
		r.want(tt.want)
	}
}

func TestHostThatIsGoneIsNotEjected(t *testing.T) {
	r := newRing(t, 2, eager())
	gone := r.hosts[0]
	if got := r.d.Eject(r.hosts[1:], gone, Ask5xx, r.now, zero); got != nil || gone.Ejected() {
		t.Errorf("got %v, ejected %v; want nothing", got, gone.Ejected())
	}
}

func TestEjectionEndsAtTheTickAfterItsTime(t *testing.T) {
	r := newRing(t, 1, eager())
	r.tick(10 * time.Second)
	r.now = r.now.Add(time.Second)
	r.record(0, times(5, 500)...)
	r.want("0 5xx ejected")
	for range 3 {
		r.tick(9*time.Second + 999*time.Millisecond) // 29.997 s
	}
	r.want()
	r.tick(3 * time.Millisecond)
	r.want("0 5xx unejected")
}

func TestUnejectClearsEveryCounter(t *testing.T) {
	c := eager()
	c.SplitLocalOriginErrors = true
	r := newRing(t, 1, c)
	r.record(0, times(4, Reset)...)
	r.record(0, times(5, 500)...)
	r.record(0, times(4, 503)...) // while ejected, as in a panic
	r.tick(30 * time.Second)
	r.want("0 5xx ejected", "0 5xx unejected")
	r.record(0, times(4, Reset)...)
	r.record(0, times(4, 503)...)
	r.want()
	r.record(0, Reset)
	r.want("0 local ejected")
}

func TestEjectionsGrowUpToTheLongest(t *testing.T) {
	c := eager()
	c.Interval = time.Second
	r := newRing(t, 1, c)
	for i, want := range []int{30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300, 300} {
		r.record(0, times(5, 500)...)
		seconds := 0
		for r.hosts[0].Ejected() {
			r.tick(time.Second)
			seconds++
		}
		if seconds != want {
			t.Errorf("ejection %d lasted %d s, want %d", i+1, seconds, want)
		}
	}
	if got := r.hosts[0].Ejections(); got != 13 {
		t.Errorf("%d ejections, want 13", got)
	}
}

func TestBackOffDecaysByTicksInRotation(t *testing.T) {
	r := newRing(t, 1, eager())
	eject := func() time.Duration {
		r.record(0, times(5, 500)...)
		start := r.now
		for r.hosts[0].Ejected() {
			r.tick(10 * time.Second)
		}
		return r.now.Sub(start)
	}
	for _, tt := range []struct {
		ticks int // in rotation before the ejection
		want  time.Duration
	}{
		{0, 30 * time.Second}, {0, 60 * time.Second}, {0, 90 * time.Second}, // the tick of the uneject doesn't count
		{1, 90 * time.Second}, {2, 60 * time.Second}, {9, 30 * time.Second}, {9, 30 * time.Second},
	} {
		for range tt.ticks {
			r.tick(10 * time.Second)
		}
		if got := eject(); got != tt.want {
			t.Errorf("after %d ticks in rotation the ejection lasted %v, want %v", tt.ticks, got, tt.want)
		}
	}
}

func TestJitterIsAddedPerEjection(t *testing.T) {
	c := eager()
	c.MaxEjectionTime, c.MaxEjectionTimeJitter = c.BaseEjectionTime, 100*time.Millisecond
	for _, tt := range []struct {
		draw uint64
		want time.Duration
	}{{0, 0}, {100, 100 * time.Millisecond}, {101, 0}, {150, 49 * time.Millisecond}} {
		r := newRing(t, 1, c)
		draws := []uint64{0, tt.draw}
		r.rnd = func() uint64 { n := draws[0]; draws = draws[1:]; return n }
		r.record(0, times(5, 500)...)
		if tt.want > 0 {
			r.tick(30*time.Second + tt.want - time.Millisecond)
			r.want("0 5xx ejected")
			r.tick(time.Millisecond)
			r.want("0 5xx unejected")
			continue
		}
		r.tick(30 * time.Second)
		r.want("0 5xx ejected", "0 5xx unejected")
	}
}

// traffic charges n results to a host, ok of them successes, so that no consecutive detector fires.
func (r *ring) traffic(host, n, ok int, good, bad Outcome) {
	for i := range n {
		if i < ok {
			r.d.Record(r.hosts[host], good)
		} else {
			r.d.Record(r.hosts[host], bad)
		}
	}
}

func TestSuccessRate(t *testing.T) {
	quiet := func(c *Outlier) { c.Consecutive5xx.Threshold, c.ConsecutiveGatewayFailure.Threshold = 0, 0 }
	for _, tt := range []struct {
		name   string
		rates  []int // successes of 100
		change func(*Outlier)
		want   string
	}{
		{"mean 90, deviation 20, bound 52", []int{50, 100, 100, 100, 100}, nil, "0 sr ejected"},
		{"as good as the bound", []int{50, 100, 100, 100, 100}, func(c *Outlier) { c.SuccessRate.StdevFactor = 2000 }, ""},
		{"too few hosts", []int{50, 100, 100, 100}, nil, ""},
		{"all equal", []int{70, 70, 70, 70, 70}, nil, ""},
		{"all dead: nobody is an outlier", []int{0, 0, 0, 0, 0}, func(c *Outlier) { c.FailurePercentage.Threshold = 101 }, ""},
		{"not enforced", []int{50, 100, 100, 100, 100}, func(c *Outlier) { c.SuccessRate.Enforcing = 0 }, "0 sr spared"},
		{"too little traffic", []int{50, 100, 100, 100, 100}, func(c *Outlier) { c.SuccessRate.RequestVolume = 101 }, ""},
		{"one host short of traffic makes too few", []int{50, 100, 100, 100, -1}, nil, ""},
		{"capped", []int{0, 100, 100, 100, 100, 100, 100, 0, 100, 100, 100}, func(c *Outlier) { c.MaxEjectionPercent = 10 }, "0 sr ejected; 7 sr overflow; 0 fp overflow; 7 fp overflow"},
		{"failure percentage at its threshold", []int{15, 100, 100, 100, 100}, func(c *Outlier) { c.FailurePercentage.Enforcing, c.SuccessRate.MinimumHosts = 100, 99 }, "0 fp ejected"},
		{"failure percentage below", []int{16, 100, 100, 100, 100}, func(c *Outlier) { c.FailurePercentage.Enforcing, c.SuccessRate.MinimumHosts = 100, 99 }, ""},
		{"failure percentage is told though not enforced", []int{15, 100, 100, 100, 100}, nil, "0 sr ejected; 0 fp spared"},
		{"failure percentage counts hosts with traffic", []int{0, 100, 100, 100, -1}, func(c *Outlier) { c.FailurePercentage.Enforcing, c.SuccessRate.MinimumHosts = 100, 99 }, ""},
		{"failure percentage ejects all", []int{0, 0, 0, 0, 0}, func(c *Outlier) { c.FailurePercentage.Enforcing = 100 }, "0 fp ejected; 1 fp ejected; 2 fp ejected; 3 fp ejected; 4 fp ejected"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, local := range []bool{false, true} {
				c, want := eager(), tt.want
				quiet(&c)
				if tt.change != nil {
					tt.change(&c)
				}
				good, bad := Outcome(200), Outcome(500)
				if local {
					c.SplitLocalOriginErrors, c.ConsecutiveLocalOriginFailure.Threshold = true, 0
					c.EnforcingLocalOriginSR, c.EnforcingLocalOriginFP = c.SuccessRate.Enforcing, c.FailurePercentage.Enforcing
					good, bad = Connected, ConnectFailed
					want = strings.NewReplacer(" sr ", " local-sr ", " fp ", " local-fp ").Replace(want)
				}
				r := newRing(t, len(tt.rates), c)
				for i, ok := range tt.rates {
					if ok < 0 {
						r.traffic(i, 10, 10, good, bad)
						continue
					}
					r.traffic(i, 100, ok, good, bad)
				}
				r.tick(c.Interval)
				if got := strings.Join(r.log, "; "); got != want {
					t.Errorf("local %v: got %q, want %q", local, got, want)
				}
			}
		})
	}
}

func TestOnlyTheLastIntervalIsJudged(t *testing.T) {
	c := eager()
	c.Consecutive5xx.Threshold, c.ConsecutiveGatewayFailure.Threshold = 0, 0
	r := newRing(t, 5, c)
	for i := range r.hosts {
		r.traffic(i, 99, min(99, 20+30*i), 200, 500)
	}
	r.tick(c.Interval)
	for i := range r.hosts {
		r.traffic(i, 99, 99, 200, 500)
	}
	r.tick(c.Interval)
	r.want()
}

func TestEjectedHostsAreNotJudged(t *testing.T) {
	c := eager()
	c.ConsecutiveGatewayFailure.Threshold = 0
	r := newRing(t, 5, c)
	r.record(0, times(5, 500)...)
	for i := range r.hosts {
		r.traffic(i, 200, 200*min(i, 1), 200, 500)
	}
	r.tick(c.Interval)
	r.want("0 5xx ejected") // four hosts are left: too few to compare
}

func TestHealthCheckUnejects(t *testing.T) {
	r := newRing(t, 1, eager())
	h := r.hosts[0]
	r.record(0, times(5, 500)...)
	h.SetCheck(true, false)
	if _, ok := r.d.CheckPassed(h, r.now); ok || !h.Ejected() {
		t.Error("a host that fails its check came back")
	}
	h.SetCheck(false, false)
	event, ok := r.d.CheckPassed(h, r.now)
	if !ok || h.Ejected() || event.Action != HostUnejected || event.By != Ask5xx {
		t.Errorf("got %+v, %v; want it unejected", event, ok)
	}
	r.record(0, times(4, 500)...)
	off := eager()
	off.UnejectOnHealthCheck = false
	r.d = NewDetector(off)
	r.record(0, 500)
	if _, ok := r.d.CheckPassed(h, r.now); ok {
		t.Error("came back though switched off")
	}
}

func TestEventTells(t *testing.T) {
	r := newRing(t, 5, eager())
	h := r.hosts[0]
	for i := range 5 {
		r.traffic(i, 100, 50+50*min(i, 1), 200, 404)
	}
	eject := func() Event { return r.d.Eject(r.hosts, h, Ask5xx, r.now, zero)[0] }
	if got, want := eject(), (Event{Host: h, By: Ask5xx, Action: HostEjected, Ejections: 1, Since: -1}); got != want {
		t.Errorf("first ejection: %+v, want %+v", got, want)
	}
	r.now = r.now.Add(31 * time.Second)
	got, want := r.d.Tick(r.hosts, r.now, zero), Event{Host: h, By: Ask5xx, Action: HostUnejected, Ejections: 1, Since: 31 * time.Second}
	if len(got) != 1 || got[0] != want {
		t.Errorf("tick: %+v, want %+v", got, want)
	}
	r.now = r.now.Add(7 * time.Second)
	if got, want := eject(), (Event{Host: h, By: Ask5xx, Action: HostEjected, Ejections: 2, Since: 7 * time.Second}); got != want {
		t.Errorf("second ejection: %+v, want %+v", got, want)
	}

	c := eager()
	c.Consecutive5xx.Threshold, c.ConsecutiveGatewayFailure.Threshold = 0, 0
	r = newRing(t, 5, c)
	for i := range r.hosts {
		r.traffic(i, 100, 50+50*min(i, 1), 200, 500)
	}
	want = Event{Host: r.hosts[0], By: AskSuccessRate, Action: HostEjected, Ejections: 1, Since: -1, Rate: 50, Mean: 90, Bound: 52}
	if got := r.d.Tick(r.hosts, r.now, zero); len(got) != 1 || got[0] != want {
		t.Errorf("success rate: %+v, want %+v", got, want)
	}
}

func TestAdopt(t *testing.T) {
	r := newRing(t, 1, eager())
	r.record(0, times(4, 503)...)
	lower := eager()
	lower.Consecutive5xx.Threshold = 3
	r.d = NewDetector(lower)
	r.d.Adopt(r.hosts)
	r.record(0, 500)
	r.want("0 5xx ejected")
}

func TestRelease(t *testing.T) {
	r := newRing(t, 2, eager())
	r.record(1, times(5, 500)...)
	r.write(Release(r.hosts, r.now))
	r.want("1 5xx ejected", "1 5xx unejected")
}

func TestDegraded(t *testing.T) {
	c := eager()
	r := newRing(t, 1, c)
	if _, ok := r.d.RecordDegraded(r.hosts[0], r.now, zero); ok {
		t.Error("degraded though not asked to detect it")
	}
	c.DetectDegradedHosts = true
	r.d = NewDetector(c)
	for _, want := range []time.Duration{30 * time.Second, 60 * time.Second} {
		event, ok := r.d.RecordDegraded(r.hosts[0], r.now, zero)
		if _, again := r.d.RecordDegraded(r.hosts[0], r.now, zero); !ok || again || !r.hosts[0].Degraded() || r.hosts[0].Ejected() {
			t.Fatalf("event %+v, again %v, degraded %v, ejected %v", event, again, r.hosts[0].Degraded(), r.hosts[0].Ejected())
		}
		start := r.now
		for r.hosts[0].Degraded() {
			r.tick(10 * time.Second)
		}
		if got := r.now.Sub(start); got != want {
			t.Errorf("degraded for %v, want %v", got, want)
		}
	}
	r.want("0 degraded recovered", "0 degraded recovered")
}

func BenchmarkRecordSuccess(b *testing.B) {
	d, h := NewDetector(envoyDefaults()), NewHostState()
	b.ReportAllocs()
	for b.Loop() {
		if d.Record(h, 200) != 0 {
			b.Fatal("fired")
		}
	}
}

func TestRecordAllocatesNothing(t *testing.T) {
	d, h := NewDetector(envoyDefaults()), NewHostState()
	if n := testing.AllocsPerRun(100, func() { d.Record(h, 200); d.Record(h, 503); d.Record(h, Connected) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
