package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/engine"
)

// expectedTimeout tells a host how long its answer may take, in milliseconds.
const expectedTimeout = "X-Envoy-Expected-Rq-Timeout-Ms"

// attemptCount tells a host which attempt it is.
const attemptCount = "X-Envoy-Attempt-Count"

// continueWait is how long an application that expects 100-continue waits for a host that does not say it.
const continueWait = time.Second

// exchange sends the attempts of one request: it is the engine's Upstream.
type exchange struct {
	outgoing

	number  int            // of the last Try
	told    http.Header    // of the last Try: header, and what this attempt alone says
	trailed bool           // trailers of resp are passed on
	reader  *bodyReader    // of the last Try; nil without a body
	resp    *http.Response // of the last Try
	in      *bufio.Reader  // that resp's body comes from; nil over HTTP/2
	release func(reuse bool)
}

// outgoing is what is sent. Of it only host and header change, where each attempt has the name of its host.
type outgoing struct {
	method, target, host string
	authority            string      // that the application asked for; host may be another
	scheme               string      // of the application's request
	http2                bool        // likewise
	header               http.Header // without hop-by-hop headers
	trailer              http.Header // its values are there once the body has ended; not to be read before
	announced            []string    // names of trailers
	trailers             bool        // they are passed on
	length               int64       // of the body; -1: unknown
	body                 *body       // nil: none
	upgrade              string      // the protocol asked for; "" none
	expect               bool        // the application waits for 100-continue
	informational        func(status int, h http.Header)
	expected             func() time.Duration // what the host is told that its answer may take; 0: nothing
	counted              bool                 // the host is told which attempt it is
}

// Try implements engine.Upstream.
func (x *exchange) Try(ctx context.Context, a *engine.Attempt) engine.Result {
	if x.body != nil && x.body.lost() {
		return engine.Result{Failure: engine.BodyLost}
	}
	if x.body != nil && !x.expect {
		x.body.start() // also while the attempt waits for a connection
	}
	x.number = a.Number
	x.host, x.header = a.AutoHost(x.host, x.header) // it stays so for the attempts after this one, as with Envoy
	l := a.Host.Pool().(*pools).of(a.Config, serverName(a.Config, x.authority))
	for range 3 { // a host that goes on changing its mind can't be spoken to
		try := x.try1
		if x.upgrade == "" && l.http2(a.Config, x.http2) {
			try = x.try2
		}
		if res, moved := try(ctx, a, l); !moved {
			return res
		}
	}
	return engine.Result{Failure: engine.ProtocolError}
}

// try1 is Try over HTTP/1.1. Moved says that the attempt is still to be made, in the other protocol.
func (x *exchange) try1(ctx context.Context, a *engine.Attempt, l *lane) (res engine.Result, moved bool) {
	a.HTTP2 = false
	pool := &l.h1[a.Priority]
	c, failure := pool.get(ctx, a)
	if c == nil {
		return engine.Result{Failure: failure}, failure == engine.None
	}
	stop := c.expire(ctx)
	x.trailed = a.Config.Trailers
	x.told = a.Budgeted(x.header)
	written := x.write(c)
	finish := func(reuse bool) {
		reuse = reuse && x.sent(written)
		x.closeReader()
		if !stop() || !reuse || c.in.Buffered() > 0 {
			pool.discard(c, a.Config)
			return
		}
		pool.put(c)
	}
	resp, err := x.read(c, headLimitOf(a.Config))
	if err == nil && !a.Config.TakesHeaders(lines(resp.Header)+len(resp.TransferEncoding)) {
		err = errMalformed
	}
	if err != nil {
		finish(false)
		return engine.Result{Failure: x.failure(failureOf(ctx, err))}, false
	}
	x.resp, x.in = resp, c.in
	x.release = func(reuse bool) { finish(reuse && !resp.Close && resp.StatusCode != http.StatusSwitchingProtocols) }
	if resp.StatusCode == http.StatusSwitchingProtocols {
		resp.Body = &tunnel{c: c, stop: stop}
	}
	return engine.Result{Status: resp.StatusCode, Header: resp.Header}, false
}

// sentWait is how long the sender of a whole body may take to notice.
const sentWait = 10 * time.Millisecond

// sent reports whether the whole request went out.
func (x *exchange) sent(written <-chan error) bool {
	if x.body == nil || !x.body.whole() {
		select {
		case err := <-written:
			return err == nil
		default:
			return false
		}
	}
	late := time.NewTimer(sentWait)
	defer late.Stop()
	select {
	case err := <-written:
		return err == nil
	case <-late.C:
		return false
	}
}

// Fork implements engine.Upstream. What a fork hears before its response stays with it.
func (x *exchange) Fork() engine.Upstream {
	fork := &exchange{outgoing: x.outgoing} // the rest belongs to a Try that may be running
	fork.expect = false
	fork.informational = func(int, http.Header) {}
	return fork
}

// Drop implements engine.Upstream. The connection is kept where the rest of the response is here already.
func (x *exchange) Drop() {
	if x.resp == nil {
		return
	}
	whole := false
	if n := x.resp.ContentLength; n >= 0 && x.in != nil && n <= int64(x.in.Buffered()) {
		_, err := io.CopyN(io.Discard, x.resp.Body, n)
		whole = err == nil
	}
	x.end(whole)
}

// headAlone reports whether the response's head has come, and nothing of the body that follows.
func (x *exchange) headAlone() bool {
	return x.resp.Body != http.NoBody && (x.in == nil || x.in.Buffered() == 0)
}

