package differential_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"time"
)

// behaviour is what an upstream host does with one request. The zero one answers 200 at once.
type behaviour struct {
	status  int
	header  map[string]string
	body    string
	delay   time.Duration
	hang    bool          // no answer until the proxy gives up
	hold    bool          // no answer until the side releases it
	reset   bool          // the connection is reset without an answer
	close   bool          // the connection is closed without an answer
	cut     bool          // the head and half of the body, and then a reset
	stall   bool          // the head and half of the body, and then nothing
	slow    time.Duration // before the second half of the body
	early   []int         // informational responses before it
	frames  frames        // of a host that speaks frame by frame; nil: 200
	trailer map[string]string
	echo    bool // the body is the request's, after that of the answer
}

// seen is one request as it reached a host.
type seen struct {
	method, path, host, body string
	header, trailer          http.Header
}

// sideHeader says which proxy a request came through, so that each has its own count of everything.
const sideHeader = "x-side"

// warmPath is answered 200 by every host and counted apart: it asks who is reached, and is no part of what is compared.
const warmPath = "/warm"

// checkPath is asked by health checks, which have a script of their own and are counted apart.
const checkPath = "/check"

// upstream are the hosts of one scenario's service.
type upstream struct {
	atOnePort bool // see scenario

	script  []behaviour   // by number of the request at the service; the last repeats
	byHost  [][]behaviour // the same by host; wins over script
	checks  [][]behaviour // of health checks, by host: first of all until the first request, then one after the other
	hosts   []string      // addresses
	servers []io.Closer
	framed  *framedHost // how hosts behave that speak frame by frame; nil: they don't

	mu    sync.Mutex
	sides map[string]*arrivals
}

// arrivals is what came through one proxy.
type arrivals struct {
	log     []seen
	perHost []int
	warm    []int
	checked [][]time.Time // when each host was, since the first request
	active  int
	conns   int           // of hosts that speak frame by frame
	release chan struct{} // closed when held requests are to be answered
}

// start opens n hosts that answer, by HTTP/1.1 and perhaps HTTP/2, and m that refuse connections.
func (u *upstream) start(n, m int, http2 bool) error {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(http2)
	u.sides = map[string]*arrivals{}
	for _, side := range []string{left, right} {
		u.sides[side] = &arrivals{perHost: make([]int, n), warm: make([]int, n), checked: make([][]time.Time, n), release: make(chan struct{})}
	}
	for i := range n {
		l, err := u.listen(i)
		if err != nil {
			return err
		}
		u.hosts = append(u.hosts, l.Addr().String())
		if u.framed != nil {
			u.servers = append(u.servers, l)
			go u.acceptFramed(l) // ends with stop
			continue
		}
		server := &http.Server{Protocols: protocols, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { u.serve(i, w, r) })}
		go func() { _ = server.Serve(l) }() // ends with stop
		u.servers = append(u.servers, server)
	}
	for range m {
		address, err := refusing()
		if err != nil {
			return err
		}
		u.hosts = append(u.hosts, address)
	}
	return nil
}

// listen opens the port of host i.
func (u *upstream) listen(i int) (net.Listener, error) {
	if !u.atOnePort || i == 0 {
		return net.Listen("tcp", "127.0.0.1:0")
	}
	_, port, _ := net.SplitHostPort(u.hosts[0])
	return net.Listen("tcp", fmt.Sprintf("127.0.0.%d:%s", i+1, port))
}

func (u *upstream) stop() {
	for _, s := range u.servers {
		_ = s.Close()
	}
}

// refusing is an address that is taken and that nobody listens on, for as long as the test program runs.
func refusing() (string, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return "", err
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		return "", err
	}
	addr := name.(*syscall.SockaddrInet4)
	return (&net.TCPAddr{IP: addr.Addr[:], Port: addr.Port}).String(), nil
}

// silent is an address where connections wait to be accepted for as long as the test program runs: its queue is full.
func silent() (string, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return "", err
	}
	if err := syscall.Listen(fd, 0); err != nil {
		return "", err
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		return "", err
	}
	addr := name.(*syscall.SockaddrInet4)
	address := (&net.TCPAddr{IP: addr.Addr[:], Port: addr.Port}).String()
	for { // until the queue is full
		if _, err := net.DialTimeout("tcp", address, 200*time.Millisecond); err != nil {
			return address, nil
		}
	}
}

