package proxy_test

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/internal/testkit/pki"
	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/proxy"
	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// secureUpstream is a host over TLS that says what it got: protocol, server name, and whose certificate.
func secureUpstream(t *testing.T, config *tls.Config, h2 bool) string {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer := ""
		if len(r.TLS.PeerCertificates) > 0 {
			peer = r.TLS.PeerCertificates[0].Subject.CommonName
		}
		_, _ = fmt.Fprintf(w, "%s alpn=%s sni=%s peer=%s %s", r.Proto, r.TLS.NegotiatedProtocol, r.TLS.ServerName, peer, tls.VersionName(r.TLS.Version))
	}))
	if s.TLS, s.EnableHTTP2 = config, h2; h2 {
		config.NextProtos = []string{"h2", "http/1.1"}
	}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s.Listener.Addr().String()
}

// trusting is a TLS context that trusts authority.
func trusting(authority *pki.Authority) *dataplane.UpstreamTLS {
	up := &dataplane.UpstreamTLS{TLS: dataplane.TLS{Min: dataplane.TLS12, Max: dataplane.TLS12}}
	if authority != nil {
		up.Authority = &dataplane.PEM{Inline: authority.PEM}
	}
	return up
}

func keyPair(p pki.Pair) dataplane.KeyPair {
	return dataplane.KeyPair{Chain: dataplane.PEM{Inline: p.Chain}, Key: dataplane.PEM{Inline: p.Key}}
}

func san(kind dataplane.SANType, how resilience.MatchKind, value string) dataplane.SubjectAltName {
	return dataplane.SubjectAltName{Type: kind, Match: resilience.HeaderMatch{Kind: how, Value: value}}
}

const connectionFailure = "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure"

