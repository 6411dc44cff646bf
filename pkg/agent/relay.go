package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/hashicorp/go-hclog"

	"github.com/breakwater-mesh/breakwater/pkg/relay"
	"github.com/breakwater-mesh/breakwater/pkg/xdsclient"
)

// noOutbound is the outbound address of an agent that carries no calls: it only relays.
const noOutbound = "none"

// relayDir is the directory below the state directory where the relay keeps what its clients accepted.
const relayDir = "relay"

// relayOnly says whether the agent carries no calls of its own.
func (c *Config) relayOnly() bool { return c.ListenOutbound == noOutbound }

func (c *Config) checkRelay() error {
	path, socket := strings.CutPrefix(c.Relay, "unix:")
	switch {
	case c.Relay == "" && c.relayOnly():
		return errors.New("--listen-outbound none: with --relay only, as nothing is left to do")
	case c.Relay == "" || socket && filepath.IsAbs(path):
		return nil
	case socket:
		return fmt.Errorf("--relay %s: want unix: and an absolute path", c.Relay)
	}
	return onLoopback("--relay", c.Relay)
}

// onLoopback checks the address of a port that nothing guards.
func onLoopback(flag, address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil || !isPort(port, 0) {
		return fmt.Errorf("%s %s: want HOST:PORT with a port up to 65535", flag, address)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("%s %s: only loopback, as nothing guards it", flag, address)
	}
	return nil
}

// startRelay opens the relay's port; nil where there is none to be.
func startRelay(config Config, servers *xdsclient.Servers, listen func(string) (net.Listener, error), log hclog.Logger) (*relay.Relay, net.Listener, error) {
	if config.Relay == "" {
		return nil, nil, nil
	}
	lis, err := listenRelay(config.Relay, listen)
	if err != nil {
		return nil, nil, fmt.Errorf("--relay: %w", err)
	}
	c := relay.Config{Servers: servers, Logger: log.Named("relay")}
	if config.StateDir != "" {
		c.StateDir = filepath.Join(config.StateDir, relayDir)
	}
	return relay.New(c), lis, nil
}

// listenRelay takes over a socket that nobody listens on any more.
func listenRelay(address string, listen func(string) (net.Listener, error)) (net.Listener, error) {
	path, socket := strings.CutPrefix(address, "unix:")
	if !socket {
		return listen(address)
	}
	lis, err := net.Listen("unix", path)
	if !errors.Is(err, syscall.EADDRINUSE) {
		return lis, err
	}
	if conn, dialed := net.Dial("unix", path); dialed == nil {
		_ = conn.Close()
		return nil, err
	}
	if err := os.Remove(path); err != nil {
		return nil, err
	}
	return net.Listen("unix", path)
}

// relay serves the relay's clients until ctx ends.
func (a *agent) serveRelay(ctx context.Context, port net.Listener) error {
	if a.relay == nil {
		return nil
	}
	a.log.Info("relaying the control plane", "address", port.Addr().String())
	return a.relay.Run(ctx, port)
}

// status is the xDS client's; without one it tells whether some client of the relay has a server.
func (a *agent) status() xdsclient.Status {
	if a.client != nil {
		return a.client.Status()
	}
	var s xdsclient.Status
	for _, stream := range a.relay.Streams() {
		if stream.Server != "" {
			s.Connected, s.Server = true, stream.Server
		}
	}
	return s
}
