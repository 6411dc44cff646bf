// Package controlplane is the home of the breakwater program: its configuration, its wiring, its life.
package controlplane

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/apiserver"
	"github.com/breakwater-mesh/breakwater/pkg/ejections"
	"github.com/breakwater-mesh/breakwater/pkg/fleet"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/reconcile"
	"github.com/breakwater-mesh/breakwater/pkg/telemetry"
	"github.com/breakwater-mesh/breakwater/pkg/world"
	"github.com/breakwater-mesh/breakwater/pkg/xds"
)

// Run runs the control plane until ctx ends, and returns nil if everything then stopped in order. Nothing is left behind where it can't start.
func Run(ctx context.Context, c Config, log hclog.Logger) error {
	ls, err := open(c)
	if err != nil {
		return err
	}
	defer ls.close()
	opened, err := openStore(ctx, c, log)
	if err != nil {
		return err
	}
	err = serve(ctx, c, log, ls, opened)
	if closeErr := opened.close(); closeErr != nil {
		err = errors.Join(err, fmt.Errorf("close the store: %w", closeErr))
	}
	if err == nil {
		log.Info("stopped")
	}
	return err
}

// parts are what one control plane is made of.
type parts struct {
	config  Config
	log     hclog.Logger
	metrics *telemetry.Metrics
	loop    *reconcile.Loop
	fleet   *fleet.Registry
	xds     *xds.Server
	grpc    *grpc.Server
	health  *health.Server
	expiry  *apiserver.Expiry
	raise   raiser
	api     *http.Server
	admin   *http.Server
	status  *grpc.Server // on the admin port

	serving  chan struct{} // closed by serve: the world is there, and the other replicas know of this one
	leaving  chan struct{} // closed by stop: proxies and load balancers are to go elsewhere
	stopping chan struct{} // closed by stop, later: the API ends
}

func assemble(c Config, log hclog.Logger, opened openedStore, self api.Replica) *parts {
	p := &parts{config: c, log: log, metrics: telemetry.NewMetrics(), health: health.NewServer(), serving: make(chan struct{}), leaving: make(chan struct{}), stopping: make(chan struct{})}
	p.health.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	p.loop = reconcile.New(opened.kv, log.Named("reconcile"), p.built)
	p.metrics.StaleSince(func() (time.Time, bool) {
		s := p.loop.Stale()
		if s == nil {
			return time.Time{}, false
		}
		return s.Since, true
	})
	p.metrics.Quarantined(func() int { return objects(p.loop.Quarantined()) })
	p.metrics.Leased(leaseStates(), func(state string) int { return leased(p.loop.World(), state) })
	p.xds = xds.New(xds.Config{Classes: p.loop, Confirm: p.confirm, Logger: log.Named("xds"), Metrics: p.metrics, Drain: c.drain()})
	p.grpc = grpc.NewServer(xds.ServerOptions()...)
	p.xds.Register(p.grpc)
	ejections.NewReceiver(p.xds, log.Named("ejections")).Register(p.grpc)
	healthpb.RegisterHealthServer(p.grpc, p.health)
	p.fleet = fleet.New(fleet.Config{KV: opened.kv, Self: self, Lease: c.ReplicaLease, Log: log.Named("fleet")})
	writes := apiserver.Config{
		KV: opened.kv, Worlds: p.loop, Book: book{p.loop, p.xds}, Classes: p.xds.Classes, Ejected: p.xds.Ejected, Quarantined: p.loop.Quarantined, Log: log.Named("api"), Version: telemetry.Version, Hosts: askedAs(c, self), Peers: p.fleet,
		Held: book{p.loop, p.xds}.Held, Stopping: p.stopping,
	}
	p.api, p.expiry = httpServer(apiserver.New(writes)), apiserver.NewExpiry(writes)
	p.raise = raiser{kv: opened.kv, log: log.Named("vintage"), self: self, others: p.fleet.Others, world: p.loop.World}
	p.status = grpc.NewServer()
	p.xds.RegisterStatus(p.status)
	p.admin = adminServer(byAddress(withGRPC(adminPort(p.metrics.Handler(), p.ready), p.status), c.AllowedHosts))
	return p
}

// built tells the metrics what the loop has built.
func (p *parts) built(b reconcile.Built) {
	if b.Class {
		p.metrics.Class(b.Elapsed)
	} else {
		p.metrics.Step(b.Revision, b.Events, b.Elapsed, b.Problems)
	}
}

// ready is no error while proxies and operators are to come here.
func (p *parts) ready() (how string, err error) {
	select {
	case <-p.leaving:
		return "", errStopping
	default:
	}
	if s := p.loop.Stale(); s != nil {
		how = fmt.Sprintf(": stale, the store was last heard at %s", s.Since.UTC().Format(time.RFC3339))
	}
	return how, p.started()
}

// started is nil once proxies and operators are answered.
func (p *parts) started() error {
	if err := p.loop.Ready(); err != nil {
		return err
	}
	select {
	case <-p.serving:
		return nil
	default:
		return errors.New("the other replicas do not know of this one yet")
	}
}

// startWait is how long a stream waits for the start before it is told to go elsewhere.
const startWait = 2 * time.Second

// confirm returns nil once a proxy that comes new may be answered.
func (p *parts) confirm(ctx context.Context) error {
	timer := time.NewTimer(startWait)
	defer timer.Stop()
	select {
	case <-p.serving:
		return p.loop.Confirm(ctx)
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return fmt.Errorf("starting: %w", cmp.Or(p.started(), errStarting))
	}
}

var errStarting = errors.New("all but done")

// objects is how many policies and guardrails are in quarantine, each perhaps for many services.
func objects(list []world.Quarantined) int {
	type object struct {
		kind string
		key  manifest.Key
	}
	all := make(map[object]bool)
	for _, q := range list {
		all[object{q.Kind, q.Key}] = true
	}
	return len(all)
}

