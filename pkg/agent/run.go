package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/ejections"
	"github.com/breakwater-mesh/breakwater/pkg/engine"
	"github.com/breakwater-mesh/breakwater/pkg/envoy"
	"github.com/breakwater-mesh/breakwater/pkg/names"
	"github.com/breakwater-mesh/breakwater/pkg/proxy"
	"github.com/breakwater-mesh/breakwater/pkg/registration"
	"github.com/breakwater-mesh/breakwater/pkg/relay"
	"github.com/breakwater-mesh/breakwater/pkg/telemetry"
	"github.com/breakwater-mesh/breakwater/pkg/view"
	"github.com/breakwater-mesh/breakwater/pkg/xdsclient"
)

// reopenWait is how long after a listener could not be opened it is tried again.
const reopenWait = time.Second

// agent is the parts of a running agent.
type agent struct {
	config  Config
	started time.Time
	access  *accessLog // nil: none is written

	inherited map[string]*socket // that the service manager opened, by address; once it runs, guarded by mu

	log    hclog.Logger
	engine *engine.Engine
	server *proxy.Server
	inside proxy.Inside
	client *xdsclient.Client // nil where the agent carries no calls
	names  *names.Keeper     // of hosts that DNS names
	relay  *relay.Relay      // nil where nobody is served

	registrar *registration.Registrar // nil: the application is not advertised

	draining  atomic.Bool
	mu        sync.Mutex          // serialises what is applied
	resources dataplane.Resources // of table
	table     *dataplane.Table    // in force; nil before the first
	stamps    map[view.ID]stamp   // of resources; replaced, never changed
	served    bool                // some listener has been open
	resolved  bool                // DNS was heard of all names of a table once
	begun     time.Time           // when the first table came
	whole     bool                // all that the control plane said at first was in force once
	closed    error               // which listeners of table are not open, and why; nil: all are
}

// Run serves until ctx ends, then lets requests under way finish. Where it returns nil, nothing of it runs any more.
func Run(ctx context.Context, config Config, log hclog.Logger) error {
	if config.StateDir != "" {
		release, err := xdsclient.Lock(config.StateDir)
		switch {
		case err == nil:
			defer release()
		case errors.Is(err, xdsclient.ErrInUse):
			return fmt.Errorf("--state-dir: %w", err)
		default: // such as a disk that is full: what is saved may still be read
			log.Error("--state-dir can't be written", "error", err)
		}
	}
	a := &agent{config: config, started: time.Now(), log: log, inherited: inherit(log)}
	port, err := a.listen(config.ListenAdmin)
	if err != nil {
		return fmt.Errorf("--listen-admin: %w", err)
	}
	defer func() { _ = port.Close() }()
	dial := a.inside.Dial(proxy.TCP)
	a.engine = engine.New(engine.Options{NewPool: proxy.Pools(dial), NewProber: proxy.Probers(dial), Rand: rand.Uint64})
	defer a.engine.Close()
	a.names = names.New(names.Options{Ask: names.System, Changed: a.renamed, Rand: rand.Uint64})
	defer a.names.Close()
	if err := a.newServer(); err != nil {
		return err
	}
	if !config.relayOnly() {
		if a.client, err = a.newClient(); err != nil {
			return err
		}
	}
	if a.registrar, err = registrar(config, log.Named("registration")); err != nil {
		return err
	}
	servers, err := xdsclient.NewServers(config.XDS, config.xdsTLS())
	if err != nil {
		return err
	}
	var relayPort net.Listener
	if a.relay, relayPort, err = startRelay(config, servers, a.listen, log); err != nil {
		return err
	}
	return a.run(ctx, port, relayPort)
}

func (a *agent) newServer() (err error) {
	options := proxy.Options{
		Engine: a.engine, Inside: &a.inside, Listen: a.listen, Access: a.config.Access,
		Log: a.log.Named("http").StandardWriter(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug}),
	}
	if a.config.AccessLog != "" {
		if a.access, err = openAccessLog(a.config.AccessLog, a.log.Named("access")); err != nil {
			return fmt.Errorf("--access-log: %w", err)
		}
		options.Access = a.access.record
	}
	a.server = proxy.NewServer(options)
	return nil
}

