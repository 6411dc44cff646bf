package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/engine"
	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// manyLanes is how many lanes a host may have before those without connections are dropped. Only names that requests choose make more
// than one.
const manyLanes = 64

// laneKey says which connections are alike: those of one TLS context, for one server name chosen by requests.
type laneKey struct{ tls, server string }

// lane is the connections to a host that are alike.
type lane struct {
	key    laneKey
	host   *engine.Host
	dial   Dial
	tls    *dataplane.UpstreamTLS // nil: plaintext
	secret *secret                // of tls
	h1     [resilience.Priorities]pool
	h2     [resilience.Priorities]pool2
	chosen atomic.Bool // the host has chosen HTTP/1.1, where it may choose
}

// pools are the connections to one host.
type pools struct {
	host    *engine.Host
	dial    Dial
	secrets *secrets
	last    atomic.Pointer[lane] // the one that was used last

	mu     sync.Mutex
	lanes  map[laneKey]*lane
	closed bool
}

// serverName is what a request to host has its TLS connection say, "" where the cluster leaves that to the context.
func serverName(config *dataplane.Cluster, host string) string {
	if config.TLS == nil || !config.AutoSNI && !config.AutoSAN {
		return ""
	}
	return strings.Trim(engine.WithoutPort(host), "[]")
}

// of is the lane for a request of a cluster that is config now.
func (p *pools) of(config *dataplane.Cluster, server string) *lane {
	key := laneKey{server: server}
	if config.TLS != nil {
		key.tls = config.TLS.Identity()
	}
	if l := p.last.Load(); l != nil && l.key == key && (l.tls == nil) == (config.TLS == nil) {
		return l
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.lanes[key]
	if l == nil || (l.tls == nil) != (config.TLS == nil) {
		p.prune(key.tls)
		l = p.add(key, config)
	}
	p.last.Store(l)
	return l
}

// add makes a lane. mu is held.
func (p *pools) add(key laneKey, config *dataplane.Cluster) *lane {
	l := &lane{key: key, host: p.host, dial: p.dial, tls: config.TLS}
	if l.tls != nil {
		l.secret = p.secrets.acquire(&l.tls.TLS)
	}
	for i := range resilience.Priorities {
		l.h1[i] = pool{host: p.host, priority: i, lane: l}
		l.h2[i].pool = pool{host: p.host, priority: i, lane: l}
	}
	if p.closed {
		l.shut(p.secrets)
		return l
	}
	p.lanes[key] = l
	return l
}

// prune shuts the lanes of another context, and where there are many those without connections. mu is held.
func (p *pools) prune(context string) {
	many := len(p.lanes) >= manyLanes
	for key, l := range p.lanes {
		if key.tls != context || many && l.empty() {
			delete(p.lanes, key)
			l.shut(p.secrets)
		}
	}
}

// Close ends idle connections now and the others after their exchange.
func (p *pools) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, l := range p.lanes {
		l.shut(p.secrets)
	}
	p.lanes = nil
	return nil
}

func (l *lane) shut(s *secrets) {
	for i := range l.h1 {
		l.h1[i].shut()
		l.h2[i].shut()
	}
	if l.secret != nil {
		s.release(l.secret)
	}
}

func (l *lane) empty() bool {
	for i := range l.h1 {
		if !l.h1[i].empty() || !l.h2[i].empty() {
			return false
		}
	}
	return true
}

// http2 reports whether a request is sent in HTTP/2. A protocol that the host chooses is taken to be that until it has chosen.
func (l *lane) http2(config *dataplane.Cluster, caller2 bool) bool {
	switch {
	case config.HTTPAsCaller:
		return caller2
	case config.AutoHTTP:
		return !l.chosen.Load()
	}
	return config.HTTP2
}

// offer is what is offered to a host for a connection of HTTP/2 or not.
func offer(config *dataplane.Cluster, http2 bool) []string {
	switch {
	case config.AutoHTTP:
		return []string{"h2", "http/1.1"}
	case http2:
		return []string{"h2"}
	}
	return []string{"http/1.1"}
}

// open makes a connection within the cluster's time, TLS included; alpn is offered where the context says nothing. It returns what the
// host has chosen of it.
func (l *lane) open(config *dataplane.Cluster, alpn []string) (net.Conn, string, engine.Failure) {
	ctx, cancel := context.Background(), context.CancelFunc(func() {})
	if config.ConnectTimeout > 0 {
		ctx, cancel = context.WithTimeout(ctx, config.ConnectTimeout)
	}
	defer cancel()
	begun := time.Now()
	c, err := l.dial(ctx, l.host.Address.String())
	if err == nil && l.tls != nil {
		c, err = l.secure(ctx, c, config, alpn)
	}
	switch {
	case err == nil:
		l.host.Connected(time.Since(begun))
	case ctx.Err() != nil, errors.Is(err, os.ErrDeadlineExceeded):
		return nil, "", engine.ConnectTimeout
	default:
		return nil, "", engine.ConnectRefused
	}
	if t, ok := c.(*tls.Conn); ok {
		return c, t.ConnectionState().NegotiatedProtocol, engine.None
	}
	return c, "", engine.None
}

func (l *lane) secure(ctx context.Context, c net.Conn, config *dataplane.Cluster, alpn []string) (net.Conn, error) {
	name, verified := l.tls.ServerName, ""
	if l.tls.AutoHostName && l.host.Name != "" {
		name = l.host.Name
	}
	if l.tls.VerifyHostName {
		verified = name
	}
	if l.key.server != "" && config.AutoSNI && !isAddress(l.key.server) {
		name = l.key.server
	}
	if config.AutoSAN {
		verified = l.key.server
	}
	t := tls.Client(c, l.secret.client(name, verified, alpn))
	return t, shake(ctx, t, func(stat string) { l.host.Count("ssl." + stat) })
}

func isAddress(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

// secrets are the TLS material in use, by context, shared by all hosts.
type secrets struct {
	mu sync.Mutex
	by map[string]*secret
}

// secret is the material of one context.
type secret struct {
	*material
	users int // guarded by secrets
}

// acquire is the material of config. Release is owed.
func (s *secrets) acquire(config *dataplane.TLS) *secret {
	s.mu.Lock()
	defer s.mu.Unlock()
	one := s.by[config.Identity()]
	if one == nil {
		one = &secret{material: newMaterial(config)}
		s.by[config.Identity()] = one
	}
	one.users++
	return one
}

func (s *secrets) release(one *secret) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if one.users--; one.users == 0 {
		delete(s.by, one.config.Identity())
	}
}