func (u *upstream) serve(host int, w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body) // a request that breaks off is compared by what came
	a := u.sides[r.Header.Get(sideHeader)]
	if side := r.Host; a == nil && u.sides[side] != nil { // a health check
		a, r.Host = u.sides[side], sideName
	}
	if a == nil {
		http.Error(w, "no "+sideHeader, http.StatusTeapot)
		return
	}
	if r.URL.Path == warmPath {
		u.mu.Lock()
		a.warm[host]++
		u.mu.Unlock()
		return
	}
	if r.URL.Path == checkPath {
		perform(u.check(a, host), w, r, nil)
		return
	}
	b, release := u.arrive(a, host, seen{r.Method, r.URL.RequestURI(), r.Host, string(body), r.Header.Clone(), r.Trailer.Clone()})
	b.body += echoed(b, body)
	defer u.leave(a)
	perform(b, w, r, release)
}

func (u *upstream) arrive(a *arrivals, host int, s seen) (behaviour, <-chan struct{}) {
	u.mu.Lock()
	defer u.mu.Unlock()
	b := nth(u.script, len(a.log))
	if u.byHost != nil {
		b = nth(u.byHost[host], a.perHost[host])
	}
	a.log = append(a.log, s)
	a.perHost[host]++
	a.active++
	return b, a.release
}

func (u *upstream) check(a *arrivals, host int) behaviour {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(a.log) > 0 {
		a.checked[host] = append(a.checked[host], time.Now())
	}
	if host >= len(u.checks) {
		return behaviour{}
	}
	return nth(u.checks[host], len(a.checked[host]))
}

func (u *upstream) leave(a *arrivals) {
	u.mu.Lock()
	defer u.mu.Unlock()
	a.active--
}

// nth is the nth of a script, whose last entry repeats.
func nth(script []behaviour, n int) behaviour {
	if len(script) == 0 {
		return behaviour{}
	}
	return script[min(n, len(script)-1)]
}

func perform(b behaviour, w http.ResponseWriter, r *http.Request, release <-chan struct{}) {
	wait(r, b, release)
	switch {
	case b.reset, b.close:
		drop(w, b.reset)
		return
	case b.hang:
		return
	}
	for _, status := range b.early {
		w.WriteHeader(status)
	}
	for name, value := range b.header {
		w.Header().Set(name, value)
	}
	if b.status == http.StatusSwitchingProtocols {
		upgrade(w, b)
		return
	}
	if b.cut || b.stall {
		w.Header().Set("Content-Length", "10")
	}
	if b.status != 0 {
		w.WriteHeader(b.status)
	}
	if b.slow > 0 {
		half := len(b.body) / 2
		_, _ = io.WriteString(w, b.body[:half])
		_ = http.NewResponseController(w).Flush()
		wait(r, behaviour{delay: b.slow}, nil)
		b.body = b.body[half:]
	}
	_, _ = io.WriteString(w, b.body)
	if len(b.trailer) > 0 {
		_ = http.NewResponseController(w).Flush() // HTTP/1 has trailers after chunks only
	}
	for name, value := range b.trailer {
		w.Header().Set(http.TrailerPrefix+name, value)
	}
	if b.cut || b.stall {
		_ = http.NewResponseController(w).Flush()
	}
	if b.stall {
		<-r.Context().Done()
	}
	if b.cut {
		drop(w, true)
	}
}

func wait(r *http.Request, b behaviour, release <-chan struct{}) {
	var after <-chan time.Time
	switch {
	case b.delay > 0:
		timer := time.NewTimer(b.delay)
		defer timer.Stop()
		after = timer.C
	case b.hold:
	case b.hang:
		release = nil
	default:
		return
	}
	if b.delay > 0 {
		release = nil
	}
	select {
	case <-after:
	case <-release:
	case <-r.Context().Done():
	}
}

// echoed is what an answer has of the request's body.
func echoed(b behaviour, body []byte) string {
	if b.echo {
		return string(body)
	}
	return ""
}

// upgrade leaves HTTP and sends back what comes.
func upgrade(w http.ResponseWriter, b behaviour) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"+b.body)
	_, _ = io.Copy(conn, rw)
}

// drop ends the connection, with a reset or with its ordinary end.
func drop(w http.ResponseWriter, reset bool) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok && reset {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// activeOf is how many requests of a side wait for their answer.
func (u *upstream) activeOf(side string) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.sides[side].active
}

// warmed are the warm requests by host.
func (u *upstream) warmed(side string) []int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]int(nil), u.sides[side].warm...)
}

// checkTimes are when the first host was checked since traffic began.
func (u *upstream) checkTimes(side string) []time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.sides[side].checked[0])
}

// free answers the held requests of a side; later ones are held anew.
func (u *upstream) free(side string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	close(u.sides[side].release)
	u.sides[side].release = make(chan struct{})
}
