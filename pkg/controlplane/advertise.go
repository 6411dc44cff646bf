package controlplane

import (
	"crypto/rand"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/envoy"
	"github.com/breakwater-mesh/breakwater/pkg/telemetry"
)

// replicaOf is this replica as the others get to know it. The id is of this run alone: of two with one name or one address, by a fault
// in their settings, each is still found to be missing.
func replicaOf(c Config, listening net.Addr) api.Replica {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "replica"
	}
	return api.Replica{
		ID: host + "-" + strings.ToLower(rand.Text()[:6]), Address: advertised(c, listening), StartedAt: time.Now().UTC().Truncate(time.Millisecond),
		Version: telemetry.Version, Vintage: envoy.Vintage,
	}
}

// advertised is where the other replicas reach the API: where it listens, and where that is everywhere, the address with which this machine
// goes to etcd.
func advertised(c Config, listening net.Addr) string {
	if c.AdvertiseAPI != "" {
		return c.AdvertiseAPI
	}
	if listening.Network() == "unix" {
		if path, err := filepath.Abs(listening.String()); err == nil {
			return "unix:" + path
		}
	}
	tcp, ok := listening.(*net.TCPAddr)
	if !ok || !tcp.IP.IsUnspecified() {
		return listening.String()
	}
	_, port, _ := net.SplitHostPort(listening.String())
	return net.JoinHostPort(sourceAddress(c.EtcdEndpoints), port)
}

// sourceAddress is this machine's address on the way to the first of endpoints that has a way; nothing is sent. Without one it is loopback.
func sourceAddress(endpoints []string) string {
	for _, endpoint := range endpoints {
		if u, err := url.Parse(endpoint); err == nil && u.Host != "" {
			endpoint = u.Host
		}
		conn, err := net.DialTimeout("udp", endpoint, time.Second)
		if err != nil {
			continue
		}
		defer conn.Close()
		return conn.LocalAddr().(*net.UDPAddr).IP.String()
	}
	return "127.0.0.1"
}

// askedAs are the names under which the API may be asked: those that are allowed, and the one that the other replicas use.
func askedAs(c Config, self api.Replica) []string {
	host, _, err := net.SplitHostPort(self.Address)
	if err != nil {
		return c.AllowedHosts
	}
	return append(c.AllowedHosts[:len(c.AllowedHosts):len(c.AllowedHosts)], host)
}
