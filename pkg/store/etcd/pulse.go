package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

const (
	pulseEvery   = 500 * time.Millisecond
	pulseTimeout = time.Second
	connectIn    = 5 * time.Second // a connection that is younger may still be in the making
)

// pulse asks each member again and again whether it answers and has a leader, and keeps away from one that does not while another one does.
// A member that was stopped, or whose packets are lost, keeps its connections; one that the others can't reach takes calls and can't do
// them. A third of all calls would go there and wait for their deadlines, and a watch stand still: until gRPC's keepalive notices after
// 15 s, or for as long as the members are parted. Once its connections are closed, calls that only read are made elsewhere, and watches go on there.
type pulse struct {
	log       *zap.Logger
	endpoints []string
	choose    func(...string) // says which endpoints to use
	cancel    context.CancelFunc
	members   sync.WaitGroup

	mu       sync.Mutex
	open     map[string]map[*notedConn]bool // by the address that gRPC dials
	answered map[string]time.Time           // when an endpoint last did
	out      map[string]bool                // the endpoints that are not used
}

func newPulse(log *zap.Logger, endpoints []string) *pulse {
	return &pulse{
		log: log, endpoints: endpoints, choose: func(...string) {}, cancel: func() {},
		open: map[string]map[*notedConn]bool{}, answered: map[string]time.Time{}, out: map[string]bool{},
	}
}

// start begins to ask, if there is more than one to ask. Each member has a goroutine, until stop.
func (p *pulse) start(config *tls.Config, choose func(...string)) error {
	if len(p.endpoints) < 2 {
		return nil
	}
	p.choose = choose
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(context.Background()))
	p.cancel = cancel
	for _, endpoint := range p.endpoints {
		creds := insecure.NewCredentials()
		if secured(endpoint, config) {
			creds = credentials.NewTLS(config)
		}
		_, address := target(endpoint)
		conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(creds), grpc.WithContextDialer(p.dial), connectSoon)
		if err != nil {
			p.stop()
			return err
		}
		p.members.Go(func() {
			defer conn.Close()
			p.follow(ctx, endpoint, address, healthpb.NewHealthClient(conn))
		})
	}
	return nil
}

func (p *pulse) stop() {
	p.cancel()
	p.members.Wait()
}

func (p *pulse) follow(ctx context.Context, endpoint, address string, member healthpb.HealthClient) {
	tick := time.NewTicker(pulseEvery)
	defer tick.Stop()
	for {
		call, cancel := context.WithTimeout(ctx, pulseTimeout)
		_, err := member.Check(call, &healthpb.HealthCheckRequest{})
		cancel()
		if ctx.Err() != nil {
			return
		}
		p.heard(endpoint, address, err)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// heard acts on what a member answered.
func (p *pulse) heard(endpoint, address string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	out := p.judge(endpoint, err, now)
	if out == p.out[endpoint] {
		if out {
			// On a busy machine they would never be made.
			p.cut(address, now.Add(-connectIn))
		}
		return
	}
	if out {
		p.cut(address, now)
	}
	p.out[endpoint] = out
	p.choose(slices.DeleteFunc(slices.Clone(p.endpoints), func(e string) bool { return p.out[e] })...)
	if out {
		p.log.Warn("a member of etcd is left aside: it does not answer, or has no leader", zap.String("endpoint", endpoint), zap.Error(err))
	} else {
		p.log.Warn("a member of etcd is used again", zap.String("endpoint", endpoint))
	}
}

// judge reports whether an endpoint is to be left aside. One that is not there at all is in nobody's way. Where no other answers there is
// nothing better, and the trouble may be on this side.
func (p *pulse) judge(endpoint string, err error, now time.Time) bool {
	switch {
	case status.Code(err) == codes.DeadlineExceeded, errors.Is(rpctypes.Error(err), rpctypes.ErrNoLeader):
		for other, at := range p.answered {
			if other != endpoint && !p.out[other] && now.Sub(at) < pulseEvery+pulseTimeout {
				return true
			}
		}
		return false
	case status.Code(err) == codes.Unavailable:
		return p.out[endpoint]
	}
	p.answered[endpoint] = now
	return false
}

// cut closes the connections to a member that were begun up to then.
func (p *pulse) cut(address string, then time.Time) {
	for c := range p.open[address] {
		if !c.begun.After(then) {
			delete(p.open[address], c)
			_ = c.Conn.Close()
		}
	}
}

// cutAll closes all connections, so that what comes next goes over new ones. A nil pulse has none.
func (p *pulse) cutAll() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for address := range p.open {
		p.cut(address, time.Now())
	}
}

// dial is gRPC's way to a member.
func (p *pulse) dial(ctx context.Context, address string) (net.Conn, error) {
	network, where := target(address)
	var d net.Dialer
	c, err := d.DialContext(ctx, network, where)
	if err != nil {
		return nil, err
	}
	noted := &notedConn{Conn: c, pulse: p, address: address, begun: time.Now()}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open[address] == nil {
		p.open[address] = map[*notedConn]bool{}
	}
	p.open[address][noted] = true
	return noted, nil
}

// notedConn is a connection that its pulse can close.
type notedConn struct {
	net.Conn
	pulse   *pulse
	address string
	begun   time.Time
}

// Close implements net.Conn.
func (c *notedConn) Close() error {
	c.pulse.mu.Lock()
	delete(c.pulse.open[c.address], c)
	c.pulse.mu.Unlock()
	return c.Conn.Close()
}
