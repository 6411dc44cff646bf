package agent

import (
	"cmp"
	"io"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// tag takes a part out of a statistic's name and makes it a label, as Envoy's tag of the same name does. The first group goes from
// the name, the second is the value.
type tag struct {
	label   string
	pattern *regexp.Regexp
}

// tags are those of Envoy's that names here have, in the order in which Envoy shows them.
var tags = []tag{
	{"envoy_response_code", regexp.MustCompile(`_rq(_(\d{3}))$`)},
	{"envoy_response_code_class", regexp.MustCompile(`_rq(_(\d))xx$`)},
	{"envoy_local_http_ratelimit_prefix", regexp.MustCompile(`^((.*?)\.)http_local_rate_limit\.`)},
	{"envoy_http_conn_manager_prefix", regexp.MustCompile(`^(?:|listener\..*?\.)http\.((.*?)\.)`)},
	{"envoy_cluster_name", regexp.MustCompile(`^cluster\.((.*?)\.)`)},
	{"envoy_tcp_prefix", regexp.MustCompile(`^tcp\.((.*?)\.)`)},
	{"envoy_listener_address", regexp.MustCompile(`^listener\.(((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*)_\d+)\.)`)},
}

// series is a metric and its labels, without braces.
type series struct{ metric, labels string }

// seriesOf is how Prometheus sees a statistic.
func seriesOf(name string) series {
	var labels []string
	for _, t := range tags {
		at := t.pattern.FindStringSubmatchIndex(name)
		if at == nil {
			continue
		}
		labels = append(labels, t.label+`="`+labelValue.Replace(name[at[4]:at[5]])+`"`)
		name = name[:at[2]] + name[at[3]:]
		if t.label == "envoy_response_code_class" {
			name = strings.TrimSuffix(name, "xx") + "_xx"
		}
	}
	return series{"envoy_" + notInMetric.ReplaceAllString(name, "_"), strings.Join(labels, ",")}
}

var (
	notInMetric = regexp.MustCompile(`[^a-zA-Z0-9_]`)
	labelValue  = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)
)

// bounds are those of Envoy's buckets, in milliseconds.
var bounds = [...]float64{0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000, math.Inf(1)}

// prometheus writes everything in the text format: counters, then gauges, then histograms.
func (s *statistics) prometheus(w io.Writer) {
	var b strings.Builder
	names := s.names()
	for _, kind := range [...]string{"counter", "gauge"} {
		of := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return gauge.MatchString(name) != (kind == "gauge") })
		expose(&b, kind, of, func(at series, name string) {
			b.WriteString(at.metric + "{" + at.labels + "} " + strconv.FormatInt(s.numbers[name], 10) + "\n")
		})
	}
	expose(&b, "histogram", s.timed(), func(at series, name string) { exposeTimings(&b, at, s.timings[name]) })
	_, _ = io.WriteString(w, b.String())
}

// expose writes the statistics of one kind, those of one metric together.
func expose(b *strings.Builder, kind string, names []string, write func(at series, name string)) {
	type entry struct {
		series
		name string
	}
	list := make([]entry, len(names))
	for i, name := range names {
		list[i] = entry{seriesOf(name), name}
	}
	slices.SortStableFunc(list, func(a, b entry) int { return cmp.Compare(a.metric, b.metric) })
	last := ""
	for _, e := range list {
		if e.metric != last {
			b.WriteString("# TYPE " + e.metric + " " + kind + "\n")
			last = e.metric
		}
		write(e.series, e.name)
	}
}

func exposeTimings(b *strings.Builder, at series, d *resilience.Distribution) {
	labels := at.labels
	if labels != "" {
		labels += ","
	}
	for _, bound := range bounds {
		le := "+Inf"
		if !math.IsInf(bound, 1) {
			le = decimal(bound)
		}
		b.WriteString(at.metric + "_bucket{" + labels + `le="` + le + `"} ` + strconv.FormatUint(d.UpTo(bound), 10) + "\n")
	}
	b.WriteString(at.metric + "_sum{" + at.labels + "} " + decimal(d.Sum()) + "\n")
	b.WriteString(at.metric + "_count{" + at.labels + "} " + strconv.FormatUint(d.Count(), 10) + "\n")
}
