package proxy

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/engine"
)

// pool2 holds HTTP/2 connections to a host. A connection takes requests up to the host's concurrency; only then another is opened.
// It uses single connections of net/http, whose own pool would send a request again without being asked.
type pool2 struct {
	pool
	conns   []*http.ClientConn // guarded by mu
	dialing bool               // guarded by mu
	use     sync.Mutex         // held while a stream is reserved, and while it is looked whether none is
}

// counted tells the pool of its end.
type counted struct {
	net.Conn
	once  sync.Once
	ended func()
}

func (c *counted) Close() error {
	defer c.once.Do(c.ended)
	return c.Conn.Close()
}

// take reserves a stream for the attempt and admits it. Without one and without a failure the other protocol's pool is to be asked.
func (p *pool2) take(ctx context.Context, a *engine.Attempt) (*http.ClientConn, engine.Failure) {
	cc := p.reserve()
	if cc == nil {
		if !a.Queue() {
			return nil, engine.Overflow
		}
		var failure engine.Failure
		cc, failure = p.wait(ctx, a)
		a.Unqueue()
		if failure != engine.None || cc == nil {
			return nil, failure
		}
	}
	if !a.Admit() {
		cc.Release()
		return nil, engine.Overflow
	}
	return cc, engine.None
}

// reserve takes a stream of a connection, nil where none has room.
func (p *pool2) reserve() *http.ClientConn {
	p.mu.Lock()
	conns := p.conns
	p.mu.Unlock()
	p.use.Lock()
	defer p.use.Unlock()
	for _, cc := range conns {
		if cc.Reserve() == nil {
			return cc
		}
	}
	return nil
}

// wait returns a connection with a stream reserved for the attempt.
func (p *pool2) wait(ctx context.Context, a *engine.Attempt) (*http.ClientConn, engine.Failure) {
	w := &waiter{c: make(chan grant, 1)}
	p.mu.Lock()
	p.waiters = append(p.waiters, w)
	p.dialMore(a.Config)
	p.mu.Unlock()
	if cc := p.reserve(); cc != nil { // freed before w was there to be told
		p.forgo(w)
		return cc, engine.None
	}
	select {
	case g := <-w.c:
		return g.stream, g.failure
	case <-ctx.Done():
		p.forgo(w)
		return nil, engine.LocalReset
	}
}

// dialMore opens a connection, unless one is being opened or the limits forbid it. mu is held.
func (p *pool2) dialMore(config *dataplane.Cluster) {
	if p.dialing || len(p.waiters) == 0 || !p.host.OpenConnection(p.priority, p.open == 0) {
		return
	}
	p.dialing = true
	p.open++
	go p.connect2(config)
}

// forgo gives up waiting, and what was granted meanwhile.
func (p *pool2) forgo(w *waiter) {
	p.mu.Lock()
	i := slices.Index(p.waiters, w)
	if i >= 0 {
		p.waiters = slices.Delete(p.waiters, i, i+1)
	}
	p.mu.Unlock()
	if i >= 0 {
		return
	}
	if g := <-w.c; g.stream != nil {
		g.stream.Release()
	}
}

// next is who waits longest, nil where nobody does.
func (p *pool2) next() *waiter {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiters) == 0 {
		return nil
	}
	w := p.waiters[0]
	p.waiters = slices.Delete(p.waiters, 0, 1)
	return w
}

func (p *pool2) waiting() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.waiters) > 0
}

// serve gives the streams of cc to those who wait, and reports whether it gave any.
func (p *pool2) serve(cc *http.ClientConn) (served bool) {
	for p.waiting() && cc.Reserve() == nil {
		w := p.next()
		if w == nil {
			cc.Release()
			break
		}
		w.c <- grant{stream: cc}
		served = true
	}
	return served
}

