package etcd

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

const (
	tokenSpreads = time.Second // until then a member that lags may not know a new token
	tokenPause   = 20 * time.Millisecond
	loginTimeout = 5 * time.Second // of a new token: each takes a write
)

// token is what etcd gives a user for a password, until it is not used for five minutes, or a member starts anew. etcd's own client asks for
// another one with each stream that it opens, which is with each watch and each renewal of a lease. That takes a member some 70 ms of a
// core and the cluster a write, and in members that lag the new token is not known yet, and refused. A nil token is of nobody.
type token struct {
	user, password string
	auth           clientv3.Auth // set before the first call
	turn           chan struct{} // capacity 1: held by who asks for a new one
	last           atomic.Pointer[issued]
}

type issued struct {
	text string
	at   time.Time
}

// newToken is nil without a user.
func newToken(user, password string) *token {
	if user == "" {
		return nil
	}
	return &token{user: user, password: password, turn: make(chan struct{}, 1)}
}

// options make a client's calls carry the token, and try again with another one where it is refused. Streams do not try again by themselves.
func (t *token) options() []grpc.DialOption {
	if t == nil {
		return nil
	}
	return []grpc.DialOption{grpc.WithPerRPCCredentials(t), grpc.WithChainUnaryInterceptor(t.intercept)}
}

// login gets the first token.
func (t *token) login(ctx context.Context, client *clientv3.Client) error {
	if t == nil {
		return nil
	}
	t.auth = client.Auth
	return t.replace(ctx, nil)
}

// current is the token to use; nil: there is none.
func (t *token) current() *issued {
	if t == nil {
		return nil
	}
	return t.last.Load()
}

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (t *token) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	if now := t.current(); now != nil && now.text != "" {
		return map[string]string{rpctypes.TokenFieldNameGRPC: now.text}, nil
	}
	return nil, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (*token) RequireTransportSecurity() bool { return false }

// intercept is a grpc.UnaryClientInterceptor.
func (t *token) intercept(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, call grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if method == pb.Auth_Authenticate_FullMethodName {
		return call(ctx, method, req, reply, conn, opts...)
	}
	return t.do(ctx, func() error { return call(ctx, method, req, reply, conn, opts...) })
}

// do makes a call, and makes it again for as long as its token is refused.
func (t *token) do(ctx context.Context, call func() error) error {
	for {
		used := t.current()
		err := call()
		if t == nil || !refused(err) {
			return err
		}
		if err := t.replace(ctx, used); err != nil {
			return err
		}
	}
}

// fresh makes sure that the token is one of now. A token names the entry of etcd's log that made it: with a store that was restored, and has not
// come so far, a call waits for that until its time is over, and nobody says that the token is no good.
func (t *token) fresh(ctx context.Context) error {
	used := t.current()
	if t == nil || used != nil && time.Since(used.at) < tokenSpreads {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	if err := t.replace(ctx, used); err != nil {
		return translate(ctx, err)
	}
	return nil
}

// refused reports whether a member does not know a token, any more or yet.
func refused(err error) bool {
	err = rpctypes.Error(err)
	return errors.Is(err, rpctypes.ErrInvalidAuthToken) || errors.Is(err, rpctypes.ErrAuthOldRevision) || errors.Is(err, rpctypes.ErrUserEmpty)
}

// replace returns once there is another token than the one that was refused, or a member that lags may know that one.
func (t *token) replace(ctx context.Context, used *issued) error {
	if used != nil && time.Since(used.at) < tokenSpreads {
		return pause(ctx, tokenPause)
	}
	select {
	case t.turn <- struct{}{}:
		defer func() { <-t.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if t.current() != used {
		return nil
	}
	resp, err := t.auth.Authenticate(ctx, t.user, t.password)
	switch {
	case errors.Is(err, rpctypes.ErrAuthNotEnabled):
		t.last.Store(&issued{at: time.Now()})
	case err != nil:
		return err
	default:
		t.last.Store(&issued{resp.Token, time.Now()})
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
