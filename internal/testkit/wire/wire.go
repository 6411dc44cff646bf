// Package wire puts a way between two programs that a test can hold up or cut.
package wire

import (
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
)

// pipes are connections in pairs, through which nothing passes while they are held.
type pipes struct {
	mu   sync.Mutex
	way  chan struct{} // closed while bytes pass
	open map[net.Conn]bool
	over bool
	wg   sync.WaitGroup
}

func newPipes() *pipes {
	p := &pipes{way: make(chan struct{}), open: map[net.Conn]bool{}}
	close(p.way)
	return p
}

// hold keeps back all bytes, of new connections too, and the news that one has ended. What is on its way arrives after release.
func (p *pipes) hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.way:
		if !p.over {
			p.way = make(chan struct{})
		}
	default:
	}
}

func (p *pipes) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.way:
	default:
		close(p.way)
	}
}

// wait returns when bytes may pass.
func (p *pipes) wait() {
	p.mu.Lock()
	way := p.way
	p.mu.Unlock()
	<-way
}

// cut ends the connections that there are.
func (p *pipes) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		_ = c.Close()
	}
}

// close ends all connections, and those that are still to come.
func (p *pipes) close() {
	p.mu.Lock()
	p.over = true
	p.mu.Unlock()
	p.release()
	p.cut()
	p.wg.Wait()
}

// join passes bytes between two connections until one ends, and closes both.
func (p *pipes) join(a, b net.Conn) {
	if !p.note(a, b) {
		_, _ = a.Close(), b.Close()
		return
	}
	defer p.forget(a, b)
	done := make(chan struct{})
	go func() { defer close(done); p.copy(a, b) }()
	p.copy(b, a)
	<-done
}

func (p *pipes) copy(to, from net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		p.wait()
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				break
			}
		}
		if err != nil {
			break
		}
	}
	_, _ = to.Close(), from.Close()
}

func (p *pipes) note(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		p.open[c] = true
	}
	return !p.over
}

func (p *pipes) forget(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		delete(p.open, c)
	}
}

// Link is a way to an address. Its owner calls Close.
type Link struct {
	Address string // 127.0.0.1:port

	to       string
	listener net.Listener
	dials    atomic.Int64

	mu    sync.Mutex
	pipes []*pipes // the last one for new connections, the others stranded
	wg    sync.WaitGroup
}

// Start listens on loopback and passes connections on to an address.
func Start(to string) (*Link, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	k := &Link{Address: l.Addr().String(), to: to, listener: l, pipes: []*pipes{newPipes()}}
	k.wg.Go(k.accept)
	return k, nil
}

// each calls f for all pipes there are.
func (k *Link) each(f func(*pipes)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range k.pipes {
		f(p)
	}
}

// last are the pipes for new connections.
func (k *Link) last() *pipes {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.pipes[len(k.pipes)-1]
}

// Dials are how many connections have been asked for.
func (k *Link) Dials() int64 { return k.dials.Load() }

// Cut ends the connections that there are.
func (k *Link) Cut() { k.each((*pipes).cut) }

// Hold keeps back all bytes, as a network does that loses every packet: connections stay open, new ones are taken, and nothing passes.
func (k *Link) Hold() { k.each((*pipes).hold) }

// Strand is Hold of the connections that there are. New ones are well.
func (k *Link) Strand() {
	k.each((*pipes).hold)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.pipes = append(k.pipes, newPipes())
}

// Release ends Hold and Strand; what was kept back passes.
func (k *Link) Release() { k.each((*pipes).release) }

// Close ends the link.
func (k *Link) Close() {
	_ = k.listener.Close()
	k.wg.Wait()
	for _, p := range k.pipes {
		p.close()
	}
}

func (k *Link) accept() {
	for {
		c, err := k.listener.Accept()
		if err != nil {
			return
		}
		k.dials.Add(1)
		p := k.last()
		p.wg.Go(func() {
			up, err := net.Dial("tcp", k.to)
			if err != nil {
				_ = c.Close()
				return
			}
			p.join(c, up)
		})
	}
}

// Exchange is an HTTP proxy through which one program reaches several others, each by a name. Its owner calls Close.
type Exchange struct {
	Address string // 127.0.0.1:port

	server *http.Server
	to     map[string]string // address by host:port, as the program asks for it
	ways   map[string]*pipes // by the same
}

// StartExchange listens on loopback. To is where the names, host:port, lead.
func StartExchange(to map[string]string) (*Exchange, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	e := &Exchange{Address: l.Addr().String(), to: to, ways: map[string]*pipes{}}
	for name := range to {
		e.ways[name] = newPipes()
	}
	e.server = &http.Server{Handler: http.HandlerFunc(e.connect)}
	go func() { _ = e.server.Serve(l) }()
	return e, nil
}

// Hold is Link.Hold of the way to a name.
func (e *Exchange) Hold(name string) { e.ways[name].hold() }

// Release is Link.Release of the way to a name.
func (e *Exchange) Release(name string) { e.ways[name].release() }

// Close ends the exchange.
func (e *Exchange) Close() {
	_ = e.server.Close()
	for _, p := range e.ways {
		p.close()
	}
}

func (e *Exchange) connect(w http.ResponseWriter, r *http.Request) {
	p := e.ways[r.Host]
	if r.Method != http.MethodConnect || p == nil {
		http.Error(w, "want CONNECT to one of the known names", http.StatusForbidden)
		return
	}
	p.wait()
	up, err := net.Dial("tcp", e.to[r.Host])
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	c, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		_, err = io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n")
	}
	if err != nil {
		_ = up.Close()
		return
	}
	p.join(c, up)
}
