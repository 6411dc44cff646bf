package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/engine"
	"github.com/breakwater-mesh/breakwater/pkg/envoy"
	"github.com/breakwater-mesh/breakwater/pkg/proxy"
	"github.com/breakwater-mesh/breakwater/pkg/registration"
	"github.com/breakwater-mesh/breakwater/pkg/relay"
	"github.com/breakwater-mesh/breakwater/pkg/telemetry"
	"github.com/breakwater-mesh/breakwater/pkg/xdsclient"
)

// reopenWait is how long after a listener could not be opened it is tried again.
const reopenWait = time.Second

// agent is the parts of a running agent.
type agent struct {
	log    hclog.Logger
	engine *engine.Engine
	server *proxy.Server
	client *xdsclient.Client // nil where the agent carries no calls
	relay  *relay.Relay      // nil where nobody is served

	registrar *registration.Registrar // nil: the application is not advertised

	draining  atomic.Bool
	mu        sync.Mutex          // serialises what is applied
	resources dataplane.Resources // of table
	table     *dataplane.Table    // in force; nil before the first
	missing   bool                // a listener of table is not open
}

// Run serves until ctx ends, then lets requests under way finish. Where it returns nil, nothing of it runs any more.
func Run(ctx context.Context, config Config, log hclog.Logger) error {
	if config.StateDir != "" {
		release, err := xdsclient.Lock(config.StateDir)
		if err != nil {
			return fmt.Errorf("--state-dir: %w", err)
		}
		defer release()
	}
	port, err := net.Listen("tcp", config.ListenAdmin)
	if err != nil {
		return fmt.Errorf("--listen-admin: %w", err)
	}
	defer func() { _ = port.Close() }()
	a := &agent{log: log}
	a.engine = engine.New(engine.Options{NewPool: proxy.Pools(proxy.TCP), Rand: rand.Uint64})
	defer a.engine.Close()
	a.server = proxy.NewServer(proxy.Options{
		Engine: a.engine, Dial: proxy.TCP, Listen: listen, Access: config.Access,
		Log: log.Named("http").StandardWriter(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug}),
	})
	if !config.relayOnly() {
		if a.client, err = a.newClient(config); err != nil {
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
	if a.relay, relayPort, err = startRelay(config, servers, log); err != nil {
		return err
	}
	return a.run(ctx, config, port, relayPort)
}

func (a *agent) newClient(config Config) (*xdsclient.Client, error) {
	return xdsclient.New(xdsclient.Config{
		Servers: config.XDS, Layers: envoy.LayerNames(), StateDir: config.StateDir, Apply: a.apply, Logger: a.log.Named("xds"), TLS: config.xdsTLS(),
		Node: xdsclient.Node{
			ID: config.NodeID, Cluster: config.Service + "." + config.Namespace, Version: telemetry.Version, Outbound: config.ListenOutbound,
		},
	})
}

func listen(address string) (net.Listener, error) { return net.Listen("tcp", address) }

func (a *agent) run(ctx context.Context, config Config, port, relayPort net.Listener) error {
	admin := &http.Server{Handler: a.admin(), ReadHeaderTimeout: 10 * time.Second}
	group, ctx := errgroup.WithContext(ctx)
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
	group.Go(func() error {
		a.reopen(ctx)
		return nil
	})
	group.Go(func() error {
		a.advertise(ctx)
		<-ctx.Done()
		a.drain(config.DrainTimeout)
		return admin.Close()
	})
	a.log.Info("started", "admin", port.Addr().String(), "control plane", config.XDS, "service", config.Service, "namespace", config.Namespace)
	return group.Wait()
}

// drain refuses new connections and lets requests under way finish.
func (a *agent) drain(timeout time.Duration) {
	a.draining.Store(true)
	a.log.Info("draining", "at most", timeout)
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	a.server.Close(ctx)
}

// apply puts resources in force, or says what of them can't be.
func (a *agent) apply(r dataplane.Resources) []dataplane.Fault {
	a.mu.Lock()
	defer a.mu.Unlock()
	table, faults := dataplane.Compile(r, a.table)
	if len(faults) > 0 {
		return faults
	}
	a.table, a.resources = table, r
	a.install()
	return nil
}

// install makes the listeners those of the table. One that can't be opened, as its port is taken, is tried again: the rest serves.
func (a *agent) install() {
	err := a.server.SetTable(a.table)
	a.missing = err != nil && !errors.Is(err, net.ErrClosed)
	if a.missing {
		a.log.Error("can't listen", "error", err)
	}
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
		if a.missing {
			a.install()
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
	case a.missing:
		return errors.New("a listener is not open")
	}
	return nil
}
