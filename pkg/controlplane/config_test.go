package controlplane

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/pflag"

	"github.com/breakwater-mesh/breakwater/internal/testkit/pki"
	"github.com/breakwater-mesh/breakwater/internal/testkit/ports"
	"github.com/breakwater-mesh/breakwater/pkg/settings"
)

// settle reads arguments, environment and file (nil: none) the way the program does.
func settle(t *testing.T, args []string, env map[string]string, file *string) (Config, error) {
	t.Helper()
	path := ""
	if file != nil {
		path = filepath.Join(t.TempDir(), "breakwater.yaml")
		if err := os.WriteFile(path, []byte(*file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := Defaults()
	fs := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	c.Flags(fs)
	fs.String("config", "", "as the command has it")
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	err := settings.Complete(fs, EnvPrefix, path, func(name string) string { return env[name] })
	return c, err
}

func TestFlagsOverEnvironmentOverFileOverDefaults(t *testing.T) {
	file := "data-dir: file\nlisten-xds: 127.0.0.1:1\nlisten-api: 127.0.0.1:1\nshutdown-timeout: 1s\nlog-json: true\n"
	env := map[string]string{"BREAKWATER_LISTEN_XDS": "127.0.0.1:2", "BREAKWATER_LISTEN_API": "127.0.0.1:2", "BREAKWATER_LOG_LEVEL": ""}
	got, err := settle(t, []string{"--listen-api", "127.0.0.1:3"}, env, &file)
	if err != nil {
		t.Fatal(err)
	}
	want := Defaults()
	want.DataDir, want.ShutdownTimeout, want.LogJSON = "file", time.Second, true
	want.ListenXDS = "127.0.0.1:2"
	want.ListenAPI = "127.0.0.1:3"
	if text, wanted := describe(got), describe(want); text != wanted {
		t.Errorf("got  %s\nwant %s", text, wanted)
	}
}

// describe is every setting as its flag shows it.
func describe(c Config) string {
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	c.Flags(fs)
	var list []string
	fs.VisitAll(func(f *pflag.Flag) { list = append(list, f.Name+"="+f.Value.String()) })
	return strings.Join(list, " ")
}

func TestAFlagEqualToItsDefaultStillWins(t *testing.T) {
	got, err := settle(t, []string{"--log-level", "info"}, map[string]string{"BREAKWATER_LOG_LEVEL": "trace"}, nil)
	if err != nil || got.LogLevel != "info" {
		t.Errorf("log level %q, %v; want info", got.LogLevel, err)
	}
}

func TestListValues(t *testing.T) {
	want := []string{"http://a:1", "http://b:2"}
	inLine, listed := "etcd-endpoints: http://a:1,http://b:2\n", "etcd-endpoints:\n  - http://a:1\n  - http://b:2\n"
	for name, read := range map[string]func() (Config, error){
		"flag": func() (Config, error) {
			return settle(t, []string{"--etcd-endpoints", "http://a:1,http://b:2"}, nil, nil)
		},
		"flag, twice": func() (Config, error) {
			return settle(t, []string{"--etcd-endpoints", "http://a:1", "--etcd-endpoints", "http://b:2"}, nil, nil)
		},
		"environment": func() (Config, error) {
			return settle(t, nil, map[string]string{"BREAKWATER_ETCD_ENDPOINTS": "http://a:1,http://b:2"}, nil)
		},
		"file, one line": func() (Config, error) { return settle(t, nil, nil, &inLine) },
		"file, a list":   func() (Config, error) { return settle(t, nil, nil, &listed) },
	} {
		if got, err := read(); err != nil || !slices.Equal(got.EtcdEndpoints, want) {
			t.Errorf("%s: %q, %v; want %q", name, got.EtcdEndpoints, err, want)
		}
	}
}

func TestWrongSettingsAreNamed(t *testing.T) {
	for name, tt := range map[string]struct {
		file string
		env  map[string]string
		want []string // parts of the error
	}{
		"unknown key":         {"# a comment\nlog-json: true\nlisten-http: :80\n", nil, []string{"breakwater.yaml:3: listen-http: unknown setting"}},
		"another case":        {"Log-Json: true\n", nil, []string{"breakwater.yaml:1: Log-Json: unknown setting"}},
		"the file's own flag": {"config: other.yaml\n", nil, []string{"breakwater.yaml:1: config: unknown setting"}},
		"twice":               {"log-json: true\nlog-json: false\n", nil, []string{"log-json"}},
		"wrong boolean":       {"\nlog-json: perhaps\n", nil, []string{"breakwater.yaml:2: log-json: ", `"perhaps"`}},
		"wrong duration":      {"shutdown-timeout: 5\n", nil, []string{"breakwater.yaml:1: shutdown-timeout: ", `"5"`}},
		"a mapping":           {"listen-xds: {port: 1}\n", nil, []string{"breakwater.yaml:1: listen-xds: want a plain value or a list"}},
		"a list of mappings":  {"etcd-endpoints:\n  - {a: b}\n", nil, []string{"breakwater.yaml:2: etcd-endpoints: want a list of plain values"}},
		"no mapping":          {"- log-json\n", nil, []string{"breakwater.yaml:1: want a mapping"}},
		"a list for one":      {"log-level: [info]\n", nil, []string{"breakwater.yaml:1: log-level: want a plain value"}},
		"two documents":       {"log-json: true\n---\nlog-json: true\n", nil, []string{"--config", "want one document"}},
		"all at once":         {"a: 1\nlog-json: true\nb: 2\n", nil, []string{"breakwater.yaml:1: a: unknown", "breakwater.yaml:3: b: unknown"}},
		"no YAML":             {"log-json: [\n", nil, []string{"--config", "breakwater.yaml"}},
		"environment":         {"log-json: true\n", map[string]string{"BREAKWATER_ETCD_MAX_TXN_OPS": "many"}, []string{"BREAKWATER_ETCD_MAX_TXN_OPS", `"many"`}},
	} {
		_, err := settle(t, nil, tt.env, &tt.file)
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		for _, part := range tt.want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: error %q, want it to have %q", name, err, part)
			}
		}
	}
}

func TestAMissingFileIsNamed(t *testing.T) {
	c := Defaults()
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	c.Flags(fs)
	err := settings.Complete(fs, EnvPrefix, filepath.Join(t.TempDir(), "absent.yaml"), func(string) string { return "" })
	if err == nil || !strings.Contains(err.Error(), "--config") || !strings.Contains(err.Error(), "absent.yaml") {
		t.Errorf("error %v, want one that names --config and the file", err)
	}
}

func TestAnEmptyFileSaysNothing(t *testing.T) {
	for _, file := range []string{"", "# nothing\n", "{}\n"} {
		if got, err := settle(t, nil, nil, &file); err != nil || describe(got) != describe(Defaults()) {
			t.Errorf("file %q: %v, %s", file, err, describe(got))
		}
	}
}

func TestListeningBeyondLoopbackIsRefused(t *testing.T) {
	for address, allowed := range map[string]bool{
		"127.0.0.1:1": true, "127.8.9.10:1": true, "[::1]:1": true, "localhost:0": true, "unix:/run/breakwater.sock": true,
		"0.0.0.0:1": false, "[::]:1": false, ":1": false, ":0": false, "10.0.0.1:1": false, "example.com:1": false,
	} {
		for flag, set := range map[string]func(*Config){
			"--listen-xds":   func(c *Config) { c.ListenXDS = address },
			"--listen-api":   func(c *Config) { c.ListenAPI = address },
			"--listen-admin": func(c *Config) { c.ListenAdmin = address },
		} {
			c := Defaults()
			set(&c)
			err := c.Validate()
			if allowed != (err == nil) {
				t.Errorf("%s %s: error %v, allowed %v", flag, address, err, allowed)
			}
			if err != nil && (!strings.Contains(err.Error(), flag+" "+address) || !strings.Contains(err.Error(), "--insecure-listen")) {
				t.Errorf("error %q, want it to name %s, the address and --insecure-listen", err, flag)
			}
			c.InsecureListen = true
			if err := c.Validate(); err != nil {
				t.Errorf("%s %s with --insecure-listen: %v", flag, address, err)
			}
		}
	}
}

func TestInvalidSettingsNameTheirFlag(t *testing.T) {
	for flag, set := range map[string]func(*Config){
		"--listen-xds 127.0.0.1":     func(c *Config) { c.ListenXDS, c.InsecureListen = "127.0.0.1", true },
		"--listen-api unix:":         func(c *Config) { c.ListenAPI = "unix:" },
		"--data-dir":                 func(c *Config) { c.DataDir = "" },
		"--etcd-cert":                func(c *Config) { c.EtcdEndpoints, c.EtcdKey = []string{"a:1"}, "key.pem" },
		"--etcd-key":                 func(c *Config) { c.EtcdEndpoints, c.EtcdCert = []string{"a:1"}, "cert.pem" },
		"without --etcd-endpoints":   func(c *Config) { c.EtcdUser = "root" },
		"--etcd-endpoints ftp://a:1": func(c *Config) { c.EtcdEndpoints = []string{"ftp://a:1"} },
		"--etcd-endpoints a":         func(c *Config) { c.EtcdEndpoints = []string{"http://b:1", "a"} },
		"--etcd-user and --etcd-password-file: give both": func(c *Config) { c.EtcdEndpoints, c.EtcdUser = []string{"a:1"}, "bw" },
		"--etcd-password-file: give both":                 func(c *Config) { c.EtcdEndpoints, c.EtcdPasswordFile = []string{"a:1"}, "secret" },
		"--etcd-endpoints http://a:1: --etcd-ca":          func(c *Config) { c.EtcdEndpoints, c.EtcdCA = []string{"http://a:1"}, "ca.pem" },
		"--etcd-endpoints https://a:1,b:1: want https":    func(c *Config) { c.EtcdEndpoints = []string{"https://a:1", "b:1"} },
		"--etcd-max-request-bytes 10":                     func(c *Config) { c.EtcdMaxRequestBytes = 10 },

		"--shutdown-timeout": func(c *Config) { c.ShutdownTimeout = 0 },
		"--etcd-max-txn-ops": func(c *Config) { c.EtcdMaxTxnOps = 7 },
		"--replica-lease":    func(c *Config) { c.ReplicaLease = time.Second },

		"--advertise-api-address cp":           func(c *Config) { c.AdvertiseAPI = "cp" },
		"--advertise-api-address cp:0":         func(c *Config) { c.AdvertiseAPI = "cp:0" },
		"--advertise-api-address unix:sock":    func(c *Config) { c.AdvertiseAPI = "unix:sock" },
		"--advertise-api-address 0.0.0.0:8080": func(c *Config) { c.AdvertiseAPI = "0.0.0.0:8080" },
	} {
		c := Defaults()
		set(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("error %v, want one that names %s", err, flag)
		}
	}
	c := Defaults()
	c.DataDir, c.EtcdEndpoints = "", []string{"http://127.0.0.1:2379"}
	if err := c.Validate(); err != nil {
		t.Errorf("an external etcd needs no data directory: %v", err)
	}
	if d := Defaults(); d.Validate() != nil {
		t.Errorf("the defaults are invalid: %v", d.Validate())
	}
}

func TestFilesForEtcdThatAreWrongNameTheirFlag(t *testing.T) {
	authority := pki.NewAuthority(t)
	pair, other := authority.Issue(t, "a"), authority.Issue(t, "b")
	dir := t.TempDir()
	file := func(name, text string) string { return pki.Write(t, dir, name, text) }
	cert, empty := file("cert", pair.Chain), file("empty", "\n")
	for want, set := range map[string]func(*Config){
		"--etcd-ca /no/such/file: ":                                                  func(c *Config) { c.EtcdCA = "/no/such/file" },
		"--etcd-ca " + empty + ": no certificate":                                    func(c *Config) { c.EtcdCA = empty },
		"--etcd-cert " + cert + " and --etcd-key " + file("other", other.Key) + ": ": func(c *Config) { c.EtcdCert, c.EtcdKey = cert, file("other", other.Key) },
		"--etcd-password-file /no/such/file: ":                                       func(c *Config) { c.EtcdUser, c.EtcdPasswordFile = "bw", "/no/such/file" },
		"--etcd-password-file " + empty + ": ":                                       func(c *Config) { c.EtcdUser, c.EtcdPasswordFile = "bw", empty },
	} {
		c := Defaults()
		c.EtcdEndpoints = []string{"https://" + ports.Closed()}
		set(&c)
		if err := c.Validate(); err != nil {
			t.Errorf("%s: %v", want, err)
		}
		_, err := openStore(t.Context(), c, hclog.NewNullLogger())
		if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Count(err.Error(), "/no/such/file") > 1 {
			t.Errorf("error %q, want one that begins with %q, and the name once", err, want)
		}
	}
}
