// Package ejections is how proxies tell a control plane which hosts they have ejected: the metrics service of OpenTelemetry, which an Envoy
// speaks by its stats sink of that name and our agent by a Reporter, over a relay or not, with one gauge, outlier_detection.ejections_active of each cluster. A
// Receiver hands what they say to the book of who is connected, which forgets it with the proxy's xDS stream (ADR 23).
package ejections

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"
	metricsv1 "go.opentelemetry.io/proto/otlp/metrics/v1"
	resourcev1 "go.opentelemetry.io/proto/otlp/resource/v1"
)

// Proxy is who says it: the same words as in the node of its xDS stream.
type Proxy struct {
	ID                 string // node.id
	Namespace, Service string // the caller, of node.cluster
}

// The attributes of a resource that name a proxy, as OpenTelemetry has them.
const (
	AttributeID        = "service.instance.id"
	AttributeNamespace = "service.namespace"
	AttributeService   = "service.name"
)

const (
	prefix = "cluster."
	// Suffix is the end of the name of the only statistic that is wanted.
	Suffix = ".outlier_detection.ejections_active"

	maxClusters = 10_000 // with ejections, as many as a proxy may subscribe to
	maxName     = 512    // bytes
	maxEjected  = 1 << 20
)

// The service and its method. What the metrics package of OpenTelemetry has for them links an HTTP gateway too; on the wire a request is the
// same as MetricsData, and a response that has nothing to say is empty.
const (
	serviceName = "opentelemetry.proto.collector.metrics.v1.MetricsService"
	methodName  = "Export"
)

// StatName is what Envoy calls a cluster of that name in its statistics.
func StatName(cluster string) string { return strings.ReplaceAll(cluster, ":", "_") }

// say is everything that a proxy has ejected. Clusters without ejections need not be named: a request replaces the one before it.
func say(p Proxy, ejected map[string]int) *metricsv1.MetricsData {
	var metrics []*metricsv1.Metric
	for _, cluster := range slices.Sorted(maps.Keys(ejected)) {
		points := []*metricsv1.NumberDataPoint{{Value: &metricsv1.NumberDataPoint_AsInt{AsInt: int64(ejected[cluster])}}}
		metrics = append(metrics, &metricsv1.Metric{
			Name: prefix + StatName(cluster) + Suffix, Data: &metricsv1.Metric_Gauge{Gauge: &metricsv1.Gauge{DataPoints: points}},
		})
	}
	text := func(key, value string) *commonv1.KeyValue {
		return &commonv1.KeyValue{Key: key, Value: &commonv1.AnyValue{Value: &commonv1.AnyValue_StringValue{StringValue: value}}}
	}
	who := []*commonv1.KeyValue{text(AttributeID, p.ID), text(AttributeNamespace, p.Namespace), text(AttributeService, p.Service)}
	return &metricsv1.MetricsData{ResourceMetrics: []*metricsv1.ResourceMetrics{{
		Resource: &resourcev1.Resource{Attributes: who}, ScopeMetrics: []*metricsv1.ScopeMetrics{{Metrics: metrics}},
	}}}
}

// read is what m says: hosts by cluster as StatName has it, those without ejections left out. Statistics of other names count for nothing.
func read(m *metricsv1.MetricsData) (Proxy, map[string]int, error) {
	if n := len(m.GetResourceMetrics()); n != 1 {
		return Proxy{}, nil, fmt.Errorf("%d resources, want the proxy alone", n)
	}
	of := m.GetResourceMetrics()[0]
	who, err := proxyOf(of.GetResource())
	if err != nil {
		return who, nil, err
	}
	ejected := make(map[string]int)
	for _, scope := range of.GetScopeMetrics() {
		for _, metric := range scope.GetMetrics() {
			if err := count(metric, ejected); err != nil {
				return who, nil, err
			}
		}
	}
	return who, ejected, nil
}

func proxyOf(r *resourcev1.Resource) (p Proxy, err error) {
	named := map[string]*string{AttributeID: &p.ID, AttributeNamespace: &p.Namespace, AttributeService: &p.Service}
	for _, a := range r.GetAttributes() {
		if to := named[a.GetKey()]; to != nil {
			*to = a.GetValue().GetStringValue()
		}
	}
	for _, key := range slices.Sorted(maps.Keys(named)) {
		if *named[key] == "" {
			return p, fmt.Errorf("the resource has no %s", key)
		}
	}
	return p, nil
}

// count adds what metric says to ejected.
func count(metric *metricsv1.Metric, ejected map[string]int) error {
	rest, is := strings.CutPrefix(metric.GetName(), prefix)
	cluster, ends := strings.CutSuffix(rest, Suffix)
	if !is || !ends {
		return nil
	}
	if cluster == "" || len(cluster) > maxName || strings.ContainsFunc(cluster, control) {
		return fmt.Errorf("the name of a cluster is empty, has control characters, or more than %d bytes", maxName)
	}
	for _, point := range metric.GetGauge().GetDataPoints() {
		n := point.GetAsInt()
		if n < 0 || n > maxEjected {
			return fmt.Errorf("%d ejected hosts of cluster %s", n, cluster)
		}
		if n > 0 {
			ejected[cluster] = int(n)
		}
	}
	if len(ejected) > maxClusters {
		return errors.New("too many clusters")
	}
	return nil
}

func control(r rune) bool { return r < ' ' || r == 0x7f }