func (p *pool2) connect2(config *dataplane.Cluster) {
	cc, failure := p.open2(config)
	if cc == nil {
		p.mu.Lock()
		p.dialing = false
		p.mu.Unlock()
		p.tellAll(grant{failure: failure, moved: failure == engine.None})
		return
	}
	served := p.serve(cc) // before it is retired, where the host has gone meanwhile
	p.mu.Lock()
	p.dialing = false
	gone := p.gone
	if !gone {
		p.conns = append(slices.Clip(p.conns), cc)
	}
	if served {
		p.dialMore(config)
	}
	p.mu.Unlock()
	cc.SetStateHook(p.changed)
	if p.isGone() {
		p.retire(cc)
	}
	p.serve(cc) // who came in between
}

// open2 returns neither a connection nor a failure where the host has chosen HTTP/1.1: that pool has the connection then.
func (p *pool2) open2(config *dataplane.Cluster) (*http.ClientConn, engine.Failure) {
	raw, chosen, failure := p.lane.open(config, offer(config, true))
	if failure != engine.None {
		p.host.ConnectFailed(failure == engine.ConnectTimeout)
		p.closedOne()
		return nil, failure
	}
	if config.AutoHTTP && chosen != "h2" {
		p.cede(raw)
		return nil, engine.None
	}
	raw = &counted{Conn: raw, ended: p.closedOne}
	cc, err := transport2(raw, config).NewClientConn(context.Background(), "http", p.host.Address.String())
	if err != nil {
		_ = raw.Close()
		return nil, engine.Termination
	}
	return cc, engine.None
}

// cede gives a connection to the pool of HTTP/1.1.
func (p *pool2) cede(raw net.Conn) {
	p.lane.chosen.Store(true)
	p.mu.Lock()
	p.open--
	p.mu.Unlock()
	h1 := &p.lane.h1[p.priority]
	h1.mu.Lock()
	h1.open++
	h1.mu.Unlock()
	h1.put(newConn(raw, h1.closedOne))
}

// changed is told of a connection with room, or that has ended. It may be called while use is held.
func (p *pool2) changed(cc *http.ClientConn) {
	switch {
	case cc.Err() != nil:
		p.remove(cc)
	case p.isGone():
		go p.retire(cc)
	default:
		p.serve(cc)
	}
}

func (p *pool2) remove(cc *http.ClientConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.conns, cc); i >= 0 {
		p.conns = slices.Delete(slices.Clone(p.conns), i, i+1)
	}
}

func (p *pool2) isGone() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gone
}

// retire ends a connection once it has no requests. No stream of it is reserved meanwhile.
func (p *pool2) retire(cc *http.ClientConn) {
	p.use.Lock()
	defer p.use.Unlock()
	if cc.InFlight() == 0 {
		_ = cc.Close()
	}
}

func (p *pool2) shut() {
	p.mu.Lock()
	p.gone = true
	conns := p.conns
	p.conns = nil
	p.mu.Unlock()
	for _, cc := range conns {
		p.retire(cc)
	}
}

// transport2 makes one connection of raw.
func transport2(raw net.Conn, config *dataplane.Cluster) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Transport{
		DialContext:            func(context.Context, string, string) (net.Conn, error) { return raw, nil },
		Protocols:              protocols,
		DisableCompression:     true,
		IdleConnTimeout:        config.IdleTimeout,
		MaxResponseHeaderBytes: int64(headLimitOf(config)),
	}
}

