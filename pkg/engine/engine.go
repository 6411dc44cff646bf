package engine

import (
	"io"
	"sync"
	"sync/atomic"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// Options are what an engine is made of.
type Options struct {
	// NewPool makes what holds the connections to a host; it is closed when no table names the host any more.
	NewPool func(*Host) io.Closer
	// NewProber makes what checks a host of cluster as check says; it is closed when the host is not checked so any more. Where
	// it is nil no host is checked, and all count as passing.
	NewProber func(h *Host, cluster *dataplane.Cluster, check *dataplane.HealthCheck) Prober
	// Rand returns uniformly distributed random bits. It is called from many goroutines.
	Rand resilience.Rand
}

// Engine takes calls through the policies of its table. All methods may be called from many goroutines.
type Engine struct {
	options Options
	now     atomic.Pointer[snapshot]

	mu         sync.Mutex // serialises SetTable and Close; guards what follows
	clusters   map[string]*cluster
	limits     map[string]*rateLimit  // by place
	gradients  map[string]*gradient   // by place
	limitStats map[string]*limitStats // by prefix, for ever

	faults sync.Map // *faultStats by prefix, for ever
}

// snapshot is a table with the live state of what it names. It is immutable.
type snapshot struct {
	table    *dataplane.Table
	clusters map[string]*target
	filters  filterStates
}

// cluster is the target of that name, nil where there is none, or it is warming.
func (s *snapshot) cluster(name string) *target {
	t := s.clusters[name]
	if t == nil || t.config.Unresolved || t.live.warming.Load() {
		return nil
	}
	return t
}

// New returns an engine with an empty table. Its owner calls Close.
func New(options Options) *Engine {
	e := &Engine{options: options, clusters: map[string]*cluster{}, limitStats: map[string]*limitStats{}}
	e.now.Store(&snapshot{table: &dataplane.Table{}})
	return e
}

// Table is the table in force.
func (e *Engine) Table() *dataplane.Table { return e.now.Load().table }

// SetTable puts another table in force, for calls that begin from now on. Counters, ejections and connections of clusters and hosts
// that stay are kept, whatever else of them changes: where Envoy would forget them with the rebuilt cluster, this does not.
func (e *Engine) SetTable(t *dataplane.Table) {
	e.mu.Lock()
	defer e.mu.Unlock()
	old := e.now.Load()
	next := &snapshot{table: t, clusters: make(map[string]*target, len(t.Clusters)), filters: e.adoptFilters(t)}
	for name, config := range t.Clusters {
		if known := old.clusters[name]; known != nil && known.config == config {
			next.clusters[name] = known
			continue
		}
		live := e.clusters[name]
		if live == nil {
			live = &cluster{options: &e.options, name: name}
			e.clusters[name] = live
		}
		live.adopt(config)
		next.clusters[name] = &target{config, live}
	}
	e.now.Store(next)
	for name, live := range e.clusters {
		if t.Clusters[name] == nil {
			live.close()
			delete(e.clusters, name)
		}
	}
}

// Close ends the timers of the engine and its idle connections.
func (e *Engine) Close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, live := range e.clusters {
		live.close()
	}
	for _, live := range e.clusters {
		live.probes.Wait()
	}
	for _, g := range e.gradients {
		g.close()
	}
	clear(e.clusters)
	clear(e.gradients)
}
