package agent

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/breakwater-mesh/breakwater/pkg/envoy/bootstrap"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// Validate checks what can be checked before anything opens. Its error names every flag that is wrong, each in a line of its own.
func (c *Config) Validate() error {
	faults := c.checkServers()
	faults = append(faults, c.checkNode()...)
	faults = append(faults, c.checkOutbound(), onLoopback("--listen-admin", c.ListenAdmin), c.checkRelay())
	faults = append(faults, c.checkApart()...)
	faults = append(faults, c.validateTLS()...)
	if c.DrainDelay < 0 {
		faults = append(faults, fmt.Errorf("--drain-delay %v: must be 0 or more", c.DrainDelay))
	}
	if c.DrainTimeout <= 0 {
		faults = append(faults, fmt.Errorf("--drain-timeout %v: must be more than 0", c.DrainTimeout))
	}
	faults = append(faults, c.Advertise.validate(c.NodeID, c.XDS)...)
	return errors.Join(faults...)
}

func (c *Config) checkServers() (faults []error) {
	if len(c.XDS) == 0 {
		return []error{errors.New("--xds: must be given")}
	}
	for _, server := range c.XDS {
		host, port, err := net.SplitHostPort(server)
		if err != nil || host == "" || strings.ContainsAny(host, "/ \t") || !isPort(port, 1) {
			faults = append(faults, fmt.Errorf("--xds %q: want HOST:PORT with a port from 1 to 65535", server))
		}
	}
	return faults
}

// isPort reports whether s is the number of a port, lowest or above.
func isPort(s string, lowest uint64) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n >= lowest
}

// checkNode checks who the agent is. An agent that only relays need not say so.
func (c *Config) checkNode() (faults []error) {
	for _, is := range []struct {
		flag, value string
		check       func(string) string
	}{{"--service", c.Service, manifest.CheckName}, {"--namespace", c.Namespace, manifest.CheckName}, {"--node-id", c.NodeID, bootstrap.CheckNodeID}} {
		if is.value == "" {
			if !c.relayOnly() || c.Advertise.Address != "" {
				faults = append(faults, fmt.Errorf("%s: must be given", is.flag))
			}
		} else if fault := is.check(is.value); fault != "" {
			faults = append(faults, fmt.Errorf("%s: %s", is.flag, fault))
		}
	}
	return faults
}

func (c *Config) checkOutbound() error {
	if c.relayOnly() {
		return nil
	}
	address, err := netip.ParseAddrPort(c.ListenOutbound)
	if err != nil || address.Port() == 0 {
		return fmt.Errorf("--listen-outbound %s: want IP:PORT, no name, with a port from 1 to 65535 (the control plane has to know it); or none with --relay", c.ListenOutbound)
	}
	if !address.Addr().Unmap().IsLoopback() && !c.InsecureListen {
		return fmt.Errorf("--listen-outbound %s: listening beyond loopback needs TLS and authentication; --insecure-listen allows it without", c.ListenOutbound)
	}
	return nil
}

// checkApart refuses two listeners at one port.
func (c *Config) checkApart() (faults []error) {
	listeners := []struct{ flag, address string }{{"--listen-outbound", c.ListenOutbound}, {"--listen-admin", c.ListenAdmin}, {"--relay", c.Relay}}
	for i, a := range listeners {
		for _, b := range listeners[:i] {
			if collide(a.address, b.address) {
				faults = append(faults, fmt.Errorf("%s %s: %s listens there", a.flag, a.address, b.flag))
			}
		}
	}
	return faults
}

// collide reports whether one process can't listen at both addresses. What is no address of an IP collides with nothing.
func collide(a, b string) bool {
	x, errX := netip.ParseAddrPort(strings.Replace(a, "localhost:", "127.0.0.1:", 1))
	y, errY := netip.ParseAddrPort(strings.Replace(b, "localhost:", "127.0.0.1:", 1))
	if errX != nil || errY != nil || x.Port() != y.Port() || x.Port() == 0 {
		return false
	}
	p, q := x.Addr().Unmap(), y.Addr().Unmap()
	return p == q || p.IsUnspecified() || q.IsUnspecified()
}
