package agent

import (
	"maps"
	"math"
	"net/http"
	"regexp"
	"runtime"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/resilience"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// statistics are counters, gauges and histograms by Envoy's names.
type statistics struct {
	numbers map[string]int64
	timings map[string]*resilience.Distribution
}

// add sums what goes by one name, as two listeners with one prefix do.
func (s *statistics) add(name string, value int64) { s.numbers[name] += value }

func (s *statistics) addTimings(name string, t *resilience.Timings) {
	d := s.timings[name]
	if d == nil {
		d = new(resilience.Distribution)
		s.timings[name] = d
	}
	t.AddTo(d)
}

// names are those of numbers, sorted.
func (s *statistics) names() []string { return slices.Sorted(maps.Keys(s.numbers)) }

// timed are the names of the histograms, sorted.
func (s *statistics) timed() []string { return slices.Sorted(maps.Keys(s.timings)) }

// keep drops all that f says no to.
func (s *statistics) keep(f func(name string) bool) {
	drop := func(name string) bool { return !f(name) }
	maps.DeleteFunc(s.numbers, func(name string, _ int64) bool { return drop(name) })
	maps.DeleteFunc(s.timings, func(name string, _ *resilience.Distribution) bool { return drop(name) })
}

// statistics is everything there is to count.
func (a *agent) statistics() *statistics {
	s := &statistics{numbers: map[string]int64{}, timings: map[string]*resilience.Distribution{}}
	a.engine.Stats(s.add)
	a.engine.Timings(s.addTimings)
	a.server.Stats(s.add)
	a.server.Timings(s.addTimings)
	a.names.Stats(s.add)
	a.serverStats(s)
	a.configStats(s)
	if a.relay != nil {
		a.relay.Stats(s.add)
	}
	if a.access != nil {
		a.access.stats(s.add)
	}
	return s
}

// serverStats are the process's own. Those of the listeners are in s already.
func (a *agent) serverStats(s *statistics) {
	live, state := int64(1), int64(stateLive)
	if a.draining.Load() {
		live, state = 0, stateDraining
	} else if a.ready() != nil {
		state = stateInitializing
	}
	memory := readMemory()
	s.add("server.live", live)
	s.add("server.state", state)
	s.add("server.uptime", int64(time.Since(a.started).Seconds()))
	s.add("server.concurrency", int64(runtime.GOMAXPROCS(0)))
	s.add("server.memory_allocated", memory.allocated)
	s.add("server.memory_heap_size", memory.heap)
	s.add("server.memory_physical_size", memory.total)
	connections := int64(0)
	for name, value := range s.numbers {
		if strings.HasPrefix(name, "listener.") && strings.HasSuffix(name, ".downstream_cx_active") {
			connections += value
		}
	}
	s.add("server.total_connections", connections)
}

// The states of a server, as server.state has them.
const (
	stateLive         = 0
	stateDraining     = 1
	stateInitializing = 3
)

// configStats say how the agent gets on with its control plane.
func (a *agent) configStats(s *statistics) {
	status := a.status()
	s.add("control_plane.connected_state", one(status.Connected))
	for t, prefix := range map[view.Type]string{view.CDS: "cluster_manager.cds.", view.LDS: "listener_manager.lds."} {
		s.add(prefix+"update_success", status.Accepted[t])
		s.add(prefix+"update_rejected", status.Rejected[t])
		s.add(prefix+"update_attempt", status.Accepted[t]+status.Rejected[t])
	}
	for t := range view.NumTypes {
		s.add("config."+strings.ToLower(t.String())+".accepted", status.Accepted[t])
		s.add("config."+strings.ToLower(t.String())+".rejected", status.Rejected[t])
	}
	s.add("config.resources", int64(status.Resources))
	s.add("config.waiting", int64(status.Waiting))
	s.add("config.save_failures", status.SaveFails)
	if age, ok := configAge(status, time.Now()); ok {
		s.add("config.age_seconds", int64(age.Seconds()))
	}
	a.mu.Lock()
	resources, table := a.resources, a.table
	a.mu.Unlock()
	s.add("runtime.num_layers", int64(len(resources.Layers)))
	if table != nil {
		s.add("cluster_manager.active_clusters", int64(len(table.Clusters)))
		s.add("listener_manager.total_listeners_active", int64(len(a.server.Addresses())))
	}
}

func one(yes bool) int64 {
	if yes {
		return 1
	}
	return 0
}

type memory struct{ allocated, heap, total int64 }

func readMemory() memory {
	samples := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"},
		{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	n := func(i int) int64 { return int64(samples[i].Value.Uint64()) }
	return memory{allocated: n(0), heap: n(0) + n(1), total: n(2) - n(3)}
}

// gauge tells the numbers that may also fall from those that only grow.
var gauge = regexp.MustCompile(`(_active|_open|_state|_msecs|_size|_allocated|_seconds|_limit|_weight)$` +
	`|\.(membership_(total|healthy|degraded|excluded)|remaining_\w+|live|state|uptime|concurrency|total_connections|num_\w+|resources|waiting|active_clusters|gradient|healthy|degraded|active_faults)$`)

// quantiles are those that Envoy gives, in percent.
var quantiles = [...]float64{0, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 100}

// serveStats knows Envoy's filter, format and usedonly.
func (a *agent) serveStats(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	filter, err := regexp.Compile(query.Get("filter"))
	if err != nil {
		http.Error(w, "filter is no regular expression: "+err.Error(), http.StatusBadRequest)
		return
	}
	s := a.statistics()
	used := query.Has("usedonly")
	s.keep(func(name string) bool {
		return filter.MatchString(name) && (!used || s.used(name))
	})
	format := query.Get("format")
	if r.URL.Path == "/stats/prometheus" {
		format = "prometheus"
	}
	switch format {
	case "json":
		writeJSON(w, s.json())
	case "prometheus":
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		s.prometheus(w)
	default:
		s.text(w)
	}
}

// used leaves out counters that never counted. Gauges are always in use.
func (s *statistics) used(name string) bool {
	if d := s.timings[name]; d != nil {
		return d.Count() > 0
	}
	return s.numbers[name] != 0 || gauge.MatchString(name)
}

func (s *statistics) text(w http.ResponseWriter) {
	var b strings.Builder
	for _, name := range s.names() {
		b.WriteString(name + ": " + strconv.FormatInt(s.numbers[name], 10) + "\n")
	}
	for _, name := range s.timed() {
		b.WriteString(name + ":")
		d := s.timings[name]
		if d.Count() == 0 {
			b.WriteString(" No recorded values\n")
			continue
		}
		for _, q := range quantiles {
			b.WriteString(" P" + decimal(q) + "(nan," + decimal(d.Quantile(q/100)) + ")")
		}
		b.WriteString("\n")
	}
	_, _ = w.Write([]byte(b.String()))
}

func decimal(x float64) string { return strconv.FormatFloat(x, 'f', -1, 64) }

// jsonStat is one number, or all histograms, in Envoy's shape.
type jsonStat struct {
	Name       string          `json:"name,omitempty"`
	Value      *int64          `json:"value,omitempty"`
	Histograms *jsonHistograms `json:"histograms,omitempty"`
}

type jsonHistograms struct {
	SupportedQuantiles []float64       `json:"supported_quantiles"`
	ComputedQuantiles  []jsonHistogram `json:"computed_quantiles"`
}

type jsonHistogram struct {
	Name   string         `json:"name"`
	Values []jsonQuantile `json:"values"`
}

// jsonQuantile has no interval: what is counted is counted from the start.
type jsonQuantile struct {
	Cumulative *float64 `json:"cumulative"`
	Interval   *float64 `json:"interval"`
}

func (s *statistics) json() any {
	list := []jsonStat{}
	for _, name := range s.names() {
		value := s.numbers[name]
		list = append(list, jsonStat{Name: name, Value: &value})
	}
	all := jsonHistograms{SupportedQuantiles: quantiles[:]}
	for _, name := range s.timed() {
		h := jsonHistogram{Name: name}
		for _, q := range quantiles {
			var value jsonQuantile
			if x := s.timings[name].Quantile(q / 100); !math.IsNaN(x) {
				value.Cumulative = &x
			}
			h.Values = append(h.Values, value)
		}
		all.ComputedQuantiles = append(all.ComputedQuantiles, h)
	}
	if len(all.ComputedQuantiles) > 0 {
		list = append(list, jsonStat{Histograms: &all})
	}
	return map[string]any{"stats": list}
}