// try2 is Try over HTTP/2. Moved says that the attempt is still to be made, in the other protocol.
func (x *exchange) try2(ctx context.Context, a *engine.Attempt, l *lane) (res engine.Result, moved bool) {
	a.HTTP2 = true
	cc, failure := l.h2[a.Priority].take(ctx, a)
	if cc == nil {
		return engine.Result{Failure: failure}, failure == engine.None
	}
	trace := &httptrace.ClientTrace{
		Got1xxResponse: func(status int, h textproto.MIMEHeader) error {
			x.inform(status, http.Header(h))
			return nil
		},
	}
	x.told = a.Budgeted(x.header)
	resp, err := cc.RoundTrip(x.request2(httptrace.WithClientTrace(ctx, trace)))
	if err != nil {
		x.closeReader()
		return engine.Result{Failure: x.failure(failureOf2(ctx, err))}, false
	}
	if !a.Config.TakesHeaders(lines(resp.Header)) || ofOneConnection(resp.Header) {
		_ = resp.Body.Close()
		x.closeReader()
		return engine.Result{Failure: engine.ProtocolError}, false
	}
	x.trailed = true
	x.resp, x.in, x.release = resp, nil, func(bool) { x.closeReader() }
	return engine.Result{Status: resp.StatusCode, Header: resp.Header}, false
}

// ofOneConnection reports whether h has what HTTP/2 forbids.
func ofOneConnection(h http.Header) bool {
	for _, name := range hopByHop {
		if name != "Trailer" && name != "Te" && h[name] != nil {
			return true
		}
	}
	return false
}

func (x *exchange) request2(ctx context.Context) *http.Request {
	header := maps.Clone(x.told) // a hedged attempt may be sending it
	if header["User-Agent"] == nil {
		header["User-Agent"] = []string{""} // none, rather than Go's
	}
	if d := x.expected(); d > 0 {
		header[expectedTimeout] = []string{strconv.FormatInt(d.Milliseconds(), 10)}
	}
	if x.counted {
		header[attemptCount] = []string{strconv.Itoa(x.number)}
	}
	opaque := x.target
	if strings.HasPrefix(opaque, "//") {
		opaque = x.scheme + "://" + x.host + opaque
	}
	req := new(http.Request).WithContext(ctx)
	req.Method, req.Host, req.Header = x.method, x.host, header
	req.Proto, req.ProtoMajor, req.Body = "HTTP/2.0", 2, http.NoBody
	req.URL = &url.URL{Scheme: x.scheme, Host: x.host, Opaque: opaque}
	if x.body != nil {
		x.reader = x.body.open()
		req.ContentLength, req.Body = x.length, x.reader
		if x.trailers && len(x.announced) > 0 { // else the end goes with the last bytes
			req.Trailer = make(http.Header, len(x.announced))
			for _, name := range x.announced {
				req.Trailer[name] = nil
			}
			req.Body = &trailing{x.reader, req.Trailer, x.trailer}
		}
		x.body.lead()
	}
	return req
}

// trailing fills in the trailers at the end of a body.
type trailing struct {
	*bodyReader
	to, from http.Header
}

func (t *trailing) Read(p []byte) (int, error) {
	n, err := t.bodyReader.Read(p)
	if err == io.EOF {
		for name := range t.to {
			t.to[name] = t.from[name]
		}
	}
	return n, err
}

// streamError has the shape of net/http's, which fills it in.
type streamError struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

func (e streamError) Error() string { return "stream error" }

// HTTP/2's codes of streams that end badly.
const (
	protocolError = 1
	refusedStream = 7
)

// failureOf2 says what an error of an exchange means. net/http has no more than words for some. A host that says GOAWAY refuses the
// streams that it doesn't count; one that closes its connection after that may have seen the others.
func failureOf2(ctx context.Context, err error) engine.Failure {
	var stream streamError
	switch {
	case ctx.Err() != nil:
		return engine.LocalReset
	case errors.As(err, &stream) && stream.Code == refusedStream, strings.Contains(err.Error(), "Transport received "): // a GOAWAY below the stream
		return engine.RefusedStream
	case errors.As(err, &stream) && stream.Code == protocolError:
		return engine.ProtocolError
	case errors.As(err, &stream), strings.Contains(err.Error(), "header list larger than"):
		return engine.RemoteReset
	case strings.HasPrefix(err.Error(), "connection error: "), strings.Contains(err.Error(), "frame too large"), strings.Contains(err.Error(), "frame payload"):
		return engine.ProtocolError
	}
	return engine.Termination
}
