package dataplane_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/resilience"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

const socket = "type.googleapis.com/envoy.extensions.transport_sockets."

// upstreamTLS is a cluster with a TLS context.
func upstreamTLS(context string) string {
	return clusterWith(fmt.Sprintf(`"transport_socket": {"name": "tls", "typed_config": {"@type": "%stls.v3.UpstreamTlsContext"%s}}`, socket, comma(context)))
}

// downstreamTLS is a listener with a TLS context.
func downstreamTLS(context string) string {
	const tcp = `{"@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "t", "cluster": "c"}`
	return strings.Replace(listenerWith(tcp), `"filters"`,
		fmt.Sprintf(`"transport_socket": {"name": "tls", "typed_config": {"@type": "%stls.v3.DownstreamTlsContext"%s}}, "filters"`, socket, comma(context)), 1)
}

// hash is the SHA-256 of nothing.
const hash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestUpstreamTLS(t *testing.T) {
	res := mustResource(t, view.CDS, upstreamTLS(`"sni": "payments.shop", "auto_host_sni": true, "auto_sni_san_validation": true, "max_session_keys": 3,
		"common_tls_context": {"alpn_protocols": ["h2"], "tls_params": {"tls_maximum_protocol_version": "TLSv1_3"},
			"tls_certificates": [{"certificate_chain": {"filename": "/cert"}, "private_key": {"inline_string": "key"}, "watched_directory": {"path": "/"}}],
			"validation_context": {"trusted_ca": {"filename": "/ca"}, "verify_certificate_hash": ["`+strings.ToUpper(hash)+`"],
				"match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"prefix": "spiffe://"}}]}}`))
	got := compile(t, holds(res)).Clusters["x"].TLS
	const at = "cluster.transport_socket.typed_config.common_tls_context."
	want := &dataplane.UpstreamTLS{
		TLS: dataplane.TLS{
			Certificates: []dataplane.KeyPair{{
				Chain: dataplane.PEM{File: "/cert", Field: at + "tls_certificates[0].certificate_chain.filename"},
				Key:   dataplane.PEM{Inline: "key", Field: at + "tls_certificates[0].private_key.inline_string"},
			}},
			Authority: &dataplane.PEM{File: "/ca", Field: at + "validation_context.trusted_ca.filename"},
			Hashes:    []string{hash},
			Names:     []dataplane.SubjectAltName{{Type: dataplane.SANURI, Match: resilience.HeaderMatch{Kind: resilience.Prefix, Value: "spiffe://"}}},
			ALPN:      []string{"h2"}, Min: dataplane.TLS12, Max: dataplane.TLS13,
		},
		ServerName: "payments.shop", AutoHostName: true, VerifyHostName: true,
	}
	if d := cmp.Diff(want, got, cmpopts.IgnoreUnexported(dataplane.TLS{})); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestPlainContexts: without a validation context nothing is verified, and clients stay at TLS 1.2.
func TestPlainContexts(t *testing.T) {
	up := compile(t, holds(mustResource(t, view.CDS, upstreamTLS("")))).Clusters["x"].TLS
	if up.Verifies() || up.Max != dataplane.TLS12 {
		t.Errorf("an empty context upstream: %+v", up)
	}
	raw := mustResource(t, view.CDS, clusterWith(`"transport_socket": {"name": "raw", "typed_config": {"@type": "`+socket+`raw_buffer.v3.RawBuffer"}}`))
	if up := compile(t, holds(raw)).Clusters["x"].TLS; up != nil {
		t.Errorf("a raw buffer: %+v", up)
	}
	down := compile(t, holds(mustResource(t, view.LDS, downstreamTLS(`"require_client_certificate": true, "common_tls_context": {
		"tls_certificates": [{"certificate_chain": {"filename": "/cert"}, "private_key": {"filename": "/key"}}]}`)))).Listeners["x"].TLS
	if !down.RequireClientCertificate || down.Max != dataplane.TLS13 || len(down.Sources()) != 2 {
		t.Errorf("downstream: %+v", down)
	}
}

// TestEqualContextsAreOne: connections are kept as long as the context says the same.
func TestEqualContextsAreOne(t *testing.T) {
	of := func(context string) string {
		return compile(t, holds(mustResource(t, view.CDS, upstreamTLS(context)))).Clusters["x"].TLS.Identity()
	}
	first, again, other := of(`"sni": "a"`), of(`"sni": "a"`), of(`"sni": "b"`)
	if first != again || first == other {
		t.Errorf("%q and %q for the same, %q for another", first, again, other)
	}
}

func TestTLSIsRefusedByField(t *testing.T) {
	const no = ": not enforced by this agent"
	const up, down = "cluster.transport_socket.typed_config", "listener.filter_chains[0].transport_socket.typed_config"
	validation := func(fragment string) string {
		return upstreamTLS(`"common_tls_context": {"validation_context": {` + fragment + `}}`)
	}
	const pair = `{"certificate_chain": {"filename": "/cert"}, "private_key": {"filename": "/key"}}`
	protocol := func(options string) string {
		return clusterWith(`"typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions":
			{"@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions", ` + options + `}}`)
	}
	for _, tt := range []struct {
		typ        view.Type
		text, want string
	}{
		{view.CDS, upstreamTLS(`"allow_renegotiation": true`), up + ".allow_renegotiation" + no},
		{view.CDS, upstreamTLS(`"common_tls_context": {"tls_certificate_sds_secret_configs": [{"name": "s", "sds_config": {"ads": {}}}]}`),
			up + ".common_tls_context.tls_certificate_sds_secret_configs" + no},
		{view.CDS, upstreamTLS(`"common_tls_context": {"validation_context_sds_secret_config": {"name": "s", "sds_config": {"ads": {}}}}`),
			up + ".common_tls_context.validation_context_sds_secret_config" + no},
		{view.CDS, upstreamTLS(`"common_tls_context": {"tls_params": {"cipher_suites": ["X"]}}`), up + ".common_tls_context.tls_params.cipher_suites" + no},
		{view.CDS, upstreamTLS(`"common_tls_context": {"tls_certificates": [` + pair + "," + pair + `]}`),
			up + ".common_tls_context.tls_certificates: more than one is not for clients"},
		{view.CDS, upstreamTLS(`"common_tls_context": {"tls_certificates": [{"certificate_chain": {"filename": "/cert"}}]}`),
			up + ".common_tls_context.tls_certificates[0].private_key: is missing"},
		{view.CDS, upstreamTLS(`"auto_sni_san_validation": true`), up + ".auto_sni_san_validation: needs a trusted_ca"},
		{view.CDS, validation(`"match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": "a"}}]`),
			up + ".common_tls_context.validation_context.match_typed_subject_alt_names: needs a trusted_ca"},
		{view.CDS, validation(`"trusted_ca": {"filename": "/ca"}, "match_typed_subject_alt_names": [{"san_type": "OTHER_NAME", "oid": "1.2", "matcher": {"exact": "a"}}]`),
			up + ".common_tls_context.validation_context.match_typed_subject_alt_names[0].oid" + no},
		{view.CDS, validation(`"trusted_ca": {"environment_variable": "CA"}`), up + ".common_tls_context.validation_context.trusted_ca.environment_variable" + no},
		{view.CDS, validation(`"trust_chain_verification": "ACCEPT_UNTRUSTED"`), up + ".common_tls_context.validation_context.trust_chain_verification" + no},
		{view.CDS, validation(`"verify_certificate_hash": ["` + strings.Repeat("z", 64) + `"]`),
			up + ".common_tls_context.validation_context.verify_certificate_hash[0]: is no SHA-256 in hexadecimal"},
		{view.CDS, validation(`"crl": {"filename": "/crl"}`), up + ".common_tls_context.validation_context.crl" + no},
		{view.CDS, protocol(`"auto_config": {}`), `auto_config: needs a transport_socket that negotiates the protocol`},
		{view.LDS, strings.Replace(managerWith(`"forward_client_cert_details": "SANITIZE_SET"`), `"filters"`, `"transport_socket": {"name": "tls",
			"typed_config": {"@type": "`+socket+`tls.v3.DownstreamTlsContext", "require_client_certificate": true, "common_tls_context": {"tls_certificates": [`+pair+`]}}}, "filters"`, 1),
			"forward_client_cert_details: SANITIZE_SET is not enforced by this agent where clients show certificates"},
		{view.LDS, downstreamTLS(""), down + ".common_tls_context.tls_certificates: is missing"},
		{view.LDS, downstreamTLS(`"require_sni": true, "common_tls_context": {"tls_certificates": [` + pair + `]}`),
			down + ".require_sni: true is not enforced by this agent"},
	} {
		_, faults := resource(t, tt.typ, tt.text)
		if got := dataplane.Text(faults); !strings.Contains(got, tt.want) {
			t.Errorf("%s:\n got %s\nwant %s", tt.text, got, tt.want)
		}
	}
}
