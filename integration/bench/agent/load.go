package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// answerTime bounds one answer.
const answerTime = 10 * time.Second

// load keeps requests under way through a proxy, and counts answers.
type load struct {
	done atomic.Int64
	over atomic.Bool

	mu    sync.Mutex
	conns []net.Conn
	err   error // the first
	wg    sync.WaitGroup
}

// dial opens n connections, each of which is worked by its own goroutine.
func (l *load) dial(address string, n int, work func(net.Conn) error) error {
	for range n {
		c, err := net.DialTimeout("tcp", address, answerTime)
		if err != nil {
			return err
		}
		l.conns = append(l.conns, c)
	}
	for _, c := range l.conns {
		l.wg.Go(func() {
			if err := work(c); err != nil && !l.over.Load() {
				l.mu.Lock()
				l.err = cmp.Or(l.err, err)
				l.mu.Unlock()
			}
		})
	}
	return nil
}

// stop ends the load and returns what went wrong with it.
func (l *load) stop() error {
	l.over.Store(true)
	for _, c := range l.conns {
		_ = c.Close()
	}
	l.wg.Wait()
	return l.err
}

// request is a request of HTTP/1.1 with a body of size bytes; method GET has none.
func request(method, path, host string, size int) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\nAccept: */*\r\n", method, path, host)
	if method != "GET" {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", size)
	}
	b.WriteString("\r\n")
	b.Write(bytes.Repeat([]byte("x"), size))
	return b.Bytes()
}

// ask sends a request and waits for its answer.
func ask(c net.Conn, in *bufio.Reader, request []byte) error {
	if _, err := c.Write(request); err != nil {
		return err
	}
	first, length, err := readHead(in)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(first, "HTTP/1.1 200") {
		return fmt.Errorf("answer is %q", first)
	}
	_, err = in.Discard(length)
	return err
}

// repeat sends request again and again on a connection.
func (l *load) repeat(request []byte) func(net.Conn) error {
	return func(c net.Conn) error {
		in := bufio.NewReaderSize(c, 16<<10)
		for {
			if err := ask(c, in, request); err != nil {
				return err
			}
			l.done.Add(1)
		}
	}
}

// call keeps n gRPC calls under way on a connection.
func (l *load) call(host string, n int) func(net.Conn) error {
	return func(c net.Conn) error {
		if _, err := c.Write([]byte(http2.ClientPreface)); err != nil {
			return err
		}
		f := newFramed(c)
		if err := f.open(); err != nil {
			return err
		}
		stream := uint32(1)
		next := func() error {
			defer func() { stream += 2 }()
			return f.ask(stream, host)
		}
		for range n {
			if err := next(); err != nil {
				return err
			}
		}
		ok := false
		fields := hpack.NewDecoder(4096, func(h hpack.HeaderField) { ok = ok || h.Name == "grpc-status" && h.Value == "0" })
		for {
			frame, err := f.next()
			if err != nil {
				return err
			}
			switch t := frame.(type) {
			case *http2.HeadersFrame:
				if _, err := fields.Write(t.HeaderBlockFragment()); err != nil {
					return err
				}
				if !t.StreamEnded() {
					continue
				}
				if !ok {
					return errors.New("a call ended without grpc-status 0")
				}
				ok = false
				l.done.Add(1)
				if err := next(); err != nil {
					return err
				}
			case *http2.RSTStreamFrame, *http2.GoAwayFrame:
				return fmt.Errorf("the proxy sent %v", t)
			}
		}
	}
}

// ask begins a gRPC call.
func (f *framed) ask(stream uint32, host string) error {
	err := f.headers(stream, false, ":method", "POST", ":scheme", "http", ":path", "/bench.Bench/Call", ":authority", host,
		"content-type", "application/grpc", "te", "trailers", "user-agent", "bench")
	if err != nil {
		return err
	}
	return f.WriteData(stream, true, message)
}

// pace sends request rate times a second over a few connections, and returns how long each answer took.
func pace(ctx context.Context, address string, request []byte, rate int, d time.Duration) ([]time.Duration, error) {
	const conns = 8
	l := new(load)
	var mu sync.Mutex
	var took []time.Duration
	begin := time.Now()
	var turn atomic.Int64
	work := func(c net.Conn) error {
		in := bufio.NewReader(c)
		for at := begin.Add(time.Duration(turn.Add(1)) * time.Second / time.Duration(rate)); at.Sub(begin) < d && ctx.Err() == nil; {
			time.Sleep(time.Until(at))
			sent := time.Now()
			if err := ask(c, in, request); err != nil {
				return err
			}
			mu.Lock()
			took = append(took, time.Since(sent))
			mu.Unlock()
			at = at.Add(conns * time.Second / time.Duration(rate))
		}
		return nil
	}
	if err := l.dial(address, conns, work); err != nil {
		return nil, err
	}
	l.wg.Wait()
	return took, l.stop()
}

// hold opens n connections, sends request once on each, one after the other, and keeps them.
func hold(address string, request []byte, n int) (*load, error) {
	l := new(load)
	for range n {
		c, err := net.DialTimeout("tcp", address, answerTime)
		if err != nil {
			return l, err
		}
		l.conns = append(l.conns, c)
		if err := ask(c, bufio.NewReaderSize(c, 512), request); err != nil {
			return l, err
		}
	}
	return l, nil
}
