package differential_test

import (
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// compared are the statistics of a cluster that must agree.
var compared = []string{
	"upstream_rq_total", "upstream_rq_completed", "upstream_rq_200", "upstream_rq_4xx", "upstream_rq_5xx", "upstream_rq_503", "upstream_rq_504",
	"upstream_rq_retry", "upstream_rq_retry_success", "upstream_rq_retry_limit_exceeded", "upstream_rq_retry_overflow",
	"upstream_rq_retry_backoff_exponential", "upstream_rq_retry_backoff_ratelimited",
	"upstream_rq_timeout", "upstream_rq_per_try_timeout", "upstream_rq_per_try_idle_timeout", "upstream_rq_max_duration_reached",
	"upstream_rq_active_overflow", "upstream_rq_pending_overflow", "upstream_rq_active", "upstream_rq_pending_active",
	"upstream_rq_rx_reset", "upstream_rq_tx_reset", "upstream_rq_pending_failure_eject", "upstream_rq_maintenance_mode",
	"upstream_cx_connect_fail", "upstream_cx_connect_timeout", "upstream_cx_overflow", "upstream_cx_pool_overflow", "upstream_cx_none_healthy",
	"lb_healthy_panic", "membership_total", "membership_healthy", "membership_degraded", "membership_excluded",
	"health_check.attempt", "health_check.success", "health_check.failure", "health_check.passive_failure", "health_check.network_failure",
	"health_check.name.one.success", "health_check.name.two.success", "health_check.name.one.healthy", "health_check.name.two.healthy",
	"health_check.verify_cluster", "health_check.healthy", "health_check.degraded", "retry_or_shadow_abandoned",
	"outlier_detection.ejections_active", "outlier_detection.ejections_overflow", "outlier_detection.ejections_enforced_total",
	"outlier_detection.ejections_enforced_consecutive_5xx", "outlier_detection.ejections_detected_consecutive_5xx",
	"outlier_detection.ejections_enforced_consecutive_gateway_failure", "outlier_detection.ejections_detected_consecutive_gateway_failure",
	"outlier_detection.ejections_enforced_consecutive_local_origin_failure", "outlier_detection.ejections_detected_consecutive_local_origin_failure",
	"outlier_detection.ejections_enforced_failure_percentage", "outlier_detection.ejections_detected_failure_percentage",
	"outlier_detection.ejections_enforced_success_rate", "outlier_detection.ejections_detected_success_rate",
}

// pick is the part of the statistics that is compared, without those the scenario ignores; what a proxy has none of counts as 0.
func pick(stats map[string]int64, ignored []string) map[string]int64 {
	picked := make(map[string]int64, len(compared))
	for _, name := range compared {
		if !slices.Contains(ignored, name) {
			picked[name] = stats[name]
		}
	}
	return picked
}

// observation is all that is compared of one side of a scenario.
type observation struct {
	answers []answer
	marks   []mark
	log     []seen
	perHost []int
	stats   map[string]int64
	beside  map[string]int64
	records []record
}

func (s *side) observe() observation {
	stats, beside, records := s.settled(), s.beside(), s.written()
	s.up.mu.Lock()
	defer s.up.mu.Unlock()
	a := s.up.sides[s.name]
	return observation{s.answers, s.marks, slices.Clone(a.log), slices.Clone(a.perHost), stats, beside, records}
}

// slack is by how much two times may differ that should be equal, beside a fifth of them: other processes share the machine.
const slack = 450 * time.Millisecond

// differences between Envoy and the agent, one line each. The order of concurrent requests counts for nothing.
func differences(sc *scenario, envoy, agent observation) []string {
	var d diff
	if sc.concurrent {
		for _, o := range []observation{envoy, agent} {
			slices.SortStableFunc(o.answers, func(a, b answer) int { return strings.Compare(a.key(), b.key()) })
		}
	}
	d.add(len(envoy.answers) == len(agent.answers), "answers", len(envoy.answers), len(agent.answers))
	for i := range min(len(envoy.answers), len(agent.answers)) {
		d.answer(sc, i+1, envoy.answers[i], agent.answers[i])
	}
	d.add(len(envoy.marks) == len(agent.marks), "waits", envoy.marks, agent.marks)
	for i := range min(len(envoy.marks), len(agent.marks)) {
		a, b := envoy.marks[i], agent.marks[i]
		d.add(!a.vain && !b.vain, "came "+a.what+" and "+b.what, !a.vain, !b.vain)
		d.add(near(a.took, b.took, sc.markSlack), "time until "+a.what, a.took, b.took)
	}
	d.requests(sc, envoy, agent)
	if !sc.anyHost {
		d.add(slices.Equal(envoy.perHost, agent.perHost), "requests by host", envoy.perHost, agent.perHost)
	}
	for _, name := range compared {
		d.add(envoy.stats[name] == agent.stats[name], "stat "+name, envoy.stats[name], agent.stats[name])
	}
	for _, name := range sc.stats {
		d.add(envoy.beside[name] == agent.beside[name], "stat "+name, envoy.beside[name], agent.beside[name])
	}
	d.records(sc, envoy.records, agent.records)
	return slices.DeleteFunc(d, func(line string) bool {
		what, _, _ := strings.Cut(strings.TrimPrefix(line, "stat "), ":")
		return slices.Contains(sc.ignore, what)
	})
}

func (a answer) key() string { return fmt.Sprintf("%03d %s", a.status, a.body) }

func near(a, b, extra time.Duration) bool {
	return (a - b).Abs() <= slack+extra+max(a, b)/5
}

type diff []string

func (d *diff) add(same bool, what string, envoy, agent any) {
	if !same {
		*d = append(*d, fmt.Sprintf("%s: envoy %v, agent %v", what, envoy, agent))
	}
}

func (d *diff) answer(sc *scenario, n int, envoy, agent answer) {
	at := fmt.Sprintf("answer %d: ", n)
	d.add(envoy.status == agent.status, at+"status", envoy.status, agent.status)
	d.add((envoy.err == "") == (agent.err == ""), at+"error", quote(envoy.err), quote(agent.err))
	d.add(envoy.body == agent.body, at+"body", quote(envoy.body), quote(agent.body))
	d.add(envoy.cut == agent.cut, at+"cut short", envoy.cut, agent.cut)
	d.headers(at, rounded(envoy.header, agent.header, sc.coarse), agent.header)
	d.headers(at+"trailer: ", envoy.trailer, agent.trailer)
	d.add(slices.Equal(envoy.early, agent.early), at+"informational", envoy.early, agent.early)
	switch {
	case sc.longest != 0:
		for _, a := range []answer{envoy, agent} {
			d.add(a.elapsed >= sc.shortest && a.elapsed <= sc.longest+slack, at+"elapsed", envoy.elapsed, agent.elapsed)
		}
	default:
		d.add(near(envoy.elapsed, agent.elapsed, 0), at+"elapsed", envoy.elapsed, agent.elapsed)
	}
}

func (d *diff) requests(sc *scenario, envoy, agent observation) {
	d.add(len(envoy.log) == len(agent.log), "requests upstream", len(envoy.log), len(agent.log))
	for i := range min(len(envoy.log), len(agent.log)) {
		a, b := envoy.log[i], agent.log[i]
		at := fmt.Sprintf("request %d upstream: ", i+1)
		line := func(s seen) string { return s.method + " " + s.host + s.path + " " + s.body }
		d.add(line(a) == line(b), at+"request", quote(line(a)), quote(line(b)))
		d.headers(at, a.header, b.header)
		d.headers(at+"trailer: ", a.trailer, b.trailer)
	}
}

// unequal are headers whose values can't agree: only whether they are there is compared.
var unequal = []string{"X-Request-Id", "X-Envoy-Upstream-Service-Time", "X-Envoy-Expected-Rq-Timeout-Ms", "X-Breakwater-Deadline-Ms"}

// rounded is a with the values of b for the headers that differ by 1.
func rounded(a, b http.Header, names []string) http.Header {
	a = a.Clone()
	for _, name := range names {
		n, err := strconv.Atoi(a.Get(name))
		m, err2 := strconv.Atoi(b.Get(name))
		if err == nil && err2 == nil && (n-m == 1 || m-n == 1) {
			a.Set(name, b.Get(name))
		}
	}
	return a
}

func (d *diff) headers(at string, envoy, agent http.Header) {
	names := slices.Collect(maps.Keys(envoy))
	for name := range agent {
		if _, ok := envoy[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		if name == "Date" || strings.EqualFold(name, sideHeader) {
			continue
		}
		a, b := envoy[name], agent[name]
		if name == "Set-Cookie" { // what is made of the two addresses of the connection
			a, b = masked(a), masked(b)
		}
		same := slices.Equal(a, b) || len(a) == len(b) && slices.Contains(unequal, name)
		d.add(same, at+"header "+strings.ToLower(name), quote(a), quote(b))
	}
}

var hexadecimal = regexp.MustCompile(`"[0-9a-f]{16}"`)

func masked(values []string) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = hexadecimal.ReplaceAllString(v, "HASH")
	}
	return out
}

// quote is a value on one line and of a bounded length.
func quote(v any) string {
	text := fmt.Sprintf("%q", v)
	if len(text) > 160 {
		text = text[:160] + "..."
	}
	return text
}
