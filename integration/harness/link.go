package harness

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// Link is a way to an address that can be cut. Its owner calls Close.
type Link struct {
	Address string // 127.0.0.1:port

	to       string
	listener net.Listener
	dials    atomic.Int64
	mu       sync.Mutex
	open     map[net.Conn]bool
	wg       sync.WaitGroup
}

// StartLink listens on loopback and passes connections on to an address.
func StartLink(to string) (*Link, error) {
	l, err := net.Listen("tcp", Loopback(0))
	if err != nil {
		return nil, err
	}
	k := &Link{Address: l.Addr().String(), to: to, listener: l, open: map[net.Conn]bool{}}
	k.wg.Go(k.accept)
	return k, nil
}

// Dials are how many connections have been asked for.
func (k *Link) Dials() int64 { return k.dials.Load() }

// Cut ends the connections that there are.
func (k *Link) Cut() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for c := range k.open {
		_ = c.Close()
	}
}

// Close ends the link.
func (k *Link) Close() {
	_ = k.listener.Close()
	k.Cut()
	k.wg.Wait()
}

func (k *Link) accept() {
	for {
		c, err := k.listener.Accept()
		if err != nil {
			return
		}
		k.dials.Add(1)
		k.wg.Go(func() { k.pass(c) })
	}
}

func (k *Link) pass(c net.Conn) {
	defer c.Close()
	up, err := net.Dial("tcp", k.to)
	if err != nil {
		return
	}
	defer up.Close()
	k.note(c, true)
	defer k.note(c, false)
	k.wg.Go(func() {
		_, _ = io.Copy(up, c)
		_ = up.Close()
	})
	_, _ = io.Copy(c, up)
}

func (k *Link) note(c net.Conn, open bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if open {
		k.open[c] = true
	} else {
		delete(k.open, c)
	}
}
