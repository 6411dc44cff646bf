package proxy

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"slices"
	"strings"

	"github.com/breakwater-mesh/breakwater/pkg/credentials"
	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/resilience"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// material is a TLS context with what its files hold.
type material struct {
	config       *dataplane.TLS
	certificates []*credentials.Certificate
	authority    *credentials.Authorities // nil: none
}

func newMaterial(config *dataplane.TLS) *material {
	m := &material{config: config}
	for _, pair := range config.Certificates {
		m.certificates = append(m.certificates, credentials.NewCertificate(source(pair.Chain), source(pair.Key)))
	}
	if config.Authority != nil {
		m.authority = credentials.NewAuthorities(source(*config.Authority))
	}
	return m
}

func source(p dataplane.PEM) credentials.Source {
	return credentials.Source{File: p.File, Text: p.Inline}
}

// faults says what of m can't be read.
func (m *material) faults(id view.ID) []dataplane.Fault {
	var faults []dataplane.Fault
	for i, c := range m.certificates {
		if _, err := c.Get(); err != nil {
			faults = append(faults, dataplane.Fault{ID: id, Field: m.config.Certificates[i].Chain.Field, Reason: err.Error()})
		}
	}
	if m.authority != nil {
		if _, err := m.authority.Get(); err != nil {
			faults = append(faults, dataplane.Fault{ID: id, Field: m.config.Authority.Field, Reason: err.Error()})
		}
	}
	return faults
}

// CheckTLS reads the files of TLS contexts in t that are not in before, which may be nil: the table in force. Its faults name the fields
// of what can't be read.
func CheckTLS(t, before *dataplane.Table) []dataplane.Fault {
	if before == nil {
		before = new(dataplane.Table)
	}
	var faults []dataplane.Fault
	for name, c := range t.Clusters {
		if old := before.Clusters[name]; c.TLS != nil && (old == nil || old.TLS != c.TLS) {
			faults = append(faults, newMaterial(&c.TLS.TLS).faults(view.ID{Type: view.CDS, Name: name})...)
		}
	}
	for name, l := range t.Listeners {
		if old := before.Listeners[name]; l.TLS != nil && (old == nil || old.TLS != l.TLS) {
			faults = append(faults, newMaterial(&l.TLS.TLS).faults(view.ID{Type: view.LDS, Name: name})...)
		}
	}
	return faults
}

// show is the first certificate that the other side can use, or else the first.
func (m *material) show(supports func(*tls.Certificate) error) (*tls.Certificate, error) {
	var first *tls.Certificate
	for _, c := range m.certificates {
		got, err := c.Get()
		if err != nil {
			return nil, err
		}
		if supports(got) == nil {
			return got, nil
		}
		if first == nil {
			first = got
		}
	}
	if first == nil {
		return new(tls.Certificate), nil
	}
	return first, nil
}

// roots are what certificates are verified against; nil stands for the system's.
func (m *material) roots() (*x509.CertPool, error) {
	if m.authority == nil {
		return nil, nil
	}
	return m.authority.Get()
}

// base is what both sides say.
func (m *material) base(alpn []string) *tls.Config {
	return &tls.Config{MinVersion: m.config.Min, MaxVersion: m.config.Max, NextProtos: alpn}
}

// client is the configuration of a connection to a host. Name is sent; where verified is not "", that has to be in the certificate.
func (m *material) client(name, verified string, alpn []string) *tls.Config {
	if len(m.config.ALPN) > 0 {
		alpn = m.config.ALPN
	}
	config := m.base(alpn)
	config.ServerName = name
	config.InsecureSkipVerify = true // VerifyConnection does it, as the context says
	config.GetClientCertificate = func(r *tls.CertificateRequestInfo) (*tls.Certificate, error) { return m.show(r.SupportsCertificate) }
	config.VerifyConnection = func(s tls.ConnectionState) error {
		return m.verify(s.PeerCertificates, x509.ExtKeyUsageServerAuth, verified)
	}
	return config
}

// server is the configuration of a connection from a caller.
func (m *material) server(require bool) *tls.Config {
	config := m.base(m.config.ALPN)
	config.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) { return m.show(hello.SupportsCertificate) }
	if require || m.config.Verifies() {
		config.ClientAuth = tls.RequestClientCert
		config.ClientCAs, _ = m.roots() // which are told to the caller
	}
	config.VerifyConnection = func(s tls.ConnectionState) error {
		switch {
		case len(s.PeerCertificates) > 0:
			return m.verify(s.PeerCertificates, x509.ExtKeyUsageClientAuth, "")
		case require:
			return unverified{"fail_verify_no_cert", errors.New("the caller shows no certificate")}
		}
		return nil
	}
	return config
}

