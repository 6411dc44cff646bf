package controlplane

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"

	"github.com/breakwater-mesh/breakwater/pkg/store"
	"github.com/breakwater-mesh/breakwater/pkg/store/embedded"
	"github.com/breakwater-mesh/breakwater/pkg/store/etcd"
	"github.com/breakwater-mesh/breakwater/pkg/telemetry"
)

// openedStore is the store, how to close it, and how it may fail by itself.
type openedStore struct {
	kv     store.KV
	close  func() error
	failed <-chan error // nil where the store has no process of its own
}

// expected are warnings of an embedded etcd that say nothing to us: it listens on a unix socket in its own directory, has no users, and
// begins without a schema.
var expected = []string{
	"Running http and grpc server on single port. This is not recommended for production.",
	"simple token is not cryptographically signed",
	"Failed to detect schema version",
	"still pending configuration changes to apply",
}

// retried are messages of etcd's client about calls that it makes once more, many times a second while there is no quorum. What fails in the
// end is told by who called.
var retried = []string{"retrying of unary invoker failed", "getToken failed"}

// openStore connects to the external etcd or starts the embedded one.
func openStore(ctx context.Context, c Config, log hclog.Logger) (openedStore, error) {
	if len(c.EtcdEndpoints) > 0 {
		return openExternal(ctx, c, log)
	}
	var closing atomic.Bool
	server, err := embedded.Start(ctx, embedded.Config{
		Dir:           c.DataDir,
		Logger:        telemetry.Zap(log.Named("etcd"), &closing, expected...),
		OnClosing:     func() { closing.Store(true) },
		UnsafeNoFsync: c.EtcdUnsafeNoFsync,
	})
	if err != nil {
		return openedStore{}, fmt.Errorf("--data-dir %s: %w", c.DataDir, err)
	}
	return openedStore{kv: server.KV(), close: server.Close, failed: server.Err()}, nil
}

func openExternal(ctx context.Context, c Config, log hclog.Logger) (openedStore, error) {
	if err := checkFiles(c); err != nil {
		return openedStore{}, err
	}
	password, err := readPassword(c.EtcdPasswordFile)
	if err != nil {
		return openedStore{}, err
	}
	kv, err := etcd.Open(ctx, etcd.Options{
		Endpoints: c.EtcdEndpoints,
		CAFile:    c.EtcdCA, CertFile: c.EtcdCert, KeyFile: c.EtcdKey,
		User: c.EtcdUser, Password: password,
		MaxTxnOps: c.EtcdMaxTxnOps, MaxRequestBytes: c.EtcdMaxRequestBytes,
		Logger: telemetry.Zap(log.Named("etcd"), nil, retried...),
	})
	if err != nil {
		return openedStore{}, fmt.Errorf("--etcd-endpoints %s: %w", strings.Join(c.EtcdEndpoints, ","), err)
	}
	return openedStore{kv: kv, close: kv.Close}, nil
}

// checkFiles reads the files of an external etcd once, so that an error names the flag.
func checkFiles(c Config) error {
	if c.EtcdCA != "" {
		text, err := os.ReadFile(c.EtcdCA)
		if err != nil {
			return unreadable("--etcd-ca", c.EtcdCA, err)
		}
		if !x509.NewCertPool().AppendCertsFromPEM(text) {
			return fmt.Errorf("--etcd-ca %s: no certificate in it; want PEM", c.EtcdCA)
		}
	}
	if c.EtcdCert != "" {
		if _, err := tls.LoadX509KeyPair(c.EtcdCert, c.EtcdKey); err != nil {
			return fmt.Errorf("--etcd-cert %s and --etcd-key %s: %w", c.EtcdCert, c.EtcdKey, err)
		}
	}
	return nil
}

// unreadable names the flag and the file, which the system's own error does once more.
func unreadable(flag, file string, err error) error {
	if p, ok := errors.AsType[*os.PathError](err); ok {
		err = p.Err
	}
	return fmt.Errorf("%s %s: %w", flag, file, err)
}

func readPassword(file string) (string, error) {
	if file == "" {
		return "", nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", unreadable("--etcd-password-file", file, err)
	}
	password := strings.TrimRight(string(text), "\r\n")
	if password == "" {
		return "", fmt.Errorf("--etcd-password-file %s: is empty", file)
	}
	return password, nil
}
