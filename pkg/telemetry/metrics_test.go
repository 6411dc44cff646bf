package telemetry

import (
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// scrape is what the handler serves, by series.
func scrape(t *testing.T, m *Metrics) map[string]string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	series := make(map[string]string)
	for line := range strings.Lines(w.Body.String()) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && !strings.HasPrefix(line, "#") {
			series[name] = value
		}
	}
	return series
}

func TestEveryMetricIsServed(t *testing.T) {
	m := NewMetrics()
	m.Stream("envoy", "delta", 1)
	m.Stream("envoy", "delta", 1)
	m.Stream("envoy", "delta", -1)
	m.Stream("grpc", "sotw", 1)
	m.CaughtUp(2*time.Second, 3*time.Second)
	m.Class(4 * time.Second)
	m.Refused("memory")
	for i, typ := range []view.Type{view.RTDS, view.CDS, view.EDS, view.LDS, view.SRDS, view.RDS} {
		m.Sent(typ, i+1, 100)
		m.Sent(typ, 1, 20)
		m.Acked(typ, time.Second)
		m.Rejected(typ, 2*time.Second)
		m.Rejected(typ, 0)
	}
	m.Step(41, 3, 500*time.Millisecond, 2)
	m.Step(42, 0, time.Hour, 1) // nothing changed: no step
	want := map[string]string{
		"breakwater_xds_streams{dialect=\"envoy\",form=\"delta\"}": "1", "breakwater_xds_streams{dialect=\"grpc\",form=\"sotw\"}": "1",
		"breakwater_world_revision":                             "42",
		"breakwater_xds_push_seconds_sum{until=\"sent\"}":       "2",
		"breakwater_xds_push_seconds_sum{until=\"answered\"}":   "3",
		"breakwater_xds_push_seconds_count{until=\"sent\"}":     "1",
		"breakwater_xds_push_seconds_count{until=\"answered\"}": "1",
		"breakwater_world_class_seconds_count":                  "1", "breakwater_world_class_seconds_sum": "4",
		"breakwater_world_unbuildable_services": "1", `breakwater_xds_refused_total{reason="memory"}`: "1",
		"breakwater_world_step_seconds_count": "1", "breakwater_world_step_seconds_sum": "0.5"}
	for i, typ := range []string{"RTDS", "CDS", "EDS", "LDS", "SRDS", "RDS"} {
		want[`breakwater_xds_resources_sent_total{type="`+typ+`"}`] = strconv.Itoa(i + 2)
		want[`breakwater_xds_sent_bytes_total{type="`+typ+`"}`] = "120"
		want[`breakwater_xds_responses_answered_total{answer="acked",type="`+typ+`"}`] = "1"
		want[`breakwater_xds_responses_answered_total{answer="rejected",type="`+typ+`"}`] = "2"
		want[`breakwater_xds_answer_seconds_count{type="`+typ+`"}`] = "3"
		want[`breakwater_xds_answer_seconds_sum{type="`+typ+`"}`] = "3"
	}
	got := scrape(t, m)
	for series, value := range want {
		if got[series] != value {
			t.Errorf("%s = %q, want %s", series, got[series], value)
		}
	}
	for series := range got {
		name, _, _ := strings.Cut(series, "{")
		if _, wanted := want[series]; !wanted && strings.HasPrefix(name, "breakwater_") && !strings.HasSuffix(name, "_bucket") {
			t.Errorf("%s is served, and not looked at here", series)
		}
	}
	for _, series := range []string{"go_goroutines", "process_start_time_seconds"} {
		if got[series] == "" {
			t.Errorf("%s is not served", series)
		}
	}
}

func TestLatenciesReachFromATenthOfAMillisecondTo16Seconds(t *testing.T) {
	m := NewMetrics()
	m.Acked(view.CDS, 50*time.Microsecond)
	m.Acked(view.CDS, 15*time.Second)
	m.Acked(view.CDS, time.Minute)
	got := scrape(t, m)
	for bound, want := range map[string]string{"0.0001": "1", "16": "2", "+Inf": "3"} {
		found := ""
		for series, value := range got {
			le, ok := strings.CutPrefix(series, `breakwater_xds_answer_seconds_bucket{type="CDS",le="`)
			if ok && near(strings.TrimSuffix(le, `"}`), bound) {
				found = value
			}
		}
		if found != want {
			t.Errorf("%q answers up to %s s, want %s", found, bound, want)
		}
	}
}

// near reports whether two bounds are the same but for rounding.
func near(a, b string) bool {
	x, errX := strconv.ParseFloat(a, 64)
	y, errY := strconv.ParseFloat(b, 64)
	return a == b || errX == nil && errY == nil && x > y*0.999 && x < y*1.001
}

func TestStaleSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMetrics()
		since, stale := time.Now(), false
		m.StaleSince(func() (time.Time, bool) { return since, stale })
		time.Sleep(90 * time.Second)
		if got := scrape(t, m)["breakwater_store_stale_seconds"]; got != "0" {
			t.Errorf("%s s stale while the store is heard, want 0", got)
		}
		stale = true
		if got := scrape(t, m)["breakwater_store_stale_seconds"]; got != "90" {
			t.Errorf("%s s stale, want 90", got)
		}
	})
}

func TestMetricsAreApart(t *testing.T) {
	one, other := NewMetrics(), NewMetrics()
	one.Step(7, 1, 0, 0)
	if got := scrape(t, other)["breakwater_world_revision"]; got != "0" {
		t.Errorf("revision %s in the other set, want 0", got)
	}
}

func TestLeasedEndpointsAreCountedByState(t *testing.T) {
	m := NewMetrics()
	counts := map[string]int{"live": 5, "stale": 2}
	m.Leased([]string{"live", "stale"}, func(state string) int { return counts[state] })
	series := scrape(t, m)
	for state, want := range map[string]string{"live": "5", "stale": "2"} {
		name := `breakwater_leased_endpoints{state="` + state + `"}`
		if got := series[name]; got != want {
			t.Errorf("%s = %q, want %s", name, got, want)
		}
	}
}