func (a *agent) newClient() (*xdsclient.Client, error) {
	who := ejections.Proxy{ID: a.config.NodeID, Namespace: a.config.Namespace, Service: a.config.Service}
	reporter := ejections.Reporter{Proxy: who, Ejected: a.engine.Ejected, Log: a.log.Named("ejections")}
	return xdsclient.New(xdsclient.Config{
		Servers: a.config.XDS, Layers: envoy.LayerNames(), StateDir: a.config.StateDir, Apply: a.apply, Check: a.check, Beside: reporter.Run, Logger: a.log.Named("xds"), TLS: a.config.xdsTLS(),
		Node: xdsclient.Node{
			ID: a.config.NodeID, Cluster: a.config.nodeCluster(), Version: telemetry.Version, Outbound: a.config.ListenOutbound, Edge: a.config.Edge,
		},
	})
}

func (a *agent) run(ctx context.Context, port, relayPort net.Listener) error {
	admin := &http.Server{Handler: a.admin(), ReadHeaderTimeout: 10 * time.Second}
	drained := make(chan struct{})
	group, ctx := errgroup.WithContext(ctx)
	does := func(f func()) {
		group.Go(func() error {
			f()
			return nil
		})
	}
	group.Go(func() error {
		if a.client == nil {
			return nil
		}
		if err := a.client.Run(ctx); err != nil && ctx.Err() == nil {
			return err
		}
		return nil
	})
	group.Go(func() error { return a.serveRelay(ctx, relayPort) })
	group.Go(func() error {
		if err := admin.Serve(port); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	if a.access != nil {
		does(func() { a.access.Run(drained) })
	}
	does(func() { a.reopen(ctx) })
	does(func() { a.onSignals(ctx) })
	does(func() { a.notify(ctx, drained, port.Addr().String()) })
	context.AfterFunc(ctx, func() { // at once, whatever else takes its time
		a.draining.Store(true)
		a.server.Drain()
	})
	group.Go(func() error {
		a.advertise(ctx)
		<-ctx.Done()
		a.drain()
		close(drained)
		return admin.Close()
	})
	a.log.Info("started", "admin", port.Addr().String(), "control plane", a.config.XDS, "service", a.config.Service, "namespace", a.config.Namespace)
	err := group.Wait()
	a.log.Info("stopped")
	return err
}

// onSignals reopens the access log as its rotation asks. Without a log the signals do nothing.
func (a *agent) onSignals(ctx context.Context) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGUSR1)
	defer signal.Stop(signals)
	for {
		select {
		case <-ctx.Done():
			return
		case <-signals:
			if a.access != nil {
				a.access.Reopen()
			}
		}
	}
}

// drain refuses new connections after a while, and lets requests under way finish.
func (a *agent) drain() {
	a.log.Info("draining", "delay", a.config.DrainDelay, "at most", a.config.DrainTimeout)
	time.Sleep(a.config.DrainDelay)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	end := time.AfterFunc(a.config.DrainTimeout, func() {
		a.log.Warn("what is still under way is cut off", "requests", a.underWay(), "--drain-timeout", a.config.DrainTimeout)
		cancel()
	})
	defer end.Stop()
	a.server.Close(ctx)
}

// underWay is how many requests hosts work on.
func (a *agent) underWay() (n int64) {
	for _, c := range a.engine.Clusters() {
		for _, h := range c.Hosts {
			n += h.RqActive
		}
	}
	return n
}

// apply puts resources in force, or says what of them can't be.
func (a *agent) apply(r dataplane.Resources) []dataplane.Fault {
	a.mu.Lock()
	defer a.mu.Unlock()
	table, faults := a.compile(r)
	if len(faults) > 0 {
		return faults
	}
	if a.table == nil {
		a.begun = time.Now()
	}
	a.table, a.resources = table, r
	a.stampAll(r, time.Now())
	a.install()
	a.names.Want(table.Lookups)
	if open := a.listeners(); !a.served && len(open) > 0 {
		a.served = true
		a.log.Info("serving", "listeners", open)
	}
	return nil
}

