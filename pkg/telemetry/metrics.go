package telemetry

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// Metrics are the metrics of a control plane. None has a label per proxy or policy.
type Metrics struct {
	registry *prometheus.Registry

	streams  *prometheus.GaugeVec
	types    [view.NumTypes]typeMetrics
	behind   prometheus.Observer // until the last response
	current  prometheus.Observer // until the last answer
	refused  *prometheus.CounterVec
	revision prometheus.Gauge
	problems prometheus.Gauge
	steps    prometheus.Histogram
	classes  prometheus.Histogram
}

// typeMetrics are those of one type of resources, looked up once: a push adds to them, and does no more.
type typeMetrics struct {
	resources, bytes, acked, rejected prometheus.Counter
	answers                           prometheus.Observer
}

// latencies reach from a tenth of a millisecond to the 15 s that Envoy may wait.
var latencies = prometheus.ExponentialBucketsRange(0.0001, 16, 18)

// NewMetrics is a set of metrics with a registry of its own.
func NewMetrics() *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		streams: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "breakwater_xds_streams", Help: "Connected proxies, by dialect and form: delta, or sotw (the state of the world)."}, []string{"dialect", "form"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "breakwater_xds_refused_total", Help: "Streams that were refused, closed or slowed down, by reason."}, []string{"reason"}),
		revision: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "breakwater_world_revision", Help: "The store revision that proxies are served from."}),
		problems: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "breakwater_world_unbuildable_services", Help: "Services of which something can't be built; the log says why."}),
		steps: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "breakwater_world_step_seconds", Help: "From a change of the store seen to every touched class having its new head.", Buckets: latencies}),
		classes: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "breakwater_world_class_seconds", Help: "The first build of everything that a class of proxies must hold, for its first proxy.", Buckets: latencies}),
	}
	m.registry.MustRegister(m.streams, m.refused, m.revision, m.problems, m.steps, m.classes,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.registerTypes()
	m.registerPush()
	return m
}

func (m *Metrics) registerTypes() {
	resources := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "breakwater_xds_resources_sent_total", Help: "Resources sent to proxies, by type."}, []string{"type"})
	bytes := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "breakwater_xds_sent_bytes_total", Help: "Bytes of the responses sent to proxies, by type."}, []string{"type"})
	answered := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "breakwater_xds_responses_answered_total", Help: "Responses that proxies acked or rejected, by type and answer."}, []string{"type", "answer"})
	answers := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "breakwater_xds_answer_seconds", Help: "From a response to its answer, by type. Clusters are answered when they are warm.", Buckets: latencies}, []string{"type"})
	m.registry.MustRegister(resources, bytes, answered, answers)
	for t := range view.NumTypes {
		name := t.String()
		m.types[t] = typeMetrics{
			resources: resources.WithLabelValues(name), bytes: bytes.WithLabelValues(name),
			acked: answered.WithLabelValues(name, "acked"), rejected: answered.WithLabelValues(name, "rejected"),
			answers: answers.WithLabelValues(name),
		}
	}
}

func (m *Metrics) registerPush() {
	push := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "breakwater_xds_push_seconds",
		Help:    "Of each proxy that a change reaches: from the change seen to the last response about it (until=sent), and to the proxy's last answer (until=answered).",
		Buckets: latencies,
	}, []string{"until"})
	m.registry.MustRegister(push)
	m.behind, m.current = push.WithLabelValues("sent"), push.WithLabelValues("answered")
}

// StaleSince registers a gauge of the seconds since the store was last heard, 0 while it is.
func (m *Metrics) StaleSince(since func() (time.Time, bool)) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "breakwater_store_stale_seconds", Help: "How old the last word of the store is, 0 while it can be heard.",
	}, func() float64 {
		t, stale := since()
		if !stale {
			return 0
		}
		return time.Since(t).Seconds()
	}))
}

// Quarantined registers a gauge of the policies in quarantine, which count tells.
func (m *Metrics) Quarantined(count func() int) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "breakwater_world_quarantined_policies", Help: "Policies and guardrails with which something can't be built; an earlier generation, or none, holds in their place.",
	}, func() float64 { return float64(count()) }))
}

// Leased registers a gauge of the leased endpoints in each of some states, which count tells.
func (m *Metrics) Leased(states []string, count func(state string) int) {
	for _, state := range states {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "breakwater_leased_endpoints", Help: "Endpoints registered by agents, by state.", ConstLabels: prometheus.Labels{"state": state},
		}, func() float64 { return float64(count(state)) }))
	}
}

// Handler serves the metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// Stream counts a proxy that came (1) or went (-1).
func (m *Metrics) Stream(dialect, form string, change int) {
	m.streams.WithLabelValues(dialect, form).Add(float64(change))
}

// Sent counts the resources and bytes of one response.
func (m *Metrics) Sent(t view.Type, resources, bytes int) {
	m.types[t].resources.Add(float64(resources))
	m.types[t].bytes.Add(float64(bytes))
}

// Acked records a response that was accepted.
func (m *Metrics) Acked(t view.Type, after time.Duration) {
	m.types[t].acked.Inc()
	m.types[t].answers.Observe(after.Seconds())
}

// Rejected records a response that was refused.
func (m *Metrics) Rejected(t view.Type, after time.Duration) {
	m.types[t].rejected.Inc()
	m.types[t].answers.Observe(after.Seconds())
}

// Refused counts a stream that was refused, closed or slowed down.
func (m *Metrics) Refused(reason string) {
	m.refused.WithLabelValues(reason).Inc()
}

// CaughtUp records how long it took from a change to the last response about it to one proxy, and to that proxy's last answer.
func (m *Metrics) CaughtUp(sent, answered time.Duration) {
	m.behind.Observe(sent.Seconds())
	m.current.Observe(answered.Seconds())
}

// Class records the first build of a class.
func (m *Metrics) Class(elapsed time.Duration) { m.classes.Observe(elapsed.Seconds()) }

// Step records one step of the world. Problems are the services of which something can't be built.
func (m *Metrics) Step(revision int64, events int, elapsed time.Duration, problems int) {
	m.revision.Set(float64(revision))
	m.problems.Set(float64(problems))
	if events > 0 {
		m.steps.Observe(elapsed.Seconds())
	}
}