// TestUpstreamTLS calls a host as a context says. Statuses, bodies and statistics are those of an Envoy beside the same host.
func TestUpstreamTLS(t *testing.T) {
	authority, other := pki.NewAuthority(t), pki.NewAuthority(t)
	pair, own := authority.Issue(t, "payments.shop", "*.wild.shop", "127.0.0.1", "spiffe://mesh/payments"), authority.Issue(t, "orders.shop")
	cert := pair.TLS(t)
	digest := sha256.Sum256(cert.Certificate[0])
	server := func() *tls.Config { return &tls.Config{Certificates: []tls.Certificate{cert}} }
	wants := func() *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: authority.Pool(), ClientAuth: tls.RequireAndVerifyClientCert}
	}
	for _, tt := range []struct {
		name   string
		server *tls.Config // nil: plaintext
		change func(c *dataplane.Cluster)
		want   string
		stat   string // below "ssl."; "" none
	}{
		{"no validation context verifies nothing", server(), func(c *dataplane.Cluster) { c.TLS = trusting(nil) },
			"200 HTTP/1.1 alpn=http/1.1 sni= peer= TLS 1.2", "handshake"},
		{"the server's name is sent", server(), func(c *dataplane.Cluster) { c.TLS.ServerName = "payments.shop" },
			"200 HTTP/1.1 alpn=http/1.1 sni=payments.shop peer= TLS 1.2", "versions.TLSv1.2"},
		{"another authority", server(), func(c *dataplane.Cluster) { c.TLS = trusting(other) }, "503 " + connectionFailure, "fail_verify_error"},
		{"a certificate for the wanted name", server(), func(c *dataplane.Cluster) {
			c.TLS.Names = []dataplane.SubjectAltName{san(dataplane.SANDNS, resilience.Exact, "other.shop"), san(dataplane.SANDNS, resilience.Exact, "a.wild.shop")}
		}, "200 HTTP/1.1", "handshake"},
		{"a name by its end", server(), func(c *dataplane.Cluster) {
			c.TLS.Names = []dataplane.SubjectAltName{san(dataplane.SANURI, resilience.Suffix, "/payments")}
		}, "200 HTTP/1.1", "handshake"},
		{"a name of another kind", server(), func(c *dataplane.Cluster) {
			c.TLS.Names = []dataplane.SubjectAltName{san(dataplane.SANURI, resilience.Exact, "payments.shop")}
		}, "503 " + connectionFailure, "fail_verify_san"},
		{"an address", server(), func(c *dataplane.Cluster) {
			c.TLS.Names = []dataplane.SubjectAltName{san(dataplane.SANAddress, resilience.Exact, "127.0.0.1")}
		}, "200 HTTP/1.1", "handshake"},
		{"the wanted certificate", server(), func(c *dataplane.Cluster) {
			c.TLS = trusting(nil)
			c.TLS.Hashes = []string{hex.EncodeToString(digest[:])}
		}, "200 HTTP/1.1", "handshake"},
		{"not the wanted certificate", server(), func(c *dataplane.Cluster) {
			c.TLS = trusting(nil)
			c.TLS.Hashes = []string{strings.Repeat("0", 64)}
		}, "503 " + connectionFailure, "fail_verify_cert_hash"},
		{"a host that wants a certificate", wants(), func(c *dataplane.Cluster) { c.TLS.Certificates = []dataplane.KeyPair{keyPair(own)} },
			"200 HTTP/1.1 alpn=http/1.1 sni= peer=orders.shop TLS 1.2", "handshake"},
		{"a host that wants a certificate in vain", wants(), nil, "503 " + connectionFailure, "connection_error"},
		{"no common version", server(), func(c *dataplane.Cluster) { c.TLS.Min = dataplane.TLS13 }, "503 " + connectionFailure, "connection_error"},
		{"TLS 1.3", server(), func(c *dataplane.Cluster) { c.TLS.Max = dataplane.TLS13 }, "200 HTTP/1.1 alpn=http/1.1 sni= peer= TLS 1.3", "versions.TLSv1.3"},
		{"plaintext in answer", nil, nil, "503 " + connectionFailure, "connection_error"},
		{"HTTP/2", server(), func(c *dataplane.Cluster) { c.HTTP2 = true }, "200 HTTP/2.0 alpn=h2 sni=", "handshake"},
		{"HTTP/2 as the host chooses", server(), func(c *dataplane.Cluster) { c.AutoHTTP = true }, "200 HTTP/2.0 alpn=h2 sni=", "handshake"},
		{"HTTP/1.1 as the host chooses", server(), func(c *dataplane.Cluster) { c.AutoHTTP, c.TLS.ALPN = true, []string{"http/1.1"} },
			"200 HTTP/1.1 alpn=http/1.1 sni=", "handshake"},
		{"HTTP/1.1 as the caller", server(), func(c *dataplane.Cluster) { c.HTTPAsCaller = true }, "200 HTTP/1.1", "handshake"},
		{"the host's own name", server(), func(c *dataplane.Cluster) { c.TLS.AutoHostName, c.Hosts[0].Name = true, "own.example" },
			"200 HTTP/1.1 alpn=http/1.1 sni=own.example", "handshake"},
		{"the host's own name, verified", server(), func(c *dataplane.Cluster) {
			c.TLS.AutoHostName, c.TLS.VerifyHostName, c.Hosts[0].Name = true, true, "own.example"
		}, "503 " + connectionFailure, "fail_verify_san"},
		{"the request's host", server(), func(c *dataplane.Cluster) { c.AutoSNI, c.AutoSAN = true, true },
			"200 HTTP/1.1 alpn=http/1.1 sni=payments.shop", "handshake"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			host := ""
			if tt.server == nil {
				host = upstream(t, func(http.ResponseWriter, *http.Request) {})
			} else {
				host = secureUpstream(t, tt.server, true)
			}
			f := newFixture(t, func(f *fixture) {
				f.cluster.TLS = trusting(authority)
				if tt.change != nil {
					tt.change(f.cluster)
				}
			}, host)
			req, err := http.NewRequest("GET", "http://"+f.address()+"/", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = "payments.shop:8443"
			resp, body := f.do(req)
			if got := fmt.Sprint(resp.StatusCode, " ", body); !strings.HasPrefix(got, tt.want) {
				t.Errorf("%s, want %s", got, tt.want)
			}
			if got := f.stat("ssl." + tt.stat); got != 1 {
				t.Errorf("%s: %d, want 1", tt.stat, got)
			}
			if failed := resp.StatusCode == 503; failed != (f.stat("upstream_cx_connect_fail") == 1) || failed == (f.stat("ssl.handshake") == 1) {
				t.Errorf("connect failures %d, handshakes %d", f.stat("upstream_cx_connect_fail"), f.stat("ssl.handshake"))
			}
		})
	}
}

