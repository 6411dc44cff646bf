package agent

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/unit"
	"github.com/hashicorp/go-hclog"
)

// options are those of a unit file, by section and name.
func options(t *testing.T, file string) map[string]string {
	t.Helper()
	f, err := os.Open(filepath.Join("..", "..", "deploy", file))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	list, err := unit.DeserializeOptions(f)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, o := range list {
		all[o.Section+"."+o.Name] = o.Value
	}
	return all
}

// TestTheUnitFits holds the unit file against the program's flags and defaults.
func TestTheUnitFits(t *testing.T) {
	o := options(t, "breakwater-agent.service")
	args := strings.Fields(o["Service.ExecStart"])
	cmd := Command(nil)
	if err := cmd.ParseFlags(args[1:]); err != nil {
		t.Errorf("ExecStart: %v", err)
	}
	if got := cmd.Flag("state-dir").Value.String(); got != "/var/lib/"+o["Service.StateDirectory"] {
		t.Errorf("--state-dir %s is not StateDirectory=%s", got, o["Service.StateDirectory"])
	}
	stop, err := time.ParseDuration(o["Service.TimeoutStopSec"] + "s")
	if drain := Defaults().DrainDelay + Defaults().DrainTimeout; err != nil || stop <= drain+propagation {
		t.Errorf("TimeoutStopSec=%v %v, want more than a drain's %v", stop, err, drain)
	}
	for name, want := range map[string]string{"Type": "notify", "WatchdogSec": "30", "Restart": "on-failure", "RestartPreventExitStatus": "2", "DynamicUser": "yes"} {
		if got := o["Service."+name]; got != want {
			t.Errorf("%s=%s, want %s", name, got, want)
		}
	}
	for _, unit := range []string{"breakwater-agent.service", "breakwater.service"} {
		if o := options(t, unit); o["Unit.StartLimitIntervalSec"] != "0" || o["Service.RestartPreventExitStatus"] != "2" {
			t.Errorf("%s may give up, or begins again where the settings are wrong: %v", unit, o)
		}
	}
	if got := options(t, "breakwater-agent.socket")["Socket.ListenStream"]; got != Defaults().ListenOutbound {
		t.Errorf("the socket is at %s, want %s", got, Defaults().ListenOutbound)
	}
	if path, err := exec.LookPath("systemd-analyze"); err == nil {
		out, err := exec.Command(path, "verify", "--man=no", "../../deploy/breakwater-agent.service").CombinedOutput()
		if text := strings.ReplaceAll(string(out), "Command /usr/local/bin/breakwater-agent is not executable", ""); err != nil && strings.Contains(text, "Unknown") {
			t.Errorf("systemd-analyze: %v %s", err, out)
		}
	}
}

// TestTheWatchdogIsToldOnlyOfAProcessThatWorks has an agent whose configuration is stuck, and an admin port that does not answer.
func TestTheWatchdogIsToldOnlyOfAProcessThatWorks(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	go func() { _ = server.Serve(listener) }()
	address := listener.Addr().String()
	a := &agent{log: hclog.NewNullLogger()}
	if err := a.probe(t.Context(), address, time.Minute); err != nil {
		t.Errorf("of an agent that works: %v", err)
	}
	a.mu.Lock()
	if err := a.probe(t.Context(), address, 10*time.Millisecond); err == nil || !strings.Contains(err.Error(), "coming into force") {
		t.Errorf("of an agent that is stuck: %v", err)
	}
	a.mu.Unlock()
	_ = server.Close()
	if err := a.probe(t.Context(), address, time.Minute); err == nil {
		t.Error("of an agent that does not answer: all is well")
	}
}

// manager is a service manager's socket; told is what comes there.
func manager(t *testing.T) (told func() string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = socket.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return func() string {
		buf := make([]byte, 1024)
		_ = socket.SetReadDeadline(time.Now().Add(10 * time.Second))
		n, err := socket.Read(buf)
		if err != nil {
			return err.Error()
		}
		return string(buf[:n])
	}
}

// TestTheServiceManagerIsTold is told of a relay's agent, which is ready at once.
func TestTheServiceManagerIsTold(t *testing.T) {
	told := manager(t)
	t.Setenv("WATCHDOG_USEC", "300000")
	c := Defaults()
	c.XDS, c.ListenOutbound, c.Relay, c.ListenAdmin, c.StateDir = []string{"127.0.0.1:1"}, noOutbound, "127.0.0.1:0", "127.0.0.1:0", ""
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- Run(ctx, c, hclog.NewNullLogger()) }()
	seen := map[string]int{}
	for seen["READY=1"] == 0 || seen["WATCHDOG=1"] < 2 {
		word := told()
		if seen[word]++; word != "READY=1" && word != "WATCHDOG=1" {
			t.Fatalf("told %q", word)
		}
	}
	if seen["READY=1"] != 1 {
		t.Errorf("told %d times that it is ready", seen["READY=1"])
	}
	cancel()
	word := told()
	for word == "WATCHDOG=1" {
		word = told()
	}
	if word != "STOPPING=1" {
		t.Errorf("told %q at the end, want STOPPING=1", word)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestTheWatchdogIsFedWhileDraining is told of the stop first, and then goes on.
func TestTheWatchdogIsFedWhileDraining(t *testing.T) {
	told := manager(t)
	t.Setenv("WATCHDOG_USEC", "60000")
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	a, drained, done := &agent{log: hclog.NewNullLogger()}, make(chan struct{}), make(chan struct{})
	a.draining.Store(true)
	go func() {
		a.notify(ctx, drained, server.Listener.Addr().String())
		close(done)
	}()
	for _, want := range []string{"STOPPING=1", "WATCHDOG=1", "WATCHDOG=1"} {
		if got := told(); got != want {
			t.Errorf("told %q, want %q", got, want)
		}
	}
	close(drained)
	<-done
}

// TestASocketThatNothingTakes is closed and named, and one that is in use stays.
func TestASocketThatNothingTakes(t *testing.T) {
	var log bytes.Buffer
	a := &agent{log: hclog.New(&hclog.LoggerOptions{Output: &log}), inherited: map[string]*socket{}}
	var addresses [2]string
	for i := range addresses {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		addresses[i] = l.Addr().String()
		a.inherited[addresses[i]] = &socket{file: f}
		_ = l.Close()
	}
	l, err := a.listen(addresses[0])
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a.closeUnused()
	for i, open := range []bool{true, false} {
		c, err := net.Dial("tcp", addresses[i])
		if (err == nil) != open {
			t.Errorf("socket %d is open: %v, want %v", i, err == nil, open)
		}
		if err == nil {
			_ = c.Close()
		}
	}
	_ = a.inherited[addresses[0]].file.Close()
	if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "address="+addresses[1]) {
		t.Errorf("logged %s, want the address of the second", text)
	}
}
