package controlplane

import (
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/breakwater-mesh/breakwater/pkg/fleet"
)

// Config is everything that can be set: by flag, else by environment (BREAKWATER_LISTEN_XDS for --listen-xds), else by file (the
// flag's name without dashes in front), else the default.
type Config struct {
	DataDir string // of the embedded etcd

	// Addresses as host:port (port 0 picks one) or unix:PATH.
	ListenXDS, ListenAPI, ListenAdmin string
	InsecureListen                    bool     // allow listening beyond loopback without TLS and authentication
	AllowedHosts                      []string // names under which API and admin port may be asked, beside addresses and localhost

	AdvertiseAPI string        // where the other replicas reach the API; "": where it listens
	ReplicaLease time.Duration // how long the others count on this replica when it is silent

	EtcdEndpoints                      []string // an external etcd; empty: embedded
	EtcdCA, EtcdCert, EtcdKey          string   // files
	EtcdUser, EtcdPasswordFile         string
	EtcdMaxTxnOps, EtcdMaxRequestBytes int  // limits of the external etcd
	EtcdUnsafeNoFsync                  bool // tests only
	LogLevel                           string
	LogJSON                            bool
	DrainTime, ShutdownTimeout         time.Duration
}

// Defaults start everything on loopback with an embedded etcd in ./breakwater-data.
func Defaults() Config {
	return Config{
		DataDir:             "breakwater-data",
		ListenXDS:           "127.0.0.1:18000",
		ListenAPI:           "127.0.0.1:8080",
		ListenAdmin:         "127.0.0.1:8081",
		ReplicaLease:        fleet.DefaultLease,
		EtcdMaxTxnOps:       128,
		EtcdMaxRequestBytes: 3 << 19,
		LogLevel:            "info",
		DrainTime:           10 * time.Second,
		ShutdownTimeout:     10 * time.Second,
	}
}

// Flags declares every setting on fs, with c's present values as defaults.
func (c *Config) Flags(fs *pflag.FlagSet) {
	fs.StringVar(&c.DataDir, "data-dir", c.DataDir, "directory of the embedded etcd")
	fs.StringVar(&c.ListenXDS, "listen-xds", c.ListenXDS, "address for proxies: host:port or unix:PATH")
	fs.StringVar(&c.ListenAPI, "listen-api", c.ListenAPI, "address of the API")
	fs.StringVar(&c.ListenAdmin, "listen-admin", c.ListenAdmin, "address for health, metrics and pprof")
	fs.BoolVar(&c.InsecureListen, "insecure-listen", c.InsecureListen, "allow addresses beyond loopback though there is neither TLS nor authentication")
	fs.StringSliceVar(&c.AllowedHosts, "allowed-hosts", c.AllowedHosts, "names under which the API and the admin port may be asked, beside addresses and localhost")
	fs.StringVar(&c.AdvertiseAPI, "advertise-api-address", c.AdvertiseAPI, "where the other control planes over the same etcd reach the API: host:port or unix:PATH; without it where --listen-api listens, and for 0.0.0.0 the address with which this machine goes to etcd")
	fs.DurationVar(&c.ReplicaLease, "replica-lease", c.ReplicaLease, "how long the other control planes count on this one when it is silent")
	fs.StringSliceVar(&c.EtcdEndpoints, "etcd-endpoints", c.EtcdEndpoints, "an external etcd, as URLs; without it etcd is embedded")
	fs.StringVar(&c.EtcdCA, "etcd-ca", c.EtcdCA, "file with the CA of the external etcd")
	fs.StringVar(&c.EtcdCert, "etcd-cert", c.EtcdCert, "file with the client certificate for the external etcd")
	fs.StringVar(&c.EtcdKey, "etcd-key", c.EtcdKey, "file with the key of --etcd-cert")
	fs.StringVar(&c.EtcdUser, "etcd-user", c.EtcdUser, "user at the external etcd")
	fs.StringVar(&c.EtcdPasswordFile, "etcd-password-file", c.EtcdPasswordFile, "file with the password of --etcd-user")
	fs.IntVar(&c.EtcdMaxTxnOps, "etcd-max-txn-ops", c.EtcdMaxTxnOps, "what the external etcd's --max-txn-ops says")
	fs.IntVar(&c.EtcdMaxRequestBytes, "etcd-max-request-bytes", c.EtcdMaxRequestBytes, "what the external etcd's --max-request-bytes says")
	fs.BoolVar(&c.EtcdUnsafeNoFsync, "etcd-unsafe-no-fsync", c.EtcdUnsafeNoFsync, "the embedded etcd loses writes when the machine fails: tests only")
	_ = fs.MarkHidden("etcd-unsafe-no-fsync")
	fs.StringVar(&c.LogLevel, "log-level", c.LogLevel, "trace, debug, info, warn, error or off")
	fs.BoolVar(&c.LogJSON, "log-json", c.LogJSON, "log JSON lines")
	fs.DurationVar(&c.DrainTime, "drain-time", c.DrainTime, "how long at an orderly stop proxies are sent to the other replicas, one by one, while the API still answers; none with an embedded etcd")
	fs.DurationVar(&c.ShutdownTimeout, "shutdown-timeout", c.ShutdownTimeout, "how long an orderly stop may take after that")
}

// drain is for how long proxies are handed over at a stop. Beside an embedded etcd there is no other replica.
func (c *Config) drain() time.Duration {
	if len(c.EtcdEndpoints) == 0 {
		return 0
	}
	return c.DrainTime
}

