package dataplane

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	internalv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/internal_upstream/v3"
	rawv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// Versions of TLS, as they are on the wire.
const (
	TLS10 = 0x0301 + iota
	TLS11
	TLS12
	TLS13
)

// TLS is how one side shows and verifies certificates. It is immutable.
type TLS struct {
	identity     string
	Certificates []KeyPair
	Authority    *PEM             // that the other side's certificate is verified against; nil: it is not
	SystemRoots  bool             // in place of Authority
	Hashes       []string         // of certificates, SHA-256 in lower hexadecimal; the other side's is one of these, or of SPKI
	SPKI         []string         // of their public keys, SHA-256 in base64
	Names        []SubjectAltName // one of them has to match; empty: any name does
	ALPN         []string
	Min, Max     uint16 // versions
}

// UpstreamTLS is TLS with the hosts of a cluster.
type UpstreamTLS struct {
	TLS
	ServerName     string // sent; "": none
	AutoHostName   bool   // the host's own name is sent, where it has one
	VerifyHostName bool   // the name that is sent has to be in the certificate
}

// DownstreamTLS is TLS with those who call a listener.
type DownstreamTLS struct {
	TLS
	RequireClientCertificate bool
}

// PEM is text in a file, or inline where File is "". Field is where it was said.
type PEM struct{ File, Inline, Field string }

// KeyPair is a certificate chain and its private key.
type KeyPair struct{ Chain, Key PEM }

// SANType is the kind of a subject alternative name.
type SANType uint8

// The kinds.
const (
	SANDNS SANType = iota
	SANURI
	SANEmail
	SANAddress
)

// SubjectAltName matches names of one kind.
type SubjectAltName struct {
	Type  SANType
	Match resilience.HeaderMatch // of the name as a value
}

// Identity is the same of two that say the same.
func (t *TLS) Identity() string { return t.identity }

// Verifies reports whether the other side's certificate is looked at.
func (t *TLS) Verifies() bool {
	return t.Authority != nil || t.SystemRoots || len(t.Hashes) > 0 || len(t.SPKI) > 0
}

// Sources are all PEM texts of t.
func (t *TLS) Sources() []PEM {
	var all []PEM
	for _, c := range t.Certificates {
		all = append(all, c.Chain, c.Key)
	}
	if t.Authority != nil {
		all = append(all, *t.Authority)
	}
	return all
}

// upstreamTLS is nil where the socket is plain.
func (r *reader) upstreamTLS(path string, s *corev3.TransportSocket) *UpstreamTLS {
	path += ".typed_config"
	switch m := unpackAny(s.GetTypedConfig()).(type) {
	case nil, *rawv3.RawBuffer, *internalv3.InternalUpstreamTransport:
		return nil
	case *tlsv3.UpstreamTlsContext:
		t := &UpstreamTLS{ServerName: m.GetSni(), AutoHostName: m.GetAutoHostSni(), VerifyHostName: m.GetAutoSniSanValidation()}
		// Envoy's clients stay at 1.2 unless they are told otherwise
		t.TLS = r.commonTLS(path+".common_tls_context", m.GetCommonTlsContext(), TLS12)
		t.identity = identity(m)
		if len(t.Certificates) > 1 {
			r.fault(path+".common_tls_context.tls_certificates", "more than one is not for clients")
		}
		if t.VerifyHostName && !t.anchored() {
			r.fault(path+".auto_sni_san_validation", "needs a trusted_ca")
		}
		return t
	default:
		r.notEnforced(path)
		return nil
	}
}

// downstreamTLS is nil where the socket is plain.
func (r *reader) downstreamTLS(path string, s *corev3.TransportSocket) *DownstreamTLS {
	path += ".typed_config"
	switch m := unpackAny(s.GetTypedConfig()).(type) {
	case nil, *rawv3.RawBuffer:
		return nil
	case *tlsv3.DownstreamTlsContext:
		t := &DownstreamTLS{RequireClientCertificate: m.GetRequireClientCertificate().GetValue()}
		t.TLS = r.commonTLS(path+".common_tls_context", m.GetCommonTlsContext(), TLS13)
		t.identity = identity(m)
		if len(t.Certificates) == 0 {
			r.fault(path+".common_tls_context.tls_certificates", "is missing")
		}
		if m.GetRequireSni().GetValue() {
			r.fault(path+".require_sni", "true is not enforced by this agent")
		}
		return t
	default:
		r.notEnforced(path)
		return nil
	}
}

