package proxy_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/breakwater-mesh/breakwater/internal/testkit/pki"
	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// secure has the fixture's listener shake hands as context says.
func (f *fixture) secure(context *dataplane.DownstreamTLS) {
	f.t.Helper()
	listener := *f.table.Listeners["outbound"]
	listener.TLS = context
	f.table.Listeners["outbound"] = &listener
	if err := f.server.SetTable(f.table); err != nil {
		f.t.Fatal(err)
	}
}

// sslStat is a statistic of the listener's handshakes.
func (f *fixture) sslStat(name string) (value int64) {
	f.server.Stats(func(n string, v int64) {
		if n == "listener.127.0.0.1_0.ssl."+name {
			value = v
		}
	})
	return value
}

// serving is the context of a listener with a certificate.
func serving(p pki.Pair) *dataplane.DownstreamTLS {
	return &dataplane.DownstreamTLS{TLS: dataplane.TLS{Certificates: []dataplane.KeyPair{keyPair(p)}, Min: dataplane.TLS12, Max: dataplane.TLS13}}
}

// TestDownstreamTLS calls a listener over TLS. Statuses, headers and statistics are those of an Envoy.
func TestDownstreamTLS(t *testing.T) {
	authority, other := pki.NewAuthority(t), pki.NewAuthority(t)
	pair, own, foreign := authority.Issue(t, "agent.shop"), authority.Issue(t, "orders.shop"), other.Issue(t, "orders.shop")
	trusted := &dataplane.PEM{Inline: authority.PEM}
	host := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "proto=%s cert=%s", r.Header.Get("X-Forwarded-Proto"), r.Header.Get("X-Forwarded-Client-Cert"))
	})
	for _, tt := range []struct {
		name   string
		change func(f *fixture, d *dataplane.DownstreamTLS)
		caller *pki.Pair
		want   string // "" none: the handshake fails
		stat   string
	}{
		{"HTTP/1.1 without a choice", nil, nil, "HTTP/1.1 200 proto=https cert=", "no_certificate"},
		{"HTTP/2 by choice", func(_ *fixture, d *dataplane.DownstreamTLS) { d.ALPN = []string{"h2", "http/1.1"} }, nil, "HTTP/2.0 200 proto=https cert=", "handshake"},
		{"a certificate is required", func(_ *fixture, d *dataplane.DownstreamTLS) { d.RequireClientCertificate, d.Authority = true, trusted }, nil,
			"", "fail_verify_no_cert"},
		{"the required certificate", func(_ *fixture, d *dataplane.DownstreamTLS) { d.RequireClientCertificate, d.Authority = true, trusted }, &own,
			"HTTP/1.1 200 proto=https cert=", "handshake"},
		{"a certificate of another authority", func(_ *fixture, d *dataplane.DownstreamTLS) { d.Authority = trusted }, &foreign, "", "fail_verify_error"},
		{"a certificate with another name", func(_ *fixture, d *dataplane.DownstreamTLS) {
			d.Authority, d.Names = trusted, []dataplane.SubjectAltName{san(dataplane.SANDNS, resilience.Exact, "billing.shop")}
		}, &own, "", "fail_verify_san"},
		{"no certificate where one is verified only", func(_ *fixture, d *dataplane.DownstreamTLS) { d.Authority = trusted }, nil,
			"HTTP/1.1 200 proto=https cert=", "no_certificate"},
		{"what the caller says of its certificate", func(f *fixture, d *dataplane.DownstreamTLS) {
			d.Authority, f.http.KeepCertOfMutual = trusted, true
		}, &own, "HTTP/1.1 200 proto=https cert=Hash=aa", "handshake"},
		{"what a caller without a certificate says of it", func(f *fixture, d *dataplane.DownstreamTLS) {
			d.Authority, f.http.KeepCertOfMutual = trusted, true
		}, nil, "HTTP/1.1 200 proto=https cert=", "handshake"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, func(f *fixture) {
				f.http.AddForwardedProto, f.http.DropHeaders = true, []string{"x-forwarded-client-cert"}
			}, host)
			d := serving(pair)
			if tt.change != nil {
				tt.change(f, d)
			}
			f.secure(d)
			config := &tls.Config{RootCAs: authority.Pool(), ServerName: "agent.shop"}
			if tt.caller != nil {
				config.Certificates = []tls.Certificate{tt.caller.TLS(t)}
			}
			transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
			f.client.Transport = transport
			t.Cleanup(transport.CloseIdleConnections)
			req, _ := http.NewRequest("GET", "https://"+f.address()+"/", nil)
			req.Header.Set("X-Forwarded-Client-Cert", "Hash=aa")
			resp, err := f.client.Do(req)
			got := ""
			if err == nil {
				body, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				got = fmt.Sprint(resp.Proto, " ", resp.StatusCode, " ", string(body))
			}
			if got != tt.want {
				t.Errorf("%q %v, want %q", got, err, tt.want)
			}
			eventually(t, tt.stat+" is counted", func() bool { return f.sslStat(tt.stat) == 1 })
		})
	}
}

