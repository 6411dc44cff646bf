package agent

import (
	"os"
	"time"

	"github.com/spf13/pflag"

	"github.com/breakwater-mesh/breakwater/pkg/proxy"
)

// EnvPrefix is in front of every environment variable.
const EnvPrefix = "BREAKWATER_AGENT_"

// Config is everything that can be set: by flag, else by environment (BREAKWATER_AGENT_XDS for --xds), else by file (the flag's name
// without dashes in front), else the default. A setting is a field here, a line in Flags and, where it can be wrong, a check in
// Validate.
type Config struct {
	XDS                []string // host:port of the control plane's replicas, tried in turn
	XDSCA              string   // file of the authorities that the control plane's certificate is verified against; "": plaintext
	XDSCert, XDSKey    string   // files of the agent's certificate; "": none
	XDSServerName      string   // that the control plane's certificate has to name; "": its host
	NodeID             string
	Service, Namespace string // of the application beside the agent
	ListenAdmin        string
	ListenOutbound     string        // where applications call; an ip:port, or "none"
	Edge               bool          // who calls ListenOutbound is outside
	InsecureListen     bool          // allows ListenOutbound beyond loopback, where nothing guards it
	Relay              string        // where local xDS clients are served; "": nowhere
	StateDir           string        // of the last known good configuration; "": none is kept
	DrainDelay         time.Duration // from "not ready" to no more new connections
	DrainTimeout       time.Duration
	AccessLog          string // a file, or "-" or "stdout"; "": none is written
	Advertise          Advertise
	LogLevel           string
	LogJSON            bool

	// Access is told of each request and TCP connection at its end, where a program has the agent in it. There is no flag for it.
	Access func(proxy.Access)
}

// Defaults serve the application on loopback.
func Defaults() Config {
	host, _ := os.Hostname()
	return Config{
		NodeID:         host,
		Namespace:      "default",
		ListenAdmin:    "127.0.0.1:9902",
		ListenOutbound: "127.0.0.1:15001",
		StateDir:       "breakwater-agent-state",
		DrainTimeout:   30 * time.Second,
		Advertise:      defaultAdvertise(),
		LogLevel:       "info",
	}
}

// Flags declares every setting on fs, with c's present values as defaults.
func (c *Config) Flags(fs *pflag.FlagSet) {
	fs.StringSliceVar(&c.XDS, "xds", c.XDS, "control plane, as HOST:PORT[,HOST:PORT]")
	fs.StringVar(&c.XDSCA, "xds-ca", c.XDSCA, "speak TLS with the control plane, and verify its certificate against the authorities in this PEM file")
	fs.StringVar(&c.XDSCert, "xds-cert", c.XDSCert, "PEM file of the certificate that is shown to the control plane")
	fs.StringVar(&c.XDSKey, "xds-key", c.XDSKey, "PEM file of the private key of --xds-cert")
	fs.StringVar(&c.XDSServerName, "xds-server-name", c.XDSServerName, "name that the control plane's certificate has to be for, in place of the host in --xds")
	fs.StringVar(&c.NodeID, "node-id", c.NodeID, "id of this proxy, unique in the fleet")
	fs.StringVar(&c.Service, "service", c.Service, "the service that calls through this agent")
	fs.StringVar(&c.Namespace, "namespace", c.Namespace, "namespace of the service")
	fs.StringVar(&c.ListenAdmin, "listen-admin", c.ListenAdmin, "address for statistics and health")
	fs.StringVar(&c.ListenOutbound, "listen-outbound", c.ListenOutbound, "address that applications call, as IP:PORT; none beside a proxy that uses --relay")
	fs.BoolVar(&c.Edge, "edge", c.Edge, "callers of --listen-outbound are outside: what they say of their deadline is dropped")
	fs.BoolVar(&c.InsecureListen, "insecure-listen", c.InsecureListen, "allow --listen-outbound beyond loopback though there is neither TLS nor authentication")
	fs.StringVar(&c.Relay, "relay", c.Relay, "address where a local Envoy or gRPC program gets its xDS, as HOST:PORT on loopback or unix:PATH")
	fs.StringVar(&c.StateDir, "state-dir", c.StateDir, "directory of the last known good configuration; '' keeps none")
	fs.DurationVar(&c.DrainDelay, "drain-delay", c.DrainDelay, "how long at an orderly stop new connections are still accepted, for those who watch /readyz to go elsewhere")
	fs.DurationVar(&c.DrainTimeout, "drain-timeout", c.DrainTimeout, "how long requests under way may take at an orderly stop")
	fs.StringVar(&c.AccessLog, "access-log", c.AccessLog, "write a JSON line for every request to this file, or to the standard output for - or stdout")
	c.Advertise.flags(fs)
	fs.StringVar(&c.LogLevel, "log-level", c.LogLevel, "trace, debug, info, warn, error or off")
	fs.BoolVar(&c.LogJSON, "log-json", c.LogJSON, "log JSON lines")
}

// nodeCluster is the caller, as the control plane reads it from the node's cluster.
func (c *Config) nodeCluster() string { return c.Service + "." + c.Namespace }