// EnvPrefix is in front of every environment variable.
const EnvPrefix = "BREAKWATER_"

// Validate checks what can be checked before anything opens.
func (c *Config) Validate() error {
	for _, l := range []struct{ flag, address string }{
		{"--listen-xds", c.ListenXDS}, {"--listen-api", c.ListenAPI}, {"--listen-admin", c.ListenAdmin},
	} {
		if err := checkAddress(l.address, c.InsecureListen); err != nil {
			return fmt.Errorf("%s %s: %w", l.flag, l.address, err)
		}
	}
	if err := c.checkEtcd(); err != nil {
		return err
	}
	if c.DrainTime < 0 {
		return fmt.Errorf("--drain-time %v: must be 0 or more", c.DrainTime)
	}
	if err := c.checkAdvertised(); err != nil {
		return err
	}
	if c.ShutdownTimeout <= 0 {
		return fmt.Errorf("--shutdown-timeout %v: must be more than 0", c.ShutdownTimeout)
	}
	return nil
}

// minRequestBytes is little more than the smallest write.
const minRequestBytes = 64 << 10

func (c *Config) checkEtcd() error {
	if len(c.EtcdEndpoints) == 0 {
		if c.DataDir == "" {
			return fmt.Errorf("--data-dir: must not be empty without --etcd-endpoints")
		}
		if (c.EtcdCA + c.EtcdCert + c.EtcdKey + c.EtcdUser + c.EtcdPasswordFile) != "" {
			return fmt.Errorf("--etcd-ca, --etcd-cert, --etcd-key, --etcd-user and --etcd-password-file: of no use without --etcd-endpoints")
		}
	}
	if err := c.checkEndpoints(); err != nil {
		return err
	}
	if (c.EtcdCert == "") != (c.EtcdKey == "") {
		return fmt.Errorf("--etcd-cert and --etcd-key: give both or none")
	}
	if (c.EtcdUser == "") != (c.EtcdPasswordFile == "") {
		return fmt.Errorf("--etcd-user and --etcd-password-file: give both or none")
	}
	if c.EtcdMaxTxnOps < 8 {
		return fmt.Errorf("--etcd-max-txn-ops %d: must be at least 8", c.EtcdMaxTxnOps)
	}
	if c.EtcdMaxRequestBytes < minRequestBytes {
		return fmt.Errorf("--etcd-max-request-bytes %d: must be at least %d", c.EtcdMaxRequestBytes, minRequestBytes)
	}
	return nil
}

// checkEndpoints makes sure that all are asked in the same way: with TLS or without, etcd's client does as the first says.
func (c *Config) checkEndpoints() error {
	secure := 0
	for _, endpoint := range c.EtcdEndpoints {
		if err := checkEndpoint(endpoint); err != nil {
			return fmt.Errorf("--etcd-endpoints %s: %w", endpoint, err)
		}
		if strings.HasPrefix(endpoint, "http://") && c.EtcdCA+c.EtcdCert != "" {
			return fmt.Errorf("--etcd-endpoints %s: --etcd-ca and --etcd-cert want https://", endpoint)
		}
		if strings.HasPrefix(endpoint, "https://") {
			secure++
		}
	}
	if secure > 0 && secure < len(c.EtcdEndpoints) {
		return fmt.Errorf("--etcd-endpoints %s: want https:// before all or none", strings.Join(c.EtcdEndpoints, ","))
	}
	return nil
}

// minReplicaLease is what etcd makes of any shorter lease.
const minReplicaLease = 2 * time.Second

func (c *Config) checkAdvertised() error {
	if c.ReplicaLease < minReplicaLease {
		return fmt.Errorf("--replica-lease %v: must be at least %v", c.ReplicaLease, minReplicaLease)
	}
	if c.AdvertiseAPI == "" || strings.HasPrefix(c.AdvertiseAPI, "unix:/") {
		return nil
	}
	host, port, err := net.SplitHostPort(c.AdvertiseAPI)
	if err != nil || host == "" || host == "unix" || port == "" || port == "0" {
		return fmt.Errorf("--advertise-api-address %s: want host:port or unix:PATH, with an absolute path", c.AdvertiseAPI)
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		return fmt.Errorf("--advertise-api-address %s: nobody can reach %s; name an address of this machine", c.AdvertiseAPI, host)
	}
	return nil
}

// checkEndpoint takes host:port or a URL of a scheme that etcd's client knows.
func checkEndpoint(endpoint string) error {
	scheme, rest, url := strings.Cut(endpoint, "://")
	if !url {
		rest = endpoint
	} else if scheme == "unix" {
		return nil
	} else if scheme != "http" && scheme != "https" {
		return fmt.Errorf("want http://HOST:PORT, https://HOST:PORT or HOST:PORT")
	}
	if _, _, err := net.SplitHostPort(rest); err != nil {
		return fmt.Errorf("want http://HOST:PORT, https://HOST:PORT or HOST:PORT")
	}
	return nil
}

func checkAddress(address string, insecure bool) error {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		if path == "" {
			return fmt.Errorf("want unix:PATH")
		}
		return nil
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("want host:port or unix:PATH")
	}
	if insecure || host == "localhost" {
		return nil
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("listening beyond loopback needs TLS and authentication; --insecure-listen allows it without")
	}
	return nil
}
