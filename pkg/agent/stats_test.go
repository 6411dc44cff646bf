package agent

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// TestSeriesAreEnvoys compares with what Envoy 1.40 makes of the same names.
func TestSeriesAreEnvoys(t *testing.T) {
	for name, want := range map[string]string{
		"cluster.shop/payments.upstream_rq_2xx":                                      `envoy_cluster_upstream_rq_xx{envoy_response_code_class="2",envoy_cluster_name="shop/payments"}`,
		"cluster.shop/payments.upstream_rq_200":                                      `envoy_cluster_upstream_rq{envoy_response_code="200",envoy_cluster_name="shop/payments"}`,
		"cluster.shop/payments.retry.upstream_rq_503":                                `envoy_cluster_retry_upstream_rq{envoy_response_code="503",envoy_cluster_name="shop/payments"}`,
		"cluster.shop/payments.upstream_cx_total":                                    `envoy_cluster_upstream_cx_total{envoy_cluster_name="shop/payments"}`,
		"cluster.shop/payments.outlier_detection.ejections_enforced_consecutive_5xx": `envoy_cluster_outlier_detection_ejections_enforced_consecutive_5xx{envoy_cluster_name="shop/payments"}`,
		"cluster.shop/payments.circuit_breakers.default.rq_open":                     `envoy_cluster_circuit_breakers_default_rq_open{envoy_cluster_name="shop/payments"}`,
		"http.ingress.downstream_rq_4xx":                                             `envoy_http_downstream_rq_xx{envoy_response_code_class="4",envoy_http_conn_manager_prefix="ingress"}`,
		"http.ingress.no_route":                                                      `envoy_http_no_route{envoy_http_conn_manager_prefix="ingress"}`,
		"listener.127.0.0.1_19001.downstream_cx_total":                               `envoy_listener_downstream_cx_total{envoy_listener_address="127.0.0.1_19001"}`,
		"listener.[__1]_19001.downstream_cx_total":                                   `envoy_listener_downstream_cx_total{envoy_listener_address="[__1]_19001"}`,
		"listener.127.0.0.1_19001.http.ingress.downstream_rq_2xx":                    `envoy_listener_http_downstream_rq_xx{envoy_response_code_class="2",envoy_http_conn_manager_prefix="ingress",envoy_listener_address="127.0.0.1_19001"}`,
		"cluster_manager.cds.update_success":                                         `envoy_cluster_manager_cds_update_success{}`,
		"server.live":                                                                `envoy_server_live{}`,
	} {
		s := seriesOf(name)
		if got := s.metric + "{" + s.labels + "}"; got != want {
			t.Errorf("%s\ngot  %s\nwant %s", name, got, want)
		}
	}
}

// TestKindsAreEnvoys has the kind that Envoy 1.40 gives each name.
func TestKindsAreEnvoys(t *testing.T) {
	for kind, names := range map[bool]string{
		true: `circuit_breakers.default.cx_open remaining_rq membership_degraded membership_excluded membership_healthy membership_total
			ejections_active upstream_cx_active upstream_rq_active upstream_rq_pending_active active_clusters downstream_cx_active
			total_listeners_active num_keys num_layers concurrency live memory_allocated memory_heap_size memory_physical_size state
			total_connections uptime connected_state max_host_weight
			active_faults concurrency_limit min_rtt_msecs min_rtt_calculation_active`,
		false: `ejections_enforced_total membership_change upstream_cx_total upstream_cx_destroy upstream_rq_200 upstream_rq_2xx
			upstream_rq_completed upstream_rq_pending_total upstream_rq_retry upstream_rq_retry_success upstream_rq_timeout
			downstream_cx_total downstream_rq_total no_route upstream_rq_pending_overflow lb_healthy_panic update_success rq_blocked delays_injected rate_limited upstream_cx_none_healthy`,
	} {
		for name := range strings.FieldsSeq(names) {
			if gauge.MatchString("x."+name) != kind {
				t.Errorf("%s is a gauge: %v, want %v", name, !kind, kind)
			}
		}
	}
}

// sample is a little of everything.
func sample() *statistics {
	s := &statistics{numbers: map[string]int64{
		"cluster.a.upstream_rq_200": 10, "cluster.b.upstream_rq_200": 2, "cluster.a.upstream_cx_active": 1, "cluster.a.upstream_rq_retry": 0,
	}, timings: map[string]*resilience.Distribution{}}
	var took, none resilience.Timings
	took.Add(20 * time.Millisecond)
	took.Add(42 * time.Millisecond)
	s.addTimings("cluster.a.upstream_rq_time", &took)
	s.addTimings("cluster.b.upstream_rq_time", &none)
	return s
}

func TestStatsInPrometheusText(t *testing.T) {
	w := httptest.NewRecorder()
	sample().prometheus(w)
	want := `# TYPE envoy_cluster_upstream_rq counter
envoy_cluster_upstream_rq{envoy_response_code="200",envoy_cluster_name="a"} 10
envoy_cluster_upstream_rq{envoy_response_code="200",envoy_cluster_name="b"} 2
# TYPE envoy_cluster_upstream_rq_retry counter
envoy_cluster_upstream_rq_retry{envoy_cluster_name="a"} 0
# TYPE envoy_cluster_upstream_cx_active gauge
envoy_cluster_upstream_cx_active{envoy_cluster_name="a"} 1
# TYPE envoy_cluster_upstream_rq_time histogram
envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="a",le="0.5"} 0
`
	got := w.Body.String()
	if !strings.HasPrefix(got, want) {
		t.Errorf("got\n%s\nwant it to begin with\n%s", got, want)
	}
	for _, line := range []string{
		`_bucket{envoy_cluster_name="a",le="25"} 1`, `_bucket{envoy_cluster_name="a",le="50"} 2`, `_bucket{envoy_cluster_name="a",le="3600000"} 2`,
		`_bucket{envoy_cluster_name="a",le="+Inf"} 2`, `_count{envoy_cluster_name="a"} 2`, `_count{envoy_cluster_name="b"} 0`,
	} {
		if !strings.Contains(got, "envoy_cluster_upstream_rq_time"+line+"\n") {
			t.Errorf("no line %s in\n%s", line, got)
		}
	}
}

func TestStatsInTextAndJSON(t *testing.T) {
	s := sample()
	s.keep(s.used)
	w := httptest.NewRecorder()
	s.text(w)
	want := "cluster.a.upstream_cx_active: 1\ncluster.a.upstream_rq_200: 10\ncluster.b.upstream_rq_200: 2\n" +
		"cluster.a.upstream_rq_time: P0(nan,20.5) P25(nan,20.5) P50(nan,20.5) P75(nan,42.5) P90(nan,42.5) P95(nan,42.5) P99(nan,42.5) P99.5(nan,42.5) P99.9(nan,42.5) P100(nan,42.5)\n"
	if got := w.Body.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	text, err := json.Marshal(s.json())
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		`{"stats":[{"name":"cluster.a.upstream_cx_active","value":1},`,
		`{"histograms":{"supported_quantiles":[0,25,50,75,90,95,99,99.5,99.9,100],"computed_quantiles":[{"name":"cluster.a.upstream_rq_time","values":[{"cumulative":20.5,"interval":null},`,
	} {
		if !strings.Contains(string(text), part) {
			t.Errorf("no %s in %s", part, text)
		}
	}
}
