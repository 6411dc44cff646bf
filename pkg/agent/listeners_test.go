package agent

import (
	"bytes"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/engine"
	"github.com/breakwater-mesh/breakwater/pkg/xdsclient"
)

// TestAListenerThatOpensLater is named with its error until it is open, and logged once each.
func TestAListenerThatOpensLater(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	a := &agent{log: hclog.New(&hclog.LoggerOptions{Output: &log}), engine: engine.New(engine.Options{Rand: func() uint64 { return 0 }}), client: new(xdsclient.Client)}
	defer a.engine.Close()
	if err := a.newServer(); err != nil {
		t.Fatal(err)
	}
	defer a.server.Close(t.Context())
	address := netip.MustParseAddrPort(taken.Addr().String())
	a.config.ListenOutbound = address.String()
	a.table = &dataplane.Table{Listeners: map[string]*dataplane.Listener{"outbound": {Name: "outbound", Address: address, TCP: &dataplane.TCP{}}}}
	a.install()
	a.install()
	if err := a.ready(); err == nil || !strings.Contains(err.Error(), "not open: listener outbound: listen tcp "+address.String()) {
		t.Errorf("ready: %v, want the listener and why", err)
	}
	a.config.ListenOutbound = "127.0.0.1:1" // another listener's, which is open
	a.table.Listeners["other"] = &dataplane.Listener{Name: "other", Address: netip.MustParseAddrPort("127.0.0.1:0"), TCP: &dataplane.TCP{}}
	a.install()
	if err := a.ready(); err != nil {
		t.Errorf("ready where the port of a service alone is taken: %v", err)
	}
	if err := a.notOpen(); err == nil || !strings.Contains(err.Error(), "listener outbound") {
		t.Errorf("not open: %v, want the listener", err)
	}
	if err := bindable(address); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("a port that is taken: %v", err)
	}
	_ = taken.Close()
	if err := bindable(address); err != nil {
		t.Errorf("a port that is free: %v", err)
	}
	a.install()
	if err := a.ready(); err != nil {
		t.Errorf("ready: %v", err)
	}
	text := log.String()
	if strings.Count(text, "can't listen") != 1 || strings.Count(text, "is open now") != 1 || !strings.Contains(text, "outbound="+address.String()) {
		t.Errorf("logged %s", text)
	}
}
