package controlplane

import (
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v4"
)

// Config is everything that can be set: by flag, else by environment (BREAKWATER_LISTEN_XDS for --listen-xds), else by file (the
// flag's name without dashes in front), else the default.
type Config struct {
	DataDir string // of the embedded etcd

	// Addresses as host:port (":0" picks a port) or unix:PATH.
	ListenXDS, ListenAPI, ListenAdmin string
	InsecureListen                    bool // allow listening beyond loopback without TLS and authentication

	EtcdEndpoints                      []string // an external etcd; empty: embedded
	EtcdCA, EtcdCert, EtcdKey          string   // files
	EtcdUser, EtcdPasswordFile         string
	EtcdMaxTxnOps, EtcdMaxRequestBytes int  // limits of the external etcd
	EtcdUnsafeNoFsync                  bool // tests only
	LogLevel                           string
	LogJSON                            bool
	ShutdownTimeout                    time.Duration
}

// Defaults start everything on loopback with an embedded etcd in ./breakwater-data.
func Defaults() Config {
	return Config{
		DataDir:             "breakwater-data",
		ListenXDS:           "127.0.0.1:18000",
		ListenAPI:           "127.0.0.1:8080",
		ListenAdmin:         "127.0.0.1:8081",
		EtcdMaxTxnOps:       128,
		EtcdMaxRequestBytes: 3 << 19,
		LogLevel:            "info",
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
	fs.DurationVar(&c.ShutdownTimeout, "shutdown-timeout", c.ShutdownTimeout, "how long an orderly stop may take")
}

// EnvPrefix is in front of every environment variable.
const EnvPrefix = "BREAKWATER_"

// Complete fills in, for every flag not given on the command line, the environment's value or the file's. The file may be "".
func Complete(fs *pflag.FlagSet, file string, getenv func(string) string) error {
	values := map[string]fileValue{}
	if file != "" {
		var err error
		if values, err = readFile(fs, file); err != nil {
			return err
		}
	}
	var firstErr error
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Changed || firstErr != nil {
			return
		}
		env := EnvPrefix + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		if text := getenv(env); text != "" {
			if err := fs.Set(f.Name, text); err != nil {
				firstErr = fmt.Errorf("environment %s: %w", env, err)
			}
		} else if v, ok := values[f.Name]; ok {
			if err := fs.Set(f.Name, v.text); err != nil {
				firstErr = fmt.Errorf("%s:%d: %s: %w", file, v.line, f.Name, err)
			}
		}
	})
	return firstErr
}

type fileValue struct {
	text string
	line int
}

// readFile reads a YAML mapping from flag names to values; an unknown or repeated name is an error with its line.
func readFile(fs *pflag.FlagSet, path string) (map[string]fileValue, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("--config: %w", err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("--config %s: %w", path, err)
	}
	values := map[string]fileValue{}
	if len(doc.Content) == 0 {
		return values, nil
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s:%d: want a mapping from flag names to values", path, root.Line)
	}
	for i := 0; i < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		if fs.Lookup(key.Value) == nil {
			return nil, fmt.Errorf("%s:%d: %s: unknown setting; the names are those of the flags, such as listen-xds", path, key.Line, key.Value)
		}
		if _, twice := values[key.Value]; twice {
			return nil, fmt.Errorf("%s:%d: %s: set twice", path, key.Line, key.Value)
		}
		text, err := scalarOrList(value)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %s: %w", path, value.Line, key.Value, err)
		}
		values[key.Value] = fileValue{text, key.Line}
	}
	return values, nil
}

func scalarOrList(n *yaml.Node) (string, error) {
	switch n.Kind {
	case yaml.ScalarNode:
		return n.Value, nil
	case yaml.SequenceNode:
		items := make([]string, len(n.Content))
		for i, item := range n.Content {
			if item.Kind != yaml.ScalarNode {
				return "", fmt.Errorf("want a list of plain values")
			}
			items[i] = item.Value
		}
		return strings.Join(items, ","), nil
	}
	return "", fmt.Errorf("want a plain value or a list of them")
}

// Validate checks what can be checked before anything opens.
func (c *Config) Validate() error {
	for _, l := range []struct{ flag, address string }{
		{"--listen-xds", c.ListenXDS}, {"--listen-api", c.ListenAPI}, {"--listen-admin", c.ListenAdmin},
	} {
		if err := checkAddress(l.address, c.InsecureListen); err != nil {
			return fmt.Errorf("%s %s: %w", l.flag, l.address, err)
		}
	}
	if len(c.EtcdEndpoints) == 0 && c.DataDir == "" {
		return fmt.Errorf("--data-dir: must not be empty without --etcd-endpoints")
	}
	if (c.EtcdCert == "") != (c.EtcdKey == "") {
		return fmt.Errorf("--etcd-cert and --etcd-key: give both or none")
	}
	if c.EtcdMaxTxnOps < 8 {
		return fmt.Errorf("--etcd-max-txn-ops %d: must be at least 8", c.EtcdMaxTxnOps)
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