// httpServer bounds what a slow or hostile client can hold. Answers are not bounded here: a read may wait for a revision, a profile takes as
// long as was asked for.
func httpServer(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10}
}

// serve starts in order (world, then proxies, then writes) and stops in reverse. Streams are taken from the beginning, since one that is
// not taken would wait in the kernel; until there is a world each is told to go elsewhere.
func serve(ctx context.Context, c Config, log hclog.Logger, ls listeners, opened openedStore) error {
	p := assemble(c, log, opened, replicaOf(c, ls.api.Addr()))
	// Parts end one after another, so each has a context of its own that outlives ctx.
	group, inner := errgroup.WithContext(context.WithoutCancel(ctx))
	loopCtx, stopLoop := context.WithCancelCause(inner)
	xdsCtx, stopXDS := context.WithCancelCause(inner)
	fleetCtx, stopFleet := context.WithCancelCause(inner)
	expiryCtx, stopExpiry := context.WithCancelCause(inner)
	defer stopExpiry(nil)
	defer stopFleet(nil)
	defer stopLoop(nil)
	defer stopXDS(nil)

	group.Go(func() error { return p.serveHTTP("--listen-admin", p.admin, ls.admin) }) // first: health and profiles are wanted most when the start hangs
	group.Go(func() error { return orderly(p.loop.Run(loopCtx)) })
	group.Go(func() error { return orderly(p.xds.Run(xdsCtx)) })
	group.Go(func() error { return p.serveGRPC(ls.xds) })
	group.Go(func() error { return orderly(p.expiry.Run(expiryCtx)) })
	group.Go(func() error { return orderly(p.raise.run(expiryCtx)) }) // a write too
	group.Go(func() error { return orderly(p.fleet.Run(fleetCtx)) })
	group.Go(func() error {
		drain := time.Duration(0)
		select {
		case <-inner.Done():
		case <-ctx.Done():
			drain = c.drain()
		case err := <-opened.failed:
			return fmt.Errorf("embedded etcd: %w", err)
		}
		stopExpiry(errStopping)
		p.stop(drain, stopXDS, stopFleet, stopLoop)
		return nil
	})
	if p.firstWorld(ctx, inner) {
		p.join(ctx, inner)
		close(p.serving)
		p.health.SetServingStatus("", healthpb.HealthCheckResponse_SERVING)
		group.Go(func() error { return p.serveHTTP("--listen-api", p.api, ls.api) })
		log.Info("serving", "xds", ls.xds.Addr(), "api", ls.api.Addr(), "admin", ls.admin.Addr(), "revision", p.loop.World().Rev, "version", telemetry.Version,
			"replica", p.fleet.Self().ID, "advertised", p.fleet.Self().Address)
	}
	return group.Wait()
}

// firstWorld waits until the store was read and the world built. False: the program is ending.
func (p *parts) firstWorld(ctx, inner context.Context) bool {
	waiting, cancel := context.WithCancel(inner)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	return p.loop.Wait(waiting, 0) == nil
}

// joinTimeout is how long a start waits for its entry among the replicas: without one it serves all the same.
const joinTimeout = 5 * time.Second

// join waits until the other replicas can know of this one, before any proxy is connected to it.
func (p *parts) join(ctx, inner context.Context) {
	timer := time.NewTimer(joinTimeout)
	defer timer.Stop()
	select {
	case <-p.fleet.Joined():
	case <-ctx.Done():
	case <-inner.Done():
	case <-timer.C:
		p.log.Warn("not registered yet: the other control planes do not count on this one")
	}
}

// orderly is nil for the end that stop asked for.
func orderly(err error) error {
	if errors.Is(err, errStopping) || errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

var errStopping = errors.New("stopping")

func (p *parts) serveHTTP(flag string, s *http.Server, l net.Listener) error {
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("%s: %w", flag, err)
	}
	return nil
}

func (p *parts) serveGRPC(l net.Listener) error {
	if err := p.grpc.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("--listen-xds: %w", err)
	}
	return nil
}

// stop ends the parts in reverse order. First, for the time of drain, proxies are sent elsewhere one by one, and who asks the API before
// its load balancer has noticed is answered. Then there are no more writes, then no more streams, then the entry among the replicas, then the loop.
func (p *parts) stop(drain time.Duration, stopXDS, stopFleet, stopLoop context.CancelCauseFunc) {
	p.log.Info("stopping", "drain", drain)
	close(p.leaving)
	p.health.Shutdown()
	if drain > 0 {
		p.goAway(stopXDS)
		time.Sleep(drain)
	}
	close(p.stopping)
	ctx, cancel := context.WithTimeout(context.Background(), p.config.ShutdownTimeout)
	defer cancel()
	if err := p.api.Shutdown(ctx); err != nil {
		p.log.Warn("API requests were cut off", "error", err)
		_ = p.api.Close()
	}
	drained := p.goAway(stopXDS)
	select {
	case <-drained:
	case <-ctx.Done():
		p.grpc.Stop()
		<-drained
	}
	stopFleet(errStopping)
	stopLoop(errStopping)
	p.status.Stop() // a stream would hold up the end
	_ = p.admin.Shutdown(ctx)
	_ = p.admin.Close()
}

// goAway tells every connection of a proxy, by GOAWAY, that its next stream is to be made elsewhere, and ends the streams, in the time of
// drain. What it returns is closed when all have gone. It may be called again.
func (p *parts) goAway(stopXDS context.CancelCauseFunc) (gone <-chan struct{}) {
	stopXDS(errStopping) // streams end with Unavailable
	done := make(chan struct{})
	go func() { defer close(done); p.grpc.GracefulStop() }()
	return done
}