// TestRequestsChooseConnectionsByName: a connection for one name is not for another, and is used again for the same.
func TestRequestsChooseConnectionsByName(t *testing.T) {
	authority := pki.NewAuthority(t)
	host := secureUpstream(t, &tls.Config{Certificates: []tls.Certificate{authority.Issue(t, "*.wild.shop").TLS(t)}}, false)
	f := newFixture(t, func(f *fixture) {
		f.cluster.TLS, f.cluster.AutoSNI, f.cluster.AutoSAN = trusting(authority), true, true
	}, host)
	for _, tt := range []struct {
		host   string
		status int
	}{{"a.wild.shop", 200}, {"b.wild.shop", 200}, {"a.wild.shop", 200}, {"other.shop", 503}} {
		req, _ := http.NewRequest("GET", "http://"+f.address()+"/", nil)
		req.Host = tt.host
		resp, body := f.do(req)
		if resp.StatusCode != tt.status || tt.status == 200 && !strings.Contains(body, "sni="+tt.host) {
			t.Errorf("%s: %d %s", tt.host, resp.StatusCode, body)
		}
	}
	if n, failed := f.stat("ssl.handshake"), f.stat("ssl.fail_verify_san"); n != 2 || failed != 1 {
		t.Errorf("%d handshakes and %d refused names, want 2 and 1", n, failed)
	}
}

// TestAFailedHandshakeIsAConnectFailure: it is retried as one, and charged to the host.
func TestAFailedHandshakeIsAConnectFailure(t *testing.T) {
	authority := pki.NewAuthority(t)
	bad := secureUpstream(t, &tls.Config{Certificates: []tls.Certificate{pki.NewAuthority(t).Issue(t, "x").TLS(t)}}, false)
	good := secureUpstream(t, &tls.Config{Certificates: []tls.Certificate{authority.Issue(t, "x").TLS(t)}}, false)
	f := newFixture(t, func(f *fixture) {
		f.cluster.TLS = trusting(authority)
		f.route.Retry = &resilience.Retry{On: resilience.OnConnectFailure, NumRetries: 1}
		f.cluster.Outlier = &resilience.Outlier{
			Interval: time.Minute, BaseEjectionTime: time.Minute, MaxEjectionTime: time.Minute, MaxEjectionPercent: 100,
			Consecutive5xx: resilience.Consecutive{Threshold: 2, Enforcing: 100},
		}
	}, bad, good)
	for i := range 6 {
		if resp, body := f.get("GET", "/", nil); resp.StatusCode != 200 {
			t.Errorf("request %d: %d %s", i, resp.StatusCode, body)
		}
	}
	if ejected, failed := f.stat("outlier_detection.ejections_active"), f.stat("ssl.fail_verify_error"); ejected != 1 || failed != 2 {
		t.Errorf("%d ejected after %d failed handshakes, want 1 after 2", ejected, failed)
	}
}

