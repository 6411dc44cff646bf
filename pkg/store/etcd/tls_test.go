package etcd_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/internal/testkit/etcdcluster"
	"github.com/breakwater-mesh/breakwater/pkg/store/etcd"
)

// authority issues certificates and writes them to files.
type authority struct {
	t    *testing.T
	dir  string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	var der []byte
	a.key, der = a.sign(template, template, nil)
	var err error
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.write("ca.crt", "CERTIFICATE", der)
	return a
}

// issue writes NAME.crt and NAME.key for loopback, for servers and clients alike, and returns their paths.
func (a *authority) issue(name string) (cert, key string) {
	a.t.Helper()
	private, der := a.sign(&x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, a.key)
	keyDER, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.write(name+".crt", "CERTIFICATE", der), a.write(name+".key", "EC PRIVATE KEY", keyDER)
}

// sign makes a key and signs a certificate for it; with a nil signer, by itself.
func (a *authority) sign(template, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*ecdsa.PrivateKey, []byte) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	if signer == nil {
		signer = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	return key, der
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

func (a *authority) write(name, kind string, der []byte) string {
	a.t.Helper()
	if err := os.WriteFile(a.path(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return a.path(name)
}

// TestTLS runs against a member that takes only clients with a certificate of its authority.
func TestTLS(t *testing.T) {
	t.Parallel()
	ours, theirs := newAuthority(t, "ours"), newAuthority(t, "theirs")
	serverCert, serverKey := ours.issue("server")
	clientCert, clientKey := ours.issue("client")
	strangeCert, strangeKey := theirs.issue("client")
	c := etcdcluster.StartTLS(t, 1, etcdcluster.TLS{
		CA: ours.path("ca.crt"), Cert: serverCert, Key: serverKey, ClientCert: clientCert, ClientKey: clientKey,
	})

	s := openWith(t, etcd.Options{Endpoints: c.Endpoints(), CAFile: ours.path("ca.crt"), CertFile: clientCert, KeyFile: clientKey})
	put(t, s, "/k")
	for name, o := range map[string]etcd.Options{
		"a strange authority":   {CAFile: theirs.path("ca.crt"), CertFile: clientCert, KeyFile: clientKey},
		"a strange certificate": {CAFile: ours.path("ca.crt"), CertFile: strangeCert, KeyFile: strangeKey},
		"no certificate":        {CAFile: ours.path("ca.crt")},
	} {
		o.Endpoints, o.DialTimeout = c.Endpoints(), time.Minute
		begin := time.Now()
		s, err := etcd.Open(t.Context(), o)
		if took := time.Since(begin); took > 15*time.Second {
			t.Errorf("%s: took %v to say so", name, took)
		}
		if err == nil {
			t.Errorf("opened with %s", name)
			_ = s.Close()
		} else if !strings.Contains(err.Error(), c.Endpoints()[0]) || !strings.Contains(err.Error(), "tls") {
			t.Errorf("%s: got %q, want an error that names the endpoint and says tls", name, err)
		}
	}
	// A certificate that is replaced on disk is used for the next connection: here a bad one.
	if err := errors.Join(os.Rename(strangeCert, clientCert), os.Rename(strangeKey, clientKey)); err != nil {
		t.Fatal(err)
	}
	if s, err := etcd.Open(t.Context(), etcd.Options{Endpoints: c.Endpoints(), CAFile: ours.path("ca.crt"), CertFile: clientCert, KeyFile: clientKey, DialTimeout: time.Second}); err == nil {
		t.Error("opened with a certificate that was replaced by a strange one")
		_ = s.Close()
	}
}