// TestPlaintextToATLSListener is cut off, and counted; a caller that has not said anything does not hold up the end.
func TestPlaintextToATLSListener(t *testing.T) {
	f := newFixture(t, nil, upstream(t, func(http.ResponseWriter, *http.Request) {}))
	f.secure(serving(pki.NewAuthority(t).Issue(t, "x")))
	c, err := net.Dial("tcp", f.address())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	_ = c.SetDeadline(time.Now().Add(patience))
	if answer, _ := io.ReadAll(c); strings.Contains(string(answer), "HTTP/1.1 200") {
		t.Errorf("answered: %q", answer)
	}
	eventually(t, "the error is counted", func() bool { return f.sslStat("connection_error") == 1 })
	silent, err := net.Dial("tcp", f.address())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
}

// TestAListenersCertificateIsReplaced by another table, and by another file.
func TestAListenersCertificateIsReplaced(t *testing.T) {
	authority, dir := pki.NewAuthority(t), t.TempDir()
	f := newFixture(t, nil, upstream(t, func(http.ResponseWriter, *http.Request) {}))
	shown := func() string {
		t.Helper()
		c, err := tls.Dial("tcp", f.address(), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	write := func(name string) {
		p := authority.Issue(t, name)
		pki.Write(t, dir, "cert.pem", p.Chain)
		pki.Write(t, dir, "key.pem", p.Key)
	}
	f.secure(serving(authority.Issue(t, "first")))
	first := shown()
	write("second")
	context := serving(pki.Pair{})
	context.Certificates[0] = dataplane.KeyPair{Chain: dataplane.PEM{File: dir + "/cert.pem"}, Key: dataplane.PEM{File: dir + "/key.pem"}}
	f.secure(context)
	second := shown()
	write("third")
	if got := []string{first, second, shown()}; fmt.Sprint(got) != "[first second third]" {
		t.Errorf("shown: %v", got)
	}
}

func TestTCPOverTLSOnBothSides(t *testing.T) {
	authority := pki.NewAuthority(t)
	pair := authority.Issue(t, "payments.shop")
	host := script(t, func(c net.Conn) {
		s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{pair.TLS(t)}})
		all, _ := io.ReadAll(s)
		_, _ = io.WriteString(s, s.ConnectionState().ServerName+" got "+string(all))
		_ = s.Close()
	})
	f := newFixture(t, func(f *fixture) { f.cluster.TLS = trusting(authority); f.cluster.TLS.ServerName = "payments.shop" }, host)
	f.tcpListener()
	listener := *f.table.Listeners["tcp"]
	listener.TLS = serving(pair)
	f.table.Listeners["tcp"] = &listener
	if err := f.server.SetTable(f.table); err != nil {
		t.Fatal(err)
	}
	c, err := tls.Dial("tcp", f.server.Addresses()["tcp"], &tls.Config{RootCAs: authority.Pool(), ServerName: "payments.shop"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	_, _ = io.WriteString(c, "ping")
	_ = c.CloseWrite()
	if answer, err := io.ReadAll(c); string(answer) != "payments.shop got ping" || err != nil {
		t.Errorf("%q, %v", answer, err)
	}
}

func TestGRPCOverTLSOnBothSides(t *testing.T) {
	authority := pki.NewAuthority(t)
	pair := authority.Issue(t, "payments.shop")
	host := grpcHost(t, &service{duplex: echo}, grpc.Creds(credentials.NewServerTLSFromCert(new(pair.TLS(t)))))
	f := newFixture(t, func(f *fixture) { f.cluster.HTTP2, f.cluster.TLS = true, trusting(authority) }, host)
	context := serving(pair)
	context.ALPN = []string{"h2"}
	f.secure(context)
	converse(t, f.dialGRPCOver(credentials.NewClientTLSFromCert(authority.Pool(), "payments.shop")))
}
