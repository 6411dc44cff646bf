package proxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/engine"
)

// buffers are for bodies and streams on their way.
var buffers = sync.Pool{New: func() any { b := make([]byte, 16<<10); return &b }}

// streams are the connections of a listener that are not, or no longer, HTTP.
type streams struct {
	all sync.WaitGroup

	mu   sync.Mutex
	open map[net.Conn]struct{}
	shut bool
}

func (s *streams) add(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shut {
		return false
	}
	if s.open == nil {
		s.open = map[net.Conn]struct{}{}
	}
	s.open[c] = struct{}{}
	return true
}

func (s *streams) remove(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c)
}

// cut ends all connections, and those to come.
func (s *streams) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shut = true
	for c := range s.open {
		_ = c.Close()
	}
}

func (l *listener) acceptTCP() {
	defer close(l.done)
	for {
		c, err := l.net.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // no file left, or the like
			time.Sleep(5 * time.Millisecond)
			continue
		}
		if !l.streams.add(c) {
			_ = c.Close()
			continue
		}
		l.stats.cxTotal.Add(1)
		l.stats.cxActive.Add(1)
		l.streams.all.Go(func() {
			defer l.stats.cxActive.Add(-1)
			defer l.streams.remove(c)
			defer c.Close()
			l.forward(c)
		})
	}
}

// forward joins c with a host of the listener's cluster.
func (l *listener) forward(c net.Conn) {
	config := l.tcp.Load()
	begun := time.Now()
	var up net.Conn
	lease, report := l.server.engine.Connect(config.Cluster, func(h *engine.Host, cluster *dataplane.Cluster) (failure engine.Failure) {
		up, _, failure = h.Pool().(*pools).of(cluster, "").open(cluster, nil)
		return failure
	})
	if lease == nil {
		l.told(begun, time.Since(begun), func(a *Access) { a.report(report) })
		return
	}
	defer lease.Release()
	defer up.Close()
	var idle *time.Timer
	if config.IdleTimeout > 0 {
		idle = time.AfterFunc(config.IdleTimeout, func() {
			_ = c.Close()
			_ = up.Close()
		})
		defer idle.Stop()
	}
	in, out, first := join(func() {
		if idle != nil {
			idle.Reset(config.IdleTimeout)
		}
	}, up, c)
	if first.from == up && errors.Is(first.err, syscall.ECONNRESET) {
		report.Flags |= engine.UR
	}
	l.told(begun, time.Since(begun), func(a *Access) {
		a.report(report)
		a.In, a.Out = in, out
	})
}

// drain lets streams finish until ctx ends. An idle stream does not end by itself.
func (s *streams) drain(ctx context.Context) {
	ended := make(chan struct{})
	go func() {
		s.all.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
		s.cut()
		<-ended
	}
}

// ending is how a stream came to its end: which side had no more to say, and why.
type ending struct {
	from io.ReadWriteCloser
	err  error
}

// join copies both ways until both have ended, and returns how many bytes came to a and to b, and what ended first. An end of one side
// is passed on as an end of writing.
func join(progress func(), a, b io.ReadWriteCloser) (toA, toB int64, first ending) {
	var both sync.WaitGroup
	ended := make(chan ending, 2)
	both.Go(func() { toA = pour(progress, a, b, ended) })
	both.Go(func() { toB = pour(progress, b, a, ended) })
	both.Wait()
	return toA, toB, <-ended
}

// pour copies from one side to the other, and counts. A failure ends both.
func pour(progress func(), to, from io.ReadWriteCloser, ended chan<- ending) (count int64) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for {
		n, err := from.Read(*buf)
		if n > 0 {
			progress()
			count += int64(n)
			if _, werr := to.Write((*buf)[:n]); werr != nil {
				err = werr
			}
		}
		if err == nil {
			continue
		}
		ended <- ending{from, err}
		if half, ok := to.(interface{ CloseWrite() error }); ok && err == io.EOF && half.CloseWrite() == nil {
			return count
		}
		_ = to.Close()
		_ = from.Close()
		return count
	}
}

// buffered is a connection of which some bytes were read already.
type buffered struct {
	in *bufio.Reader
	net.Conn
}

func (b *buffered) Read(p []byte) (int, error) { return b.in.Read(p) }
