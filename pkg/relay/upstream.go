package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	"github.com/breakwater-mesh/breakwater/pkg/xdsclient"
)

// maxQueue bounds the requests that wait for a server which does not read them.
const maxQueue = 1024

// upstream is the conversation with a server on behalf of one client. Its goroutines end with its context.
type upstream[Q, R any] struct {
	server    string
	opened    time.Time
	answered  bool // the server has said something
	queue     []*Q // to be sent
	requests  chan *Q
	responses chan *R
	ended     chan error
	close     func()
}

// reach connects to the server that answers first, within a bounded time.
func reach(ctx context.Context, servers *xdsclient.Servers) (*grpc.ClientConn, string, error) {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	type attempt struct {
		server string
		conn   *grpc.ClientConn
		err    error
	}
	attempts := make(chan attempt)
	for _, server := range servers.Addresses {
		go func() {
			conn, err := connect(ctx, servers, server)
			attempts <- attempt{server, conn, err}
		}()
	}
	var won attempt
	var faults []error
	for range servers.Addresses {
		switch a := <-attempts; {
		case a.err != nil:
			faults = append(faults, fmt.Errorf("%s: %w", a.server, a.err))
		case won.conn == nil:
			won = a
			cancel() // the others need not go on
		default:
			_ = a.conn.Close()
		}
	}
	if won.conn == nil {
		return nil, "", errors.Join(faults...)
	}
	return won.conn, won.server, nil
}

// connect returns a connection that works.
func connect(ctx context.Context, servers *xdsclient.Servers, server string) (*grpc.ClientConn, error) {
	conn, err := servers.Connect(server)
	if err != nil {
		return nil, err
	}
	conn.Connect()
	for {
		switch state := conn.GetState(); state {
		case connectivity.Ready:
			return conn, nil
		case connectivity.TransientFailure:
			err = conn.Invoke(ctx, "/", nil, nil) // is not sent, and says what the matter is
		default:
			if conn.WaitForStateChange(ctx, state) {
				continue
			}
			err = errors.New("no answer")
		}
		_ = conn.Close()
		return nil, err
	}
}

// open begins a conversation over conn, which it closes in the end.
func open[Q, R any](ctx context.Context, r *Relay, d dialect[Q, R], conn *grpc.ClientConn, server string) (*upstream[Q, R], error) {
	ctx, cancel := context.WithCancel(ctx)
	g, err := d.open(ctx, conn)
	if err != nil {
		cancel()
		_ = conn.Close()
		return nil, err
	}
	u := &upstream[Q, R]{
		server: server, opened: time.Now(), requests: make(chan *Q), responses: make(chan *R), ended: make(chan error, 1),
		close: func() { cancel(); _ = conn.Close() },
	}
	r.work.Go(func() { u.send(ctx, g) })
	r.work.Go(func() { u.ended <- xdsclient.Pump(ctx, g, u.responses) })
	return u, nil
}

// send sends requests until that fails: why, the reader learns.
func (u *upstream[Q, R]) send(ctx context.Context, g grpc.BidiStreamingClient[Q, R]) {
	for {
		select {
		case q := <-u.requests:
			if g.Send(q) != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// refused reports whether a server that is there does not want this client. Anything else that ends a stream is a loss.
func refused(err error) bool {
	switch status.Code(err) {
	case codes.InvalidArgument, codes.FailedPrecondition, codes.PermissionDenied, codes.Unauthenticated, codes.Unimplemented:
		return true
	}
	return false
}
