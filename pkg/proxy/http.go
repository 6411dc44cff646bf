package proxy

import (
	"crypto/rand"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/engine"
)

// serve is the seam: one request of the application, through the engine, to its answer.
func (l *listener) serve(w http.ResponseWriter, r *http.Request) {
	config := l.config.Load()
	begun := time.Now()
	if no := refuse(r, config); no.status != 0 {
		no.answer(w, r, config)
		l.refused(begun, r, no)
		return
	}
	req := arrive(r, config)
	l.stats.Request(r.ProtoMajor)
	call := l.server.engine.Begin(r.Context(), config, req)
	var before early
	x := newExchange(w, r, req, config, call, &before)
	answer := l.ask(call, r, x)
	before.end()
	f := flow{l: l, w: w, r: r, call: call, x: x, config: config}
	if winner, ok := answer.From.(*exchange); ok {
		f.x = winner
	}
	f.answer(answer)
	took := time.Since(begun)
	l.stats.Response(f.status, answer.Flags, took)
	f.tell(begun, took)
	if f.broken {
		panic(http.ErrAbortHandler) // the application must not take what it got for the whole
	}
}

// ask takes the request to its answer. Upgrades that are not allowed get no further than their route.
func (l *listener) ask(call *engine.Call, r *http.Request, x *exchange) engine.Answer {
	if x.upgrade != "" && !(l.config.Load().Websocket && strings.EqualFold(x.upgrade, "websocket")) {
		return call.Refuse(http.StatusForbidden, "upgrade_failed")
	}
	return call.Do(r.Context(), x)
}

// arrive makes the request what the listener says, and what the engine looks at: absolute targets become paths, headers that it drops are gone.
func arrive(r *http.Request, config *dataplane.HTTP) *engine.Request {
	if !strings.HasPrefix(r.RequestURI, "/") && r.RequestURI != "*" {
		target := r.URL.RequestURI()
		if !strings.HasPrefix(target, "/") {
			target = "/" + target
		}
		r.RequestURI = target
	}
	if strings.EqualFold(upgradeOf(r), "h2c") {
		delete(r.Header, "Upgrade") // the offer is not taken
	}
	keep := config.KeepCertOfMutual && r.TLS != nil && len(r.TLS.PeerCertificates) > 0
	for _, name := range config.DropHeaders {
		if !keep || name != "x-forwarded-client-cert" {
			r.Header.Del(name)
		}
	}
	if config.StripEnvoyHeaders {
		for name := range r.Header {
			if strings.HasPrefix(name, envoyPrefix) {
				delete(r.Header, name)
			}
		}
	}
	from := originOf(r, &config.Trust)
	from.forward(r, config)
	heeded := from.tell(r.Header)
	if config.AddRequestID && (r.Header["X-Request-Id"] == nil || from.edge && !config.Trust.KeepRequestID) {
		r.Header["X-Request-Id"] = []string{rand.Text()}
	}
	return &engine.Request{
		Method: r.Method, Authority: r.Host, Path: r.RequestURI, Header: r.Header,
		Scheme: schemeSaid(r, config), Internal: heeded, Remote: from.remote, HTTP2: r.ProtoMajor == 2,
	}
}

// schemeSaid is the scheme that r is said to have.
func schemeSaid(r *http.Request, config *dataplane.HTTP) string {
	if config.Scheme != "" {
		return config.Scheme
	}
	if r.ProtoMajor == 1 && config.AddForwardedProto {
		if said := r.Header.Get("X-Forwarded-Proto"); strings.EqualFold(said, "http") || strings.EqualFold(said, "https") {
			return said
		}
	}
	return schemeOf(r)
}

// schemeOf is how r came.
func schemeOf(r *http.Request) string {
	if r.TLS != nil {
		return "https"
	}
	return "http"
}

// newExchange makes the upstream side of r, which is req on its way.
func newExchange(w http.ResponseWriter, r *http.Request, req *engine.Request, config *dataplane.HTTP, call *engine.Call, before *early) *exchange {
	x := &exchange{outgoing: outgoing{method: r.Method, target: req.Path, host: req.Authority, length: r.ContentLength, trailer: r.Trailer}}
	x.authority, x.scheme, x.http2 = r.Host, req.Scheme, r.ProtoMajor == 2
	x.expected = call.ExpectedTimeout
	x.announced = slices.Collect(maps.Keys(r.Trailer))
	x.trailers = r.ProtoMajor == 2 || config.Trailers
	x.upgrade = upgradeOf(r)
	x.expect = r.ProtoMajor == 1 && strings.EqualFold(r.Header.Get("Expect"), "100-continue")
	x.header = r.Header
	dropHopByHop(x.header)
	if x.counted = call.CountsAttempts(); x.counted {
		x.header.Del(attemptCount)
	}
	x.header.Del("Expect")
	x.header.Del("Content-Length")
	if x.expect && !config.Proxy100 {
		w.WriteHeader(http.StatusContinue)
		x.expect = false
	}
	x.informational = func(status int, h http.Header) {
		before.send(func() {
			if !call.Informational(status) || !config.Proxy100 {
				return
			}
			copyHeader(w.Header(), h)
			w.WriteHeader(status)
			clear(w.Header())
		})
	}
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		call.Complete()
		return x
	}
	if r.ProtoMajor == 1 { // HTTP/2 is so anyway
		_ = http.NewResponseController(w).EnableFullDuplex()
	}
	x.body = newBody(r.Body, call.BufferLimit(), call.Complete, call.Exceed)
	return x
}

