package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/engine"
)

// maxHead bounds the head of a response where the cluster says nothing.
const maxHead = 1 << 20

func headLimitOf(c *dataplane.Cluster) int {
	if c.MaxHeadersKiB > 0 {
		return int(c.MaxHeadersKiB) << 10
	}
	return maxHead
}

var (
	errHeadTooLarge = errors.New("head of the response is too large")
	errMalformed    = errors.New("malformed response")
)

// conn is an HTTP/1 connection to a host. One exchange uses it at a time.
type conn struct {
	net.Conn
	in     *bufio.Reader
	out    *bufio.Writer
	limit  headLimit
	close  func() // of the pool's count; once
	closed atomic.Bool
	idle   time.Time // since when; guarded by the pool
}

func newConn(c net.Conn, onClose func()) *conn {
	k := &conn{Conn: c, close: onClose}
	k.limit = headLimit{r: c, left: -1}
	k.in = bufio.NewReaderSize(&k.limit, 4<<10)
	k.out = bufio.NewWriterSize(c, 4<<10)
	return k
}

// Close ends the connection. Further calls do nothing.
func (c *conn) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	defer c.close()
	return c.Conn.Close()
}

// usable reports whether an idle connection is still open and silent. Without it a request would be lost on each connection that
// the host has closed meanwhile.
func (c *conn) usable() bool {
	if c.in.Buffered() > 0 {
		return false
	}
	if inside, ok := c.Conn.(insideConn); ok {
		return inside.open()
	}
	secured, isTLS := c.Conn.(*tls.Conn)
	under := c.Conn
	if isTLS {
		under = secured.NetConn()
	}
	s, ok := under.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return false
	}
	var one [1]byte
	var peeked error
	err = raw.Read(func(fd uintptr) bool {
		_, _, peeked = syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		return true
	})
	silent := err == nil && (peeked == syscall.EAGAIN || peeked == syscall.EWOULDBLOCK)
	return silent || isTLS && err == nil && peeked == nil && c.onlyTLS()
}

// onlyTLS reads what has come, and reports whether that was of TLS alone, such as a session ticket: neither an end nor data.
func (c *conn) onlyTLS() bool {
	_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
	_, err := c.in.Peek(1)
	_ = c.SetReadDeadline(time.Time{})
	return errors.Is(err, os.ErrDeadlineExceeded)
}

// expire makes reads and writes fail when ctx ends. The returned function ends that, and reports whether ctx had not ended.
func (c *conn) expire(ctx context.Context) func() bool {
	return context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
}

// readHead reads one head of at most limit bytes: an informational or the final response.
func (c *conn) readHead(req *http.Request, limit int) (*http.Response, error) {
	c.limit.left = limit
	defer func() { c.limit.left = -1 }()
	if !c.oneLength() {
		return nil, errMalformed
	}
	resp, err := http.ReadResponse(c.in, req)
	if err == nil {
		return resp, nil
	}
	if netErr := (net.Error)(nil); errors.As(err, &netErr) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return nil, err
	}
	return nil, errors.Join(errMalformed, err)
}

// oneLength reports whether the head that comes says at most once how long the body is. A head that has not come at once is taken on
// trust: net/http reads it in one way only.
func (c *conn) oneLength() bool {
	if _, err := c.in.Peek(1); err != nil {
		return true // for the reader to find
	}
	head, _ := c.in.Peek(c.in.Buffered())
	said := 0
	for {
		line, rest, more := bytes.Cut(head, newline)
		if !more || len(line) <= 1 {
			return said <= 1
		}
		if says(line, contentLength) || says(line, transferEncoding) {
			said++
		}
		head = rest
	}
}

var newline, contentLength, transferEncoding = []byte("\n"), []byte("content-length:"), []byte("transfer-encoding:")

func says(line, name []byte) bool {
	return len(line) >= len(name) && bytes.EqualFold(line[:len(name)], name)
}

// failureOf says what an error of an exchange means.
func failureOf(ctx context.Context, err error) engine.Failure {
	switch {
	case ctx.Err() != nil:
		return engine.LocalReset
	case errors.Is(err, errMalformed), errors.Is(err, errHeadTooLarge):
		return engine.ProtocolError
	}
	return engine.Termination
}

// headLimit bounds what is read while left is not negative.
type headLimit struct {
	r    io.Reader
	left int
}

func (l *headLimit) Read(p []byte) (int, error) {
	if l.left < 0 {
		return l.r.Read(p)
	}
	if l.left == 0 {
		return 0, errHeadTooLarge
	}
	if len(p) > l.left {
		p = p[:l.left]
	}
	n, err := l.r.Read(p)
	l.left -= n
	return n, err
}
