package proxy

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
)

// Inside connects clusters to the internal listeners of the same process. The zero value is ready.
type Inside struct {
	mu        sync.Mutex
	listeners map[string]*insideListener
}

var errNoListener = errors.New("no internal listener has this name")

// Dial is outside, except for addresses that stand for internal listeners.
func (i *Inside) Dial(outside Dial) Dial {
	return func(ctx context.Context, address string) (net.Conn, error) {
		name, ok := dataplane.InsideOf(address)
		if !ok {
			return outside(ctx, address)
		}
		i.mu.Lock()
		l := i.listeners[name]
		i.mu.Unlock()
		if l == nil {
			return nil, errNoListener
		}
		ours, theirs := net.Pipe()
		select {
		case l.conns <- theirs:
			return insideConn{ours}, nil
		case <-l.closed:
		case <-ctx.Done():
		}
		_ = ours.Close()
		return nil, errNoListener
	}
}

// listen opens an internal listener. Another one of this name is closed by its owner.
func (i *Inside) listen(name string) net.Listener {
	l := &insideListener{name: name, conns: make(chan net.Conn), closed: make(chan struct{})}
	l.forget = func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		if i.listeners[name] == l {
			delete(i.listeners, name)
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.listeners == nil {
		i.listeners = map[string]*insideListener{}
	}
	i.listeners[name] = l
	return l
}

// insideListener accepts connections of this process.
type insideListener struct {
	name   string
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	forget func()
}

func (l *insideListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *insideListener) Close() error {
	l.once.Do(func() {
		l.forget()
		close(l.closed)
	})
	return nil
}

func (l *insideListener) Addr() net.Addr { return insideAddr(l.name) }

// insideConn is the calling end of a connection to an internal listener.
type insideConn struct{ net.Conn }

// open reports whether the other end still is.
func (c insideConn) open() bool {
	if c.SetReadDeadline(time.Unix(1, 0)) != nil {
		return false
	}
	_, err := c.Read(make([]byte, 1))
	return errors.Is(err, os.ErrDeadlineExceeded) && c.SetReadDeadline(time.Time{}) == nil
}

// insideAddr is the name of an internal listener.
type insideAddr string

// Network implements net.Addr.
func (insideAddr) Network() string { return "internal" }

// String is as Envoy writes it.
func (a insideAddr) String() string { return "envoy://" + string(a) + "/" }