// unverified is a refused certificate, with the name of the statistic that counts it.
type unverified struct {
	stat string
	error
}

func (u unverified) Unwrap() error { return u.error }

// verify looks at a certificate, as far as the context says. A name that has to be in it replaces the context's names.
func (m *material) verify(chain []*x509.Certificate, usage x509.ExtKeyUsage, name string) error {
	c := m.config
	if c.Authority != nil || c.SystemRoots {
		if err := m.trusted(chain, usage); err != nil {
			return unverified{"fail_verify_error", err}
		}
	}
	named := len(c.Names) == 0 || slices.ContainsFunc(c.Names, func(n dataplane.SubjectAltName) bool { return matchesName(chain[0], &n) })
	if name != "" {
		named = hasName(chain[0], name)
	}
	if !named {
		return unverified{"fail_verify_san", errors.New("the certificate is for other names")}
	}
	if len(c.Hashes)+len(c.SPKI) > 0 && !pinned(chain[0], c) {
		return unverified{"fail_verify_cert_hash", errors.New("the certificate is another one")}
	}
	return nil
}

func (m *material) trusted(chain []*x509.Certificate, usage x509.ExtKeyUsage) error {
	roots, err := m.roots()
	if err != nil {
		return err
	}
	options := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{usage}}
	for _, cert := range chain[1:] {
		options.Intermediates.AddCert(cert)
	}
	_, err = chain[0].Verify(options)
	return err
}

func pinned(cert *x509.Certificate, c *dataplane.TLS) bool {
	whole, key := sha256.Sum256(cert.Raw), sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return slices.Contains(c.Hashes, hex.EncodeToString(whole[:])) || slices.Contains(c.SPKI, base64.StdEncoding.EncodeToString(key[:]))
}

// names are the subject alternative names of one kind.
func names(cert *x509.Certificate, kind dataplane.SANType) []string {
	var list []string
	switch kind {
	case dataplane.SANDNS:
		return cert.DNSNames
	case dataplane.SANEmail:
		return cert.EmailAddresses
	case dataplane.SANURI:
		for _, u := range cert.URIs {
			list = append(list, u.String())
		}
	case dataplane.SANAddress:
		for _, ip := range cert.IPAddresses {
			list = append(list, ip.String())
		}
	}
	return list
}

func matchesName(cert *x509.Certificate, n *dataplane.SubjectAltName) bool {
	for _, name := range names(cert, n.Type) {
		if n.Type == dataplane.SANDNS && n.Match.Kind == resilience.Exact {
			if matchesDNS(name, n.Match.Value) {
				return true
			}
		} else if n.Match.Matches(func(string) []string { return []string{name} }) {
			return true
		}
	}
	return false
}

// hasName reports whether cert is for name, of whatever kind.
func hasName(cert *x509.Certificate, name string) bool {
	if slices.ContainsFunc(cert.DNSNames, func(pattern string) bool { return matchesDNS(pattern, name) }) {
		return true
	}
	for _, kind := range []dataplane.SANType{dataplane.SANURI, dataplane.SANEmail, dataplane.SANAddress} {
		if slices.Contains(names(cert, kind), name) {
			return true
		}
	}
	return false
}

// matchesDNS: a star in the first label of the pattern stands for any part of one label.
func matchesDNS(pattern, name string) bool {
	if strings.EqualFold(pattern, name) {
		return true
	}
	first, rest, _ := strings.Cut(pattern, ".")
	label, domain, ok := strings.Cut(name, ".")
	before, after, star := strings.Cut(first, "*")
	if !ok || !star || !strings.EqualFold(rest, domain) || len(label) < len(before)+len(after) || strings.Contains(after, "*") {
		return false
	}
	return strings.EqualFold(label[:len(before)], before) && strings.EqualFold(label[len(label)-len(after):], after)
}

// shake shakes hands until ctx ends, and counts by Envoy's names, below "ssl.". It closes c where it fails.
func shake(ctx context.Context, c *tls.Conn, count func(stat string)) error {
	err := c.HandshakeContext(ctx)
	if err != nil {
		_ = c.Close()
		var refused unverified
		switch {
		case errors.As(err, &refused):
			count(refused.stat)
		case !gone(err):
			count("connection_error")
		}
		return err
	}
	state := c.ConnectionState()
	count("handshake")
	count("versions." + strings.ReplaceAll(tls.VersionName(state.Version), " ", "v"))
	if len(state.PeerCertificates) == 0 {
		count("no_certificate")
	}
	return nil
}

// gone reports whether the other side has left, or time is over, rather than that it has said what TLS does not allow.
func gone(err error) bool {
	var network *net.OpError
	if errors.As(err, &network) && network.Op != "remote error" && network.Op != "local error" {
		return true
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}
