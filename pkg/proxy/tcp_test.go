package proxy_test

import (
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// tcpListener adds a TCP listener "tcp" for the cluster.
func (f *fixture) tcpListener() string {
	f.t.Helper()
	f.table.Listeners["tcp"] = &dataplane.Listener{
		Name: "tcp", Address: netip.MustParseAddrPort("127.0.0.1:0"), TCP: &dataplane.TCP{StatPrefix: "tcp", Cluster: f.cluster.Name},
	}
	if err := f.server.SetTable(f.table); err != nil {
		f.t.Fatal(err)
	}
	return f.server.Addresses()["tcp"]
}

// exchangeTCP sends "ping", ends writing, and returns all that comes back.
func exchangeTCP(t *testing.T, address string) string {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, "ping"); err != nil {
		return ""
	}
	_ = c.(*net.TCPConn).CloseWrite()
	answer, _ := io.ReadAll(c)
	return string(answer)
}

func TestTCPPassesBothWaysAndHalfCloses(t *testing.T) {
	host := script(t, func(c net.Conn) {
		all, _ := io.ReadAll(c)
		_, _ = io.WriteString(c, "got "+string(all))
	})
	f := newFixture(t, nil, host)
	if got := exchangeTCP(t, f.tcpListener()); got != "got ping" {
		t.Errorf("got %q", got)
	}
	eventually(t, "the connection is given back", func() bool { return f.stat("upstream_cx_active") == 0 })
}

func TestTCPEjectsWhatCantBeReached(t *testing.T) {
	var served atomic.Int64
	host := script(t, func(c net.Conn) {
		served.Add(1)
		_, _ = io.Copy(c, c)
	})
	f := newFixture(t, func(f *fixture) {
		f.cluster.Outlier = &resilience.Outlier{
			Consecutive5xx: resilience.Consecutive{Threshold: 3, Enforcing: 100}, Interval: time.Hour, BaseEjectionTime: time.Hour,
			MaxEjectionTime: time.Hour, MaxEjectionPercent: 100,
		}
	}, host, "127.0.0.1:1")
	address, failed := f.tcpListener(), 0
	for range 20 {
		if exchangeTCP(t, address) != "ping" {
			failed++
		}
	}
	if failed != 3 || served.Load() != 17 || f.stat("outlier_detection.ejections_active") != 1 {
		t.Errorf("%d of 20 failed, %d served, %d ejected; want 3, 17 and 1", failed, served.Load(), f.stat("outlier_detection.ejections_active"))
	}
}

func TestTCPConnectionLimit(t *testing.T) {
	f := newFixture(t, func(f *fixture) { f.cluster.Thresholds[0].MaxConnections = 1 },
		script(t, func(c net.Conn) { _, _ = io.Copy(c, c) }))
	address := f.tcpListener()
	first, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	eventually(t, "the first is through", func() bool { return f.stat("upstream_cx_active") == 1 })
	if got := exchangeTCP(t, address); got != "" || f.stat("upstream_cx_overflow") != 1 {
		t.Errorf("a second connection got %q, overflow %d", got, f.stat("upstream_cx_overflow"))
	}
}
