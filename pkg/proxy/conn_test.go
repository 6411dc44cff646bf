package proxy

import (
	"crypto/tls"
	"net"
	"testing"

	"github.com/breakwater-mesh/breakwater/internal/testkit/pki"
)

// TestAWaitingTicketIsNoData: a host of TLS 1.3 sends session tickets whenever it likes. On an idle connection they are neither an end nor
// the beginning of a response that nobody asked for.
func TestAWaitingTicketIsNoData(t *testing.T) {
	config := &tls.Config{Certificates: []tls.Certificate{pki.NewAuthority(t).Issue(t, "x").TLS(t)}, MinVersion: tls.VersionTLS13, ClientAuth: tls.RequestClientCert} // which has the ticket come last
	for _, tt := range []struct {
		name  string
		after func(*tls.Conn)
		want  bool
	}{
		{"a ticket", func(*tls.Conn) {}, true},
		{"data after it", func(host *tls.Conn) { _, _ = host.Write([]byte("HTTP/1.1 408 Request Timeout\r\n\r\n")) }, false},
		{"an end after it", func(host *tls.Conn) { _ = host.Close() }, false},
	} {
		ours, theirs := connected(t)
		host := tls.Server(theirs, config)
		done := make(chan error, 1)
		go func() {
			err := host.Handshake() // has sent the ticket when it returns
			tt.after(host)
			done <- err
		}()
		secured := tls.Client(ours, &tls.Config{InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(1)}) // asks for tickets
		if err := secured.Handshake(); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		c := newConn(secured, func() {})
		for i := range 2 {
			if got := c.usable(); got != tt.want {
				t.Errorf("%s: usable at look %d: %v, want %v", tt.name, i+1, got, tt.want)
			}
		}
		_ = c.Close()
	}
}

// connected are the two ends of a TCP connection.
func connected(t *testing.T) (ours, theirs net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if ours, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if theirs, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = ours.Close()
		_ = theirs.Close()
	})
	return ours, theirs
}