// TestConnectTimeoutCoversTheHandshake: a host that accepts and is silent runs into it.
func TestConnectTimeoutCoversTheHandshake(t *testing.T) {
	host := script(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	f := newFixture(t, func(f *fixture) { f.cluster.TLS, f.cluster.ConnectTimeout = trusting(nil), 50*time.Millisecond }, host)
	resp, body := f.get("GET", "/", nil)
	if resp.StatusCode != 503 || !strings.HasSuffix(body, "reset reason: connection timeout") || f.stat("upstream_cx_connect_timeout") != 1 {
		t.Errorf("%d %s, %d timeouts", resp.StatusCode, body, f.stat("upstream_cx_connect_timeout"))
	}
}

// TestAnIdleTLSConnectionThatTheHostEndsIsNotUsed, in either version: one of TLS 1.3 has a ticket waiting, which is not an end.
func TestAnIdleTLSConnectionThatTheHostEndsIsNotUsed(t *testing.T) {
	for version, most := range map[string]uint16{"1.2": dataplane.TLS12, "1.3": dataplane.TLS13} {
		t.Run(version, func(t *testing.T) {
			authority := pki.NewAuthority(t)
			s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			s.TLS = &tls.Config{Certificates: []tls.Certificate{authority.Issue(t, "x").TLS(t)}}
			s.Config.ErrorLog = log.New(io.Discard, "", 0)
			s.StartTLS()
			t.Cleanup(s.Close)
			f := newFixture(t, func(f *fixture) {
				f.cluster.TLS = trusting(authority)
				f.cluster.TLS.Max = most
			}, s.Listener.Addr().String())
			for range 2 {
				if resp, body := f.get("GET", "/", nil); resp.StatusCode != 200 {
					t.Fatalf("%d %s", resp.StatusCode, body)
				}
			}
			if n := f.stat("ssl.handshake"); n != 1 {
				t.Errorf("%d connections for two requests, want 1", n)
			}
			s.CloseClientConnections()
			for range 2 {
				if resp, body := f.get("GET", "/", nil); resp.StatusCode != 200 {
					t.Errorf("after the end: %d %s", resp.StatusCode, body)
				}
			}
		})
	}
}

// TestFilesAreReadAgain: a host's new authority and the agent's new certificate hold for the next connection.
func TestFilesAreReadAgain(t *testing.T) {
	dir := t.TempDir()
	serve := func() string {
		authority := pki.NewAuthority(t)
		own := authority.Issue(t, "orders.shop")
		pki.Write(t, dir, "ca.pem", authority.PEM)
		pki.Write(t, dir, "cert.pem", own.Chain)
		pki.Write(t, dir, "key.pem", own.Key)
		return secureUpstream(t, &tls.Config{Certificates: []tls.Certificate{authority.Issue(t, "x").TLS(t)}, ClientCAs: authority.Pool(), ClientAuth: tls.RequireAndVerifyClientCert}, false)
	}
	f := newFixture(t, func(f *fixture) {
		f.cluster.TLS = trusting(nil)
		f.cluster.TLS.Authority = &dataplane.PEM{File: dir + "/ca.pem"}
		f.cluster.TLS.Certificates = []dataplane.KeyPair{{Chain: dataplane.PEM{File: dir + "/cert.pem"}, Key: dataplane.PEM{File: dir + "/key.pem"}}}
	}, serve())
	if resp, body := f.get("GET", "/", nil); resp.StatusCode != 200 {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	f.replace(serve())
	if resp, body := f.get("GET", "/", nil); resp.StatusCode != 200 {
		t.Errorf("with everything replaced: %d %s", resp.StatusCode, body)
	}
}

// replace puts a table in force in which the cluster has another host.
func (f *fixture) replace(host string) {
	f.t.Helper()
	cluster := *f.cluster
	cluster.Hosts = []dataplane.Host{{Address: netip.MustParseAddrPort(host), Weight: 1}}
	table := *f.table
	table.Clusters = map[string]*dataplane.Cluster{cluster.Name: &cluster}
	f.cluster, f.table = &cluster, &table
	if err := f.server.SetTable(&table); err != nil {
		f.t.Fatal(err)
	}
}

// TestMissingFilesAreNamed by the field that says them, once: a context that is in force is not looked at again.
func TestMissingFilesAreNamed(t *testing.T) {
	authority := pki.NewAuthority(t)
	pair := authority.Issue(t, "x")
	table := &dataplane.Table{
		Clusters: map[string]*dataplane.Cluster{
			"good": {TLS: trusting(authority)},
			"bad":  {TLS: &dataplane.UpstreamTLS{TLS: dataplane.TLS{Authority: &dataplane.PEM{File: "/absent", Field: "cluster.ca"}}}},
		},
		Listeners: map[string]*dataplane.Listener{"l": {TLS: &dataplane.DownstreamTLS{TLS: dataplane.TLS{
			Certificates: []dataplane.KeyPair{{Chain: dataplane.PEM{Inline: pair.Chain, Field: "listener.chain"}, Key: dataplane.PEM{Inline: "no key"}}}}}}},
	}
	got := dataplane.Text(proxy.CheckTLS(table, nil))
	for _, want := range []string{"bad: cluster.ca: stat /absent: no such file", "l: listener.chain: the inline text and the inline text: "} {
		if !strings.Contains(got, want) {
			t.Errorf("%s\nwant %s in it", got, want)
		}
	}
	if strings.Contains(got, "good") {
		t.Errorf("%s: nothing is wrong with good", got)
	}
	if again := proxy.CheckTLS(table, table); len(again) != 0 {
		t.Errorf("of the table in force: %v", again)
	}
}
