package etcd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/store"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// Defaults of Options: what an etcd without flags takes.
const (
	DefaultMaxTxnOps       = 128
	DefaultMaxRequestBytes = 3 << 19 // 1.5 MiB
	DefaultDialTimeout     = 5 * time.Second
)

// Options say how to reach an external etcd. Zero values mean the defaults above.
type Options struct {
	Endpoints []string // URLs, or host:port

	CAFile            string // trusted instead of the system's
	CertFile, KeyFile string // read anew for each connection, so that they may be replaced

	User, Password string

	MaxTxnOps       int // as etcd's --max-txn-ops
	MaxRequestBytes int // as etcd's --max-request-bytes

	DialTimeout time.Duration // for Open as a whole
	Logger      *zap.Logger   // nil: etcd's client is silent
}

// Open connects and makes sure that the cluster answers. Its errors name the endpoints.
func Open(ctx context.Context, o Options) (*Store, error) {
	o = o.withDefaults()
	ctx, cancel := context.WithTimeout(ctx, o.DialTimeout)
	defer cancel()
	tlsConfig, err := o.tls()
	if err != nil {
		return nil, err
	}
	if err := o.reach(ctx, tlsConfig); err != nil {
		return nil, err
	}
	beat, token := newPulse(o.Logger, o.Endpoints), newToken(o.User, o.Password)
	client, err := clientv3.New(clientv3.Config{
		Endpoints:            o.Endpoints,
		TLS:                  tlsConfig,
		DialTimeout:          o.DialTimeout,
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: 5 * time.Second,
		MaxCallSendMsgSize:   o.MaxRequestBytes + 512<<10, // what etcd's own server allows for the envelope
		BackoffWaitBetween:   100 * time.Millisecond,      // before a read is made again
		DialOptions:          append(token.options(), grpc.WithContextDialer(beat.dial), connectSoon),
		Logger:               o.Logger,
	})
	if err != nil {
		return nil, fmt.Errorf("etcd at %s: %w%s", o.where(), translate(ctx, err), who(err))
	}
	s := Wrap(client, store.Limits{
		MaxOps: o.MaxTxnOps, OpsFlag: "--etcd-max-txn-ops",
		MaxBytes: o.MaxRequestBytes, BytesFlag: "--etcd-max-request-bytes",
	})
	s.token = token
	if err := token.login(ctx, client); err != nil {
		return nil, errors.Join(fmt.Errorf("etcd at %s: %w%s", o.where(), translate(ctx, err), who(err)), client.Close())
	}
	if _, err := s.Get(ctx, store.ConfigPrefix); err != nil {
		return nil, errors.Join(fmt.Errorf("etcd at %s: %w%s", o.where(), err, who(err)), client.Close())
	}
	if err := beat.start(tlsConfig, client.SetEndpoints); err != nil {
		return nil, errors.Join(fmt.Errorf("etcd at %s: %w", o.where(), err), client.Close())
	}
	s.pulse = beat
	return s, nil
}

// who names the settings by which etcd did not know its client, or does not let it.
func who(err error) string {
	for _, refusal := range []error{rpctypes.ErrAuthFailed, rpctypes.ErrUserEmpty, rpctypes.ErrPermissionDenied, rpctypes.ErrAuthNotEnabled} {
		if errors.Is(err, refusal) || errors.Is(rpctypes.Error(err), refusal) {
			return " (--etcd-user, --etcd-password-file)"
		}
	}
	return ""
}

// connectSoon lets a member that is back be found within seconds, however long it was away: gRPC's own pause between two attempts grows to two minutes.
var connectSoon = grpc.WithConnectParams(grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
	MinConnectTimeout: connectIn,
})

func (o Options) withDefaults() Options {
	if o.MaxTxnOps == 0 {
		o.MaxTxnOps = DefaultMaxTxnOps
	}
	if o.MaxRequestBytes == 0 {
		o.MaxRequestBytes = DefaultMaxRequestBytes
	}
	if o.DialTimeout == 0 {
		o.DialTimeout = DefaultDialTimeout
	}
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	return o
}

func (o Options) where() string { return strings.Join(o.Endpoints, ", ") }

// reach returns nil as soon as one endpoint takes a connection. etcd's client would wait for its whole time and then not say
// why: a wrong port, name or certificate should be told at once.
func (o Options) reach(ctx context.Context, tlsConfig *tls.Config) error {
	if len(o.Endpoints) == 0 {
		return errors.New("etcd: no endpoints")
	}
	results := make(chan error, len(o.Endpoints))
	for _, endpoint := range o.Endpoints {
		go func() { results <- knock(ctx, endpoint, tlsConfig) }()
	}
	var errs []error
	for range o.Endpoints {
		err := <-results
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	texts := make([]string, len(errs))
	for i, err := range errs {
		texts[i] = err.Error()
	}
	return fmt.Errorf("%w: etcd can't be reached: %s", store.ErrUnavailable, strings.Join(texts, "; "))
}

func knock(ctx context.Context, endpoint string, tlsConfig *tls.Config) error {
	network, address := target(endpoint)
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, address)
	if err == nil && secured(endpoint, tlsConfig) {
		err = handshake(ctx, conn, address, tlsConfig)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", endpoint, err)
	}
	return conn.Close()
}

// secured reports whether TLS is spoken with an endpoint.
func secured(endpoint string, config *tls.Config) bool {
	return config != nil && !strings.HasPrefix(endpoint, "http://") && !strings.HasPrefix(endpoint, "unix:")
}

// target is where an endpoint is: a URL, host:port, or unix:PATH.
func target(endpoint string) (network, address string) {
	u, err := url.Parse(endpoint)
	switch {
	case err != nil || u.Scheme == "" || u.Host == "" && u.Path == "":
		return "tcp", endpoint
	case strings.HasPrefix(u.Scheme, "unix"):
		return "unix", u.Host + u.Path
	}
	return "tcp", u.Host
}

// preface is how an HTTP/2 client begins: the fixed text and an empty SETTINGS frame.
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + "\x00\x00\x00\x04\x00\x00\x00\x00\x00"

// handshake closes conn when it fails. It waits for the server's first byte: a server of TLS 1.3 refuses a client's certificate
// only after the handshake.
func handshake(ctx context.Context, conn net.Conn, address string, config *tls.Config) (err error) {
	defer func() {
		if err != nil {
			_ = conn.Close()
		}
	}()
	config = config.Clone()
	config.NextProtos = []string{"h2"}
	if config.ServerName, _, err = net.SplitHostPort(address); err != nil {
		config.ServerName = address
	}
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		return err
	}
	if _, err = secure.Write([]byte(preface)); err == nil {
		_, err = secure.Read(make([]byte, 1))
	}
	if err != nil {
		return fmt.Errorf("refused after the tls handshake: %w", err)
	}
	return nil
}

// tls is nil when neither a file nor an endpoint asks for it.
func (o Options) tls() (*tls.Config, error) {
	secure := o.CAFile != "" || o.CertFile != ""
	for _, endpoint := range o.Endpoints {
		secure = secure || strings.HasPrefix(endpoint, "https://")
	}
	if !secure {
		return nil, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("etcd's CA: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("etcd's CA: %s holds no certificate", o.CAFile)
		}
	}
	if o.CertFile != "" {
		load := func() (*tls.Certificate, error) {
			cert, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
			return &cert, err
		}
		if _, err := load(); err != nil {
			return nil, fmt.Errorf("client certificate for etcd: %w", err)
		}
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	}
	return config, nil
}
