package proxy_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/proxy"
)

func TestAccessIsTold(t *testing.T) {
	told := make(chan proxy.Access, 10)
	host := script(t, func(c net.Conn) {
		_, _ = io.ReadAll(c)
		_, _ = io.WriteString(c, "pong")
	})
	web := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, "hello")
	})
	note := func(f *fixture) {
		f.access = func(a proxy.Access) { told <- a }
		f.route.Name = "all"
	}
	f, tcp, none := newFixture(t, note, web), newFixture(t, note, host), newFixture(t, note)
	line := func(a proxy.Access) string {
		return fmt.Sprint(a.Listener, " ", a.Method, " ", a.Path, " ", a.Protocol, " ", a.Status, " ", a.Flags, " ", a.Details, " ", a.In, " ", a.Out, " ", a.Cluster, " ", a.Route,
			" ", a.Host.IsValid(), " ", a.Attempts)
	}
	for _, step := range []struct {
		act  func()
		want string
	}{
		{func() { f.get("POST", "/a?b", strings.NewReader("four")) }, "outbound POST /a?b HTTP/1.1 200 - via_upstream 4 5 shop/email all true 1"},
		{func() { exchangeTCP(t, tcp.tcpListener()) }, "tcp    0 -  4 4 shop/email  true 0"},
		{func() { none.get("GET", "/", nil) }, "outbound GET / HTTP/1.1 503 UH no_healthy_upstream 0 19 shop/email all false 1"},
	} {
		step.act()
		a := <-told
		if got := line(a); got != step.want {
			t.Errorf("got  %s\nwant %s", got, step.want)
		}
		if a.Start.IsZero() || a.Duration <= 0 {
			t.Errorf("%s began at %v and took %v", step.want, a.Start, a.Duration)
		}
	}
}
