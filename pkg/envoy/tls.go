package envoy

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
)

// transportSocket is nil where the endpoints are spoken to in plain text. A file that a proxy does not have makes it refuse the
// cluster, and say so.
func (in input) transportSocket() *corev3.TransportSocket {
	t := in.tls
	if t == nil {
		return nil
	}
	common := &tlsv3.CommonTlsContext{
		AlpnProtocols: in.alpn(),
		ValidationContextType: &tlsv3.CommonTlsContext_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{
			TrustedCa: inFile(t.CAFile),
			MatchTypedSubjectAltNames: []*tlsv3.SubjectAltNameMatcher{{
				SanType: tlsv3.SubjectAltNameMatcher_DNS, Matcher: exactly(t.SNI),
			}},
		}},
	}
	if t.CertFile != "" {
		common.TlsCertificates = []*tlsv3.TlsCertificate{{CertificateChain: inFile(t.CertFile), PrivateKey: inFile(t.KeyFile)}}
	}
	return &corev3.TransportSocket{
		Name: "envoy.transport_sockets.tls",
		ConfigType: &corev3.TransportSocket_TypedConfig{
			TypedConfig: pack(&tlsv3.UpstreamTlsContext{Sni: t.SNI, CommonTlsContext: common}),
		},
	}
}

// alpn is what the endpoints are told that they are spoken to in.
func (in input) alpn() []string {
	switch {
	case in.tcp():
		return nil
	case in.http2():
		return []string{"h2"}
	}
	return []string{"http/1.1"}
}

func inFile(name string) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: name}}
}