// early is what is sent before the answer, by whoever reads from the host; after end nothing is.
type early struct {
	mu   sync.Mutex
	over bool
}

func (e *early) send(write func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.over {
		write()
	}
}

func (e *early) end() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.over = true
}

// serviceTime tells an application how long its host took, in milliseconds.
const serviceTime = "X-Envoy-Upstream-Service-Time"

// hopByHop are the headers of one connection.
var hopByHop = [...]string{"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}

// dropHopByHop removes them and those that Connection names. "TE: trailers" stays: gRPC asks for it.
func dropHopByHop(h http.Header) {
	trailers := false
	for _, list := range h["Te"] {
		for token := range strings.SplitSeq(list, ",") {
			trailers = trailers || strings.EqualFold(strings.TrimSpace(token), "trailers")
		}
	}
	for _, list := range h["Connection"] {
		for name := range strings.SplitSeq(list, ",") {
			if name = strings.TrimSpace(name); name != "" {
				h.Del(name)
			}
		}
	}
	for _, name := range hopByHop {
		delete(h, name)
	}
	if trailers {
		h["Te"] = []string{"trailers"}
	}
}

// flow brings an answer to the application.
type flow struct {
	l      *listener
	w      http.ResponseWriter
	r      *http.Request
	call   *engine.Call
	x      *exchange
	config *dataplane.HTTP

	status     int
	grpcStatus string
	broken     bool
	in, out    int64 // bytes of the answer's body; in of a tunnel
}

func (f *flow) answer(a engine.Answer) {
	if a.Gone && f.r.ProtoMajor == 1 && f.x.body != nil && f.x.body.malformed() {
		f.call.Finish(engine.AppGone)
		f.local(malformed)
		f.closeBody()
		return
	}
	if a.Gone {
		f.call.Finish(engine.AppGone)
		f.closeBody()
		f.broken = true
		return
	}
	if a.Local != nil {
		f.local(a.Local)
		f.call.Finish(engine.Whole)
		f.closeBody()
		return
	}
	f.status = a.Status
	if a.Status == http.StatusSwitchingProtocols {
		f.tunnel(a)
		return
	}
	err := f.respond(a)
	failure := f.x.broke(err)
	f.x.end(err == nil)
	f.closeBody()
	switch {
	case err == nil:
		f.call.Finish(engine.Whole)
	case f.r.Context().Err() != nil:
		f.call.Finish(engine.AppGone)
		f.broken = true
	default:
		f.call.FinishBroken(failure)
		f.broken = true
	}
}

// closeBody ends the pump. An application that is still sending is cut off, as what it sends is of no use any more.
func (f *flow) closeBody() {
	b := f.x.body
	if b == nil {
		return
	}
	if whole := b.stop(); !whole {
		_ = http.NewResponseController(f.w).SetReadDeadline(time.Unix(1, 0))
	}
	b.join()
}

// respond sends the response on as it comes. An error means that it broke off, on either side.
func (f *flow) respond(a engine.Answer) error {
	h := f.w.Header()
	resp := f.x.resp
	for _, name := range hopByHop { // what Connection names passes, as through Envoy
		delete(resp.Header, name)
	}
	copyHeader(h, resp.Header)
	if f.config.ServerHeader != "" && !(f.config.KeepServer && h["Server"] != nil) {
		h["Server"] = []string{f.config.ServerHeader}
	}
	f.identify(h)
	if took, ok := f.call.ServiceTime(); ok && f.x.upgrade == "" {
		h[serviceTime] = []string{strconv.FormatInt(took.Milliseconds(), 10)}
	}
	if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = nil // not to be guessed
	}
	if _, ok := h["Content-Length"]; !ok && f.r.ProtoMajor == 2 {
		h["Content-Length"] = nil // nor is 0 to be said where the host has not
	}
	if f.last() {
		h["Connection"] = []string{"close"}
	}
	for name := range resp.Trailer {
		h.Add("Trailer", strings.ToLower(name))
	}
	announced := len(resp.Trailer)
	f.w.WriteHeader(a.Status)
	f.grpcStatus = resp.Header.Get("Grpc-Status")
	if err := f.copy(resp); err != nil {
		return err
	}
	f.call.Trailer(resp.Trailer)
	if status := resp.Trailer.Get("Grpc-Status"); status != "" {
		f.grpcStatus = status
	}
	if !f.x.trailed || f.r.ProtoMajor == 1 && !f.config.Trailers {
		return nil
	}
	if len(resp.Trailer) == announced {
		copyHeader(h, resp.Trailer)
		return nil
	}
	for name, values := range resp.Trailer {
		for _, v := range values {
			h.Add(http.TrailerPrefix+name, v)
		}
	}
	return nil
}

