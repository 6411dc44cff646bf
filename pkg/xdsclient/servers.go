package xdsclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

const (
	pingInterval   = 10 * time.Second
	rarestPing     = 10 * time.Minute
	pingTimeout    = 5 * time.Second
	connectTimeout = 5 * time.Second
	maxResponse    = 64 << 20
)

// Servers are the replicas of a control plane and how they are reached. Their methods may be called by any goroutine.
type Servers struct {
	Addresses []string // host:port, tried in turn; not to be changed

	tls  func() (*tls.Config, error)                     // nil: plaintext
	dial func(context.Context, string) (net.Conn, error) // for tests; nil: TCP
	ping atomic.Int64                                    // how often, in nanoseconds
}

// NewServers checks the addresses: its error names each that is wrong. Config makes the
// TLS configuration of each new connection; nil is plaintext.
func NewServers(addresses []string, config func() (*tls.Config, error)) (*Servers, error) {
	var faults []error
	if len(addresses) == 0 {
		faults = append(faults, errors.New("no servers"))
	}
	for _, s := range addresses {
		if _, _, err := net.SplitHostPort(s); err != nil {
			faults = append(faults, fmt.Errorf("server %q is no HOST:PORT", s))
		}
	}
	s := &Servers{Addresses: addresses, tls: config}
	s.ping.Store(int64(pingInterval))
	return s, errors.Join(faults...)
}

// Learn draws from the error that ended a conversation what the next connections must do otherwise: a server may have a limit for
// pings, as gRPC's own has. It is err again, with what it may come from where gRPC does not say so.
func (s *Servers) Learn(err error) error {
	if err != nil && strings.Contains(err.Error(), "too_many_pings") {
		s.ping.Store(int64(min(2*time.Duration(s.ping.Load()), rarestPing)))
	}
	if err != nil && s.tls == nil && strings.Contains(err.Error(), "error reading server preface") {
		return fmt.Errorf("%w (is it a port of TLS? then --xds-ca is needed)", err)
	}
	return err
}

// Connect makes a connection to one of the addresses, which is not dialled before its first stream. The caller closes it.
func (s *Servers) Connect(address string) (*grpc.ClientConn, error) {
	creds := insecure.NewCredentials()
	if s.tls != nil {
		config, err := s.tls()
		if err != nil {
			return nil, err
		}
		creds = credentials.NewTLS(config)
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: time.Duration(s.ping.Load()), Timeout: pingTimeout, PermitWithoutStream: true}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxResponse)),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: connectTimeout}),
		grpc.WithDisableServiceConfig(),
		grpc.WithNoProxy(), // the agent may be the proxy
	}
	if s.dial != nil {
		return grpc.NewClient("passthrough:///"+address, append(options, grpc.WithContextDialer(s.dial))...)
	}
	return grpc.NewClient("dns:///"+address, options...)
}
