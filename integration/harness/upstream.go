package harness

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// Behaviour is how a host answers.
type Behaviour struct {
	Status int           // 0: 200
	Delay  time.Duration // before the answer
	Hang   bool          // no answer until the caller gives up
	Reset  bool          // the connection is closed without an answer
	Body   string
}

// Host is one upstream host on loopback. Its zero behaviour answers 200 at once.
type Host struct {
	Address string // 127.0.0.1:port

	behaviour atomic.Pointer[Behaviour]
	requests  atomic.Int64
	active    atomic.Int64
	accepted  atomic.Int64
	handler   http.Handler // answers where the behaviour is zero; may be nil
	server    *http.Server
}

// StartHost listens on loopback; port 0 picks one. Handler, which may be nil, answers where the behaviour is the zero one.
func StartHost(port int, handler http.Handler) (*Host, error) {
	return StartHostAt(Loopback(port), handler)
}

// StartHostsAtOnePort starts n hosts at 127.0.0.1, 127.0.0.2 and so on, and one port.
func StartHostsAtOnePort(n int) ([]*Host, error) {
	first, err := StartHost(0, nil)
	if err != nil {
		return nil, err
	}
	hosts := []*Host{first}
	_, port, _ := net.SplitHostPort(first.Address)
	for i := 2; i <= n; i++ {
		h, err := StartHostAt(net.JoinHostPort(fmt.Sprintf("127.0.0.%d", i), port), nil)
		if err != nil { // the port is another's there
			for _, started := range hosts {
				started.Close()
			}
			return nil, err
		}
		hosts = append(hosts, h)
	}
	return hosts, nil
}

// StartHostAt is StartHost at any address of loopback.
func StartHostAt(address string, handler http.Handler) (*Host, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	h := &Host{Address: l.Addr().String(), handler: handler}
	h.Set(Behaviour{})
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	h.server = &http.Server{Handler: http.HandlerFunc(h.serve), Protocols: protocols, ConnState: func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			h.accepted.Add(1)
		}
	}}
	go func() { _ = h.server.Serve(l) }() // ends with Close
	return h, nil
}

// Set changes how the host answers from now on.
func (h *Host) Set(b Behaviour) { h.behaviour.Store(&b) }

// Requests are how many requests have come in.
func (h *Host) Requests() int64 { return h.requests.Load() }

// Active are how many requests wait for their answer.
func (h *Host) Active() int64 { return h.active.Load() }

// Connections are how many connections have been accepted.
func (h *Host) Connections() int64 { return h.accepted.Load() }

// Close stops the host; requests under way are cut off.
func (h *Host) Close() { _ = h.server.Close() }

func (h *Host) serve(w http.ResponseWriter, r *http.Request) {
	h.requests.Add(1)
	h.active.Add(1)
	defer h.active.Add(-1)
	b := h.behaviour.Load()
	if b.Delay > 0 {
		pause(r.Context(), b.Delay)
	}
	switch {
	case b.Hang:
		<-r.Context().Done()
	case b.Reset:
		panic(http.ErrAbortHandler)
	case b.Status != 0 && b.Status != http.StatusOK:
		w.WriteHeader(b.Status)
		fmt.Fprint(w, b.Body)
	case h.handler != nil:
		h.handler.ServeHTTP(w, r)
	default:
		fmt.Fprint(w, b.Body)
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