// identify tells a caller that may ask for it what the request is called.
func (f *flow) identify(h http.Header) {
	if id := f.r.Header["X-Request-Id"]; id != nil && f.r.Header["X-Envoy-Force-Trace"] != nil {
		h["X-Request-Id"] = id
	}
}

// last reports whether the answer is the last one of its connection: as the agent goes (HTTP/2 then says GOAWAY), or as the rest of
// the request could not be told from the next one.
func (f *flow) last() bool {
	return f.l.ends() || f.x.upgrade != "" || f.x.body != nil && f.r.ProtoMajor == 1 && !f.x.body.whole()
}

// copy flushes whatever has come, the head before a body that has not, unless the end of a body of known length comes with it.
func (f *flow) copy(resp *http.Response) error {
	if f.r.Method == http.MethodHead {
		return nil // its head was all, and over HTTP/2 ended the stream
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	flusher := http.NewResponseController(f.w)
	empty := resp.ContentLength == 0 && f.r.ProtoMajor == 1 // its length is told only where nothing was flushed
	if resp.ContentLength < 0 || f.x.headAlone() && !empty {
		if err := flusher.Flush(); err != nil {
			return err
		}
	}
	left := resp.ContentLength
	for {
		n, err := resp.Body.Read(*buf)
		if n > 0 {
			f.call.Progress()
			left -= int64(n)
			if _, err := f.w.Write((*buf)[:n]); err != nil {
				return err
			}
			f.out += int64(n)
			if left != 0 {
				if err := flusher.Flush(); err != nil {
					return err
				}
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// local answers without a host's response.
func (f *flow) local(reply *engine.LocalReply) {
	f.status = reply.Status
	h := f.w.Header()
	clear(h)
	copyHeader(h, reply.Header)
	f.identify(h)
	if f.config.ServerHeader != "" {
		h["Server"] = []string{f.config.ServerHeader}
	}
	if reply.Body == "" && h["Content-Type"] == nil {
		h["Content-Type"] = nil
	}
	if reply.Body == "" && f.r.ProtoMajor == 2 {
		h["Content-Length"] = nil // as Envoy's codec
	}
	if f.last() {
		h["Connection"] = []string{"close"}
	}
	f.w.WriteHeader(reply.Status)
	f.grpcStatus = h.Get("Grpc-Status")
	if f.r.Method != http.MethodHead {
		_, _ = io.WriteString(f.w, reply.Body)
		f.out = int64(len(reply.Body))
	}
}

func copyHeader(to, from http.Header) {
	for name, values := range from {
		to[name] = append(to[name], values...)
	}
}

// upgradeOf is the protocol that r asks for on its connection, "" where none.
func upgradeOf(r *http.Request) string {
	if r.ProtoMajor != 1 || r.ProtoMinor != 1 {
		return ""
	}
	for _, list := range r.Header["Connection"] {
		for token := range strings.SplitSeq(list, ",") {
			if strings.EqualFold(strings.TrimSpace(token), "upgrade") {
				return r.Header.Get("Upgrade")
			}
		}
	}
	return ""
}

// tunnel joins the connections of both sides after a 101.
func (f *flow) tunnel(a engine.Answer) {
	f.l.streams.all.Add(1) // while the server still waits for this request
	defer f.l.streams.all.Done()
	up := f.x.resp.Body.(*tunnel)
	down, rw, err := http.NewResponseController(f.w).Hijack()
	if err != nil {
		f.x.end(false)
		f.call.Finish(engine.AppGone)
		f.broken = true
		return
	}
	defer down.Close()
	if !f.l.streams.add(down) {
		f.x.end(false)
		f.call.Finish(engine.AppGone)
		return
	}
	defer f.l.streams.remove(down)
	_ = down.SetDeadline(time.Time{})
	resp := *f.x.resp
	resp.Body = nil
	if f.config.ServerHeader != "" {
		resp.Header["Server"] = []string{f.config.ServerHeader}
	}
	end := engine.Whole
	if err := resp.Write(down); err == nil {
		application := &buffered{rw.Reader, down}
		var first ending
		if f.out, f.in, first = join(f.call.Progress, application, up); first.from == application {
			end = engine.AppGone
		}
	}
	f.x.end(false)
	f.call.Finish(end)
}
