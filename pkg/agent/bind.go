package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// unbindable is the faults of t's listeners of TCP services that are new and whose ports are taken: the control plane is to hear of
// them, as from Envoy. The outbound listener and what comes from disk, when there is nobody to tell, are in force, and opened as soon
// as that can be. mu is held.
func (a *agent) unbindable(t *dataplane.Table) (faults []dataplane.Fault) {
	if a.client.Status().Server == "" { // from disk
		return nil
	}
	held := map[netip.AddrPort]bool{}
	if a.table != nil {
		for _, l := range a.table.Listeners {
			held[l.Address] = true
		}
	}
	for name, l := range t.Listeners {
		if l.TCP == nil || l.Inside || held[l.Address] || a.inherited[l.Address.String()] != nil {
			continue
		}
		if err := bindable(l.Address); err != nil {
			reason := fmt.Sprintf("cannot bind '%s': %v", l.Address, err)
			faults = append(faults, dataplane.Fault{ID: view.ID{Type: view.LDS, Name: name}, Field: "listener.address", Reason: reason})
		}
	}
	return faults
}

// errBound ends the opening of a socket that could be bound, before it accepts anything.
var errBound = errors.New("bound")

// bindable is why nothing can listen at address; nil where something can, and where that can't be told, as files have run out.
func bindable(address netip.AddrPort) (why error) {
	bind := func(_, _ string, c syscall.RawConn) error {
		if err := c.Control(func(fd uintptr) { why = syscall.Bind(int(fd), socketAddress(address)) }); err != nil {
			return err
		}
		return errBound
	}
	l, err := (&net.ListenConfig{Control: bind}).Listen(context.Background(), network(address), address.String())
	if err == nil { // never: Control ends it
		_ = l.Close()
	}
	return why
}

func network(address netip.AddrPort) string {
	if address.Addr().Unmap().Is4() {
		return "tcp4"
	}
	return "tcp6"
}

func socketAddress(address netip.AddrPort) syscall.Sockaddr {
	if ip := address.Addr().Unmap(); ip.Is4() {
		return &syscall.SockaddrInet4{Port: int(address.Port()), Addr: ip.As4()}
	}
	return &syscall.SockaddrInet6{Port: int(address.Port()), Addr: address.Addr().As16()}
}