// check is what apply would refuse of r.
func (a *agent) check(r dataplane.Resources) []dataplane.Fault {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, faults := a.compile(r)
	return faults
}

// compile is the table of r, and the faults of what it can't enforce. mu is held.
func (a *agent) compile(r dataplane.Resources) (*dataplane.Table, []dataplane.Fault) {
	r.DNS = a.names.Answers()
	table, faults := dataplane.Compile(r, a.table)
	if table != nil {
		faults = append(proxy.CheckTLS(table, a.table), a.unbindable(table)...)
	}
	return table, faults
}

// renamed puts in force what DNS says now.
func (a *agent) renamed() {
	a.mu.Lock()
	defer a.mu.Unlock()
	table, faults := a.compile(a.resources)
	if len(faults) > 0 {
		a.log.Error("addresses of names are not used", "error", dataplane.Text(faults)) // they were taken without them
		return
	}
	a.table = table
	a.install()
}

// install makes the listeners those of the table. One that can't be opened, as its port is taken, is tried again: the rest serves.
func (a *agent) install() {
	err := a.server.SetTable(a.table)
	if errors.Is(err, net.ErrClosed) {
		err = nil // the agent ends
	}
	before := a.closed
	a.closed = err
	switch {
	case err == nil && before != nil:
		a.log.Info("what was not open is open now", "listeners", a.listeners())
	case err != nil && (before == nil || !sameLines(err.Error(), before.Error())):
		a.log.Error("can't listen; trying again", "error", err)
	}
}

// sameLines reports whether a and b have the same lines in whatever order.
func sameLines(a, b string) bool {
	sorted := func(s string) []string { return slices.Sorted(strings.SplitSeq(s, "\n")) }
	return slices.Equal(sorted(a), sorted(b))
}

// listeners are those that are open, each as NAME=ADDRESS, sorted.
func (a *agent) listeners() []string {
	list := []string{}
	for name, address := range a.server.Addresses() {
		list = append(list, name+"="+address)
	}
	slices.Sort(list)
	return list
}

func (a *agent) reopen(ctx context.Context) {
	tick := time.NewTicker(reopenWait)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		a.mu.Lock()
		if a.closed != nil {
			a.install()
		}
		if a.client == nil || a.table != nil && a.complete() {
			a.closeUnused()
		}
		a.mu.Unlock()
	}
}

// ready is nil while requests are served as configured.
func (a *agent) ready() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.draining.Load():
		return errors.New("draining")
	case a.client == nil:
		return nil
	case a.table == nil:
		return errors.New("no configuration yet")
	case len(a.table.Listeners) == 0:
		return errors.New("no listener yet")
	case !a.complete():
		return errors.New("some of the configuration waits for the rest of it")
	case a.closed != nil && !a.accepts():
		return fmt.Errorf("not open: %w", a.closed)
	}
	return a.unresolved()
}

// unresolved says at the start which cluster waits for its first addresses, as a call to it would fail. Soon it has some, or nobody can say.
func (a *agent) unresolved() error {
	for _, l := range a.table.Lookups {
		if !a.resolved && a.table.Clusters[l.Cluster].Unresolved {
			return fmt.Errorf("cluster %s has not heard of %s yet", l.Cluster, l.Host)
		}
	}
	a.resolved = true
	return nil
}

// patience is how long a listener may wait for its routes at the start, as long as Envoy would hold back.
const patience = 15 * time.Second

// complete reports whether what the control plane said at first is in force, or would have been if it could: a listener of a TCP
// service may come before the outbound one. mu is held.
func (a *agent) complete() bool {
	if !a.whole {
		s := a.client.Status()
		a.whole = s.Resources == a.resources.Len() && s.Waiting == 0 || time.Since(a.begun) > patience
	}
	return a.whole
}

// accepts reports whether what the agent is for is open: the outbound listener, or else some listener. mu is held.
func (a *agent) accepts() bool {
	open := a.server.Addresses()
	for name, l := range a.table.Listeners {
		if l.Address.String() == a.config.ListenOutbound {
			return open[name] != ""
		}
	}
	return len(open) > 0
}

// notOpen is which listeners in force are not open, and why; nil: all are.
func (a *agent) notOpen() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.closed
}
