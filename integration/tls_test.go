package integration_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/breakwater-mesh/breakwater/integration/harness"
	"github.com/breakwater-mesh/breakwater/internal/testkit/pki"
)

// secured starts a host that shows a certificate for a name, and asks for one of authority.
func secured(t *testing.T, authority *pki.Authority, name string) string {
	t.Helper()
	host := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s %s", r.TLS.ServerName, r.TLS.PeerCertificates[0].Subject.CommonName, r.TLS.NegotiatedProtocol)
	}))
	host.TLS = &tls.Config{Certificates: []tls.Certificate{authority.Issue(t, name).TLS(t)}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: authority.Pool(), NextProtos: []string{"http/1.1"}}
	host.StartTLS()
	t.Cleanup(host.Close)
	return host.Listener.Addr().String()
}

func TestEndpointsBehindTLS(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	authority, dir := pki.NewAuthority(t), t.TempDir()
	ours := authority.Issue(t, "orders.shop")
	ca := "caFile: " + pki.Write(t, dir, "ca.pem", authority.PEM)
	both := fmt.Sprintf("%s, certFile: %s, keyFile: %s", ca, pki.Write(t, dir, "cert.pem", ours.Chain), pki.Write(t, dir, "key.pem", ours.Key))
	host, stranger := secured(t, authority, "payments.shop"), secured(t, authority, "billing.shop")
	at := func(name, address, spec string) string {
		ip, port, err := net.SplitHostPort(address)
		if err != nil {
			t.Fatal(err)
		}
		return m.manifest(name, fmt.Sprintf("endpoints: [{address: %s, port: %s}]", ip, port), "tls: {"+spec+"}")
	}
	m.apply(m.manifest("orders"), at("payments", host, "mode: mutual, "+both), at("billing", stranger, "mode: mutual, sni: other.shop, "+both),
		at("named", stranger, "mode: mutual, sni: billing.shop, "+both), at("email", host, "mode: simple, sni: payments.shop, "+ca))
	envoy, local := m.envoy("orders"), m.agentWith(harness.AgentOptions{Extra: []string{"--node-id", "orders-2"}})
	for side, client := range map[string]*harness.Client{"Envoy": envoy.Client, "agent": local.Client} {
		for service, want := range map[string]string{
			"payments": "200 payments.shop orders.shop http/1.1", "named": "200 billing.shop orders.shop http/1.1",
			"billing": "503", // another name than the certificate has
			"email":   "503", // the host wants a certificate
		} {
			call := client.Get(service, "/")
			if got := fmt.Sprintf("%d %s", call.Status, call.Body); !strings.HasPrefix(got, want) {
				t.Errorf("%s: %s answers %q, %v; want %q", side, service, got, call.Err, want)
			}
		}
	}

	// A file that is not there makes the proxy refuse that cluster, say so, and keep what it has.
	m.apply(at("queue", host, "mode: simple, caFile: /nonexistent/ca.pem"))
	m.rejects("orders-1", "shop/queue", "/nonexistent/ca.pem")
	m.rejects("orders-2", "shop/queue", "/nonexistent/ca.pem")
	envoy.want("payments", http.StatusOK)
	local.reaches("payments", http.StatusOK)
}