// end gives the connection back, or ends it where the response was not read to its end.
func (x *exchange) end(whole bool) {
	if x.resp == nil {
		return
	}
	if !whole {
		x.release(false)
		_ = x.resp.Body.Close()
	} else {
		_ = x.resp.Body.Close()
		x.release(true)
	}
	x.resp = nil
}

// write sends the request. The channel gets its end: at once where there is no body, else when all of it is sent. A failed write is
// for the reader to find: the host may have answered before it closed.
func (x *exchange) write(c *conn) <-chan error {
	written := make(chan error, 1)
	x.writeHead(c.out)
	if x.body == nil {
		written <- c.out.Flush()
		return written
	}
	r := x.body.open()
	x.reader = r
	trailers := x.trailers && x.trailed
	go func() {
		err := x.writeBody(c.out, r, trailers)
		if x.body.broken() {
			_ = c.SetDeadline(time.Unix(1, 0)) // the host would wait for the rest
		}
		written <- err
	}()
	return written
}

// failure is f, unless the application is to blame.
func (x *exchange) failure(f engine.Failure) engine.Failure {
	if x.body != nil && x.body.broken() {
		return engine.LocalReset
	}
	return f
}

// broke is what the error means that ended the response.
func (x *exchange) broke(err error) engine.Failure {
	switch {
	case err == nil || x.resp == nil:
		return engine.None
	case x.resp.ProtoMajor == 2:
		return failureOf2(context.Background(), err)
	}
	return engine.ProtocolError // an end in the middle is no HTTP
}

func (x *exchange) closeReader() {
	if x.reader != nil {
		_ = x.reader.Close()
	}
}

func (x *exchange) writeHead(w *bufio.Writer) {
	_, _ = w.WriteString(x.method)
	_ = w.WriteByte(' ')
	_, _ = w.WriteString(x.target)
	_, _ = w.WriteString(" HTTP/1.1\r\nHost: ")
	_, _ = w.WriteString(x.host)
	_, _ = w.WriteString("\r\n")
	switch {
	case x.upgrade != "":
		writeField(w, "Connection", "Upgrade")
		writeField(w, "Upgrade", x.upgrade)
	case x.length < 0:
		writeField(w, "Transfer-Encoding", "chunked")
		for _, name := range x.announced {
			writeField(w, "Trailer", strings.ToLower(name))
		}
	case x.length > 0 || x.method != http.MethodGet && x.method != http.MethodHead && x.method != http.MethodDelete && x.method != http.MethodTrace: // as Envoy's codec
		writeField(w, "Content-Length", strconv.FormatInt(x.length, 10))
	}
	if x.expect {
		writeField(w, "Expect", "100-continue")
	}
	if d := x.expected(); d > 0 {
		writeField(w, expectedTimeout, strconv.FormatInt(d.Milliseconds(), 10))
	}
	if x.counted {
		writeField(w, attemptCount, strconv.Itoa(x.number))
	}
	for name, values := range x.told {
		for _, v := range values {
			writeField(w, name, v)
		}
	}
	_, _ = w.WriteString("\r\n")
}

// writeField relies on the server having refused names and values with line breaks.
func writeField(w *bufio.Writer, name, value string) {
	_, _ = w.WriteString(name)
	_, _ = w.WriteString(": ")
	_, _ = w.WriteString(value)
	_, _ = w.WriteString("\r\n")
}

// writeBody sends what there is, whenever nothing more is there at once.
func (x *exchange) writeBody(out *bufio.Writer, r *bodyReader, trailers bool) error {
	var w io.Writer = out
	var chunks io.WriteCloser
	if x.length < 0 {
		chunks = httputil.NewChunkedWriter(out)
		w = chunks
	}
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	buf := *buffer
	for {
		if !r.ready() {
			if err := out.Flush(); err != nil {
				return err
			}
		}
		n, err := r.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if chunks != nil {
		_ = chunks.Close()
		if trailers {
			if err := x.trailer.Write(out); err != nil {
				return err
			}
		}
		_, _ = out.WriteString("\r\n")
	}
	return out.Flush()
}

// read returns the final response; informational ones are passed on.
func (x *exchange) read(c *conn, limit int) (*http.Response, error) {
	var late *time.Timer
	if x.expect && x.body != nil {
		late = time.AfterFunc(continueWait, x.body.start)
		defer late.Stop()
	}
	req := &http.Request{Method: x.method}
	for {
		resp, err := c.readHead(req, limit)
		switch {
		case err != nil:
			return nil, err
		case resp.StatusCode == http.StatusSwitchingProtocols && x.upgrade == "":
			return nil, fmt.Errorf("%w: 101 was not asked for", errMalformed)
		case resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols:
			return resp, nil
		}
		x.inform(resp.StatusCode, resp.Header)
	}
}

// inform passes an informational response on; a 100 lets the body come.
func (x *exchange) inform(status int, h http.Header) {
	x.informational(status, h)
	if status == http.StatusContinue && x.body != nil {
		x.body.start()
	}
}

// tunnel is a connection that has left HTTP. It ends as a whole, as Envoy's: what is half closed is closed.
type tunnel struct {
	c    *conn
	stop func() bool
}

func (t *tunnel) Read(p []byte) (int, error)  { return t.c.in.Read(p) }
func (t *tunnel) Write(p []byte) (int, error) { return t.c.Conn.Write(p) }

// Close implements io.Closer.
func (t *tunnel) Close() error {
	t.stop()
	return t.c.Close()
}