func identity(m proto.Message) string {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return ""
	}
	return string(b)
}

// anchored reports whether there is an authority, without which a name proves nothing.
func (t *TLS) anchored() bool { return t.Authority != nil || t.SystemRoots }

func (r *reader) commonTLS(path string, c *tlsv3.CommonTlsContext, most uint16) TLS {
	t := TLS{ALPN: c.GetAlpnProtocols()}
	params := c.GetTlsParams()
	t.Min = version(params.GetTlsMinimumProtocolVersion(), TLS12)
	t.Max = version(params.GetTlsMaximumProtocolVersion(), most)
	for i, cert := range c.GetTlsCertificates() {
		at := fmt.Sprintf("%s.tls_certificates[%d]", path, i)
		t.Certificates = append(t.Certificates, KeyPair{
			Chain: r.pem(at+".certificate_chain", cert.GetCertificateChain()), Key: r.pem(at+".private_key", cert.GetPrivateKey()),
		})
	}
	if v := c.GetValidationContext(); v != nil {
		r.validation(path+".validation_context", v, &t)
	}
	return t
}

func version(v tlsv3.TlsParameters_TlsProtocol, otherwise uint16) uint16 {
	switch v {
	case tlsv3.TlsParameters_TLSv1_0:
		return TLS10
	case tlsv3.TlsParameters_TLSv1_1:
		return TLS11
	case tlsv3.TlsParameters_TLSv1_2:
		return TLS12
	case tlsv3.TlsParameters_TLSv1_3:
		return TLS13
	}
	return otherwise
}

func (r *reader) pem(path string, s *corev3.DataSource) PEM {
	switch v := s.GetSpecifier().(type) {
	case *corev3.DataSource_Filename:
		return PEM{File: v.Filename, Field: path + ".filename"}
	case *corev3.DataSource_InlineString:
		return PEM{Inline: v.InlineString, Field: path + ".inline_string"}
	case *corev3.DataSource_InlineBytes:
		return PEM{Inline: string(v.InlineBytes), Field: path + ".inline_bytes"}
	}
	r.fault(path, "is missing")
	return PEM{}
}

func (r *reader) validation(path string, v *tlsv3.CertificateValidationContext, t *TLS) {
	if v.GetTrustedCa() != nil {
		t.Authority = new(r.pem(path+".trusted_ca", v.GetTrustedCa()))
	}
	t.SystemRoots = v.GetSystemRootCerts() != nil
	if t.SystemRoots && t.Authority != nil {
		r.fault(path+".system_root_certs", "is not for a context with a trusted_ca")
	}
	for i, h := range v.GetVerifyCertificateHash() {
		h = strings.ToLower(strings.ReplaceAll(h, ":", ""))
		if b, err := hex.DecodeString(h); err != nil || len(b) != 32 {
			r.fault(fmt.Sprintf("%s.verify_certificate_hash[%d]", path, i), "is no SHA-256 in hexadecimal")
		}
		t.Hashes = append(t.Hashes, h)
	}
	for i, h := range v.GetVerifyCertificateSpki() {
		if b, err := base64.StdEncoding.DecodeString(h); err != nil || len(b) != 32 {
			r.fault(fmt.Sprintf("%s.verify_certificate_spki[%d]", path, i), "is no SHA-256 in base64")
		}
		t.SPKI = append(t.SPKI, h)
	}
	for i, n := range v.GetMatchTypedSubjectAltNames() {
		t.Names = append(t.Names, r.subjectAltName(fmt.Sprintf("%s.match_typed_subject_alt_names[%d]", path, i), n))
	}
	if len(t.Names) > 0 && !t.anchored() {
		r.fault(path+".match_typed_subject_alt_names", "needs a trusted_ca")
	}
}

func (r *reader) subjectAltName(path string, m *tlsv3.SubjectAltNameMatcher) SubjectAltName {
	kinds := []tlsv3.SubjectAltNameMatcher_SanType{
		tlsv3.SubjectAltNameMatcher_DNS, tlsv3.SubjectAltNameMatcher_URI, tlsv3.SubjectAltNameMatcher_EMAIL, tlsv3.SubjectAltNameMatcher_IP_ADDRESS,
	}
	kind := slices.Index(kinds, m.GetSanType())
	if kind < 0 {
		r.fault(path+".san_type", "%v is not enforced by this agent", m.GetSanType())
	}
	out := SubjectAltName{Type: SANType(max(kind, 0))}
	r.stringMatch(path+".matcher", m.GetMatcher(), &out.Match)
	return out
}
