package integration_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/integration/harness"
	"github.com/breakwater-mesh/breakwater/internal/testkit/program"
)

// agentWith starts the agent of shop/orders with more arguments, or by a command of its own.
func (m *mesh) agentWith(o harness.AgentOptions) *local {
	m.t.Helper()
	path, err := agentBinary()
	if err != nil {
		m.t.Fatal(err)
	}
	o.Binary, o.Namespace, o.Service = path, "shop", "orders"
	if o.XDS == "" {
		o.XDS = m.cp.XDS
	}
	if o.StateDir == "" {
		o.StateDir = filepath.Join(m.t.TempDir(), "state")
	}
	a, err := harness.StartAgent(within(m.t, patience), o)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() {
		a.Kill()
		if m.t.Failed() {
			m.t.Logf("the agent said:\n%s", lastLines(a.Log(), 40))
		}
	})
	return &local{Agent: a, Client: harness.NewClient(a.Outbound, 30*time.Second), t: m.t}
}

// shop has one host behind payments, and orders that calls it.
func shop(t *testing.T) (*mesh, *harness.Host) {
	t.Helper()
	m := newMesh(t)
	host := m.service("payments", 1)[0]
	m.apply(m.manifest("orders"))
	return m, host
}

// saved waits until the agent has its configuration on disk.
func saved(t *testing.T, a *local) {
	t.Helper()
	eventually(t, func() error {
		files, err := filepath.Glob(filepath.Join(a.StateDir, "config.lkg"))
		if err == nil && len(files) == 0 {
			err = fmt.Errorf("no configuration in %s yet", a.StateDir)
		}
		return err
	})
}

// TestAgentServesFromDiskWithinASecond has a control plane that is never there again.
func TestAgentServesFromDiskWithinASecond(t *testing.T) {
	m, _ := shop(t)
	a := m.agent("orders")
	a.reaches("payments", 200)
	saved(t, a)
	a.Kill()
	m.cp.Kill()
	best := time.Hour // the machine may be busy with other things
	for range 3 {
		begun := time.Now()
		if err := a.Start(within(t, patience)); err != nil {
			t.Fatal(err)
		}
		if call := a.Get("payments", "/"); call.Status != 200 {
			t.Fatalf("from disk: %d %v", call.Status, call.Err)
		}
		best = min(best, time.Since(begun))
		if best < time.Second {
			break
		}
		a.Kill()
	}
	t.Logf("the first answer came %v after the start", best)
	if best > time.Second {
		t.Errorf("the first answer came %v after the start, want within 1 s", best)
	}
	eventually(t, func() error { // seconds
		if a.stat("config.age_seconds") < 1 {
			return fmt.Errorf("the configuration has no age")
		}
		return nil
	})
	for page, want := range map[string]string{
		"/readyz": "ready: configuration from disk, ", "/status": `"source": "disk"`, "/stats?filter=connected_state": "control_plane.connected_state: 0",
	} {
		if text, err := a.Page(page); err != nil || !strings.Contains(text, want) {
			t.Errorf("%s says %q %v, want %q", page, text, err, want)
		}
	}
	if log := a.Log(); !strings.Contains(log, "serving the configuration that was saved: age=") {
		t.Errorf("the log does not say how old the configuration is:\n%s", log)
	}
}

// TestAgentStartsFromTheFileOfBwctl goes from one program to the other.
func TestAgentStartsFromTheFileOfBwctl(t *testing.T) {
	t.Parallel()
	m, _ := shop(t)
	bwctl, err := program.Build("./cmd/bwctl")
	if err != nil {
		t.Fatal(err)
	}
	agent, err := agentBinary()
	if err != nil {
		t.Fatal(err)
	}
	a := m.agentWith(harness.AgentOptions{Command: func(a *harness.Agent) *exec.Cmd {
		text, err := exec.Command(bwctl, "bootstrap", "agent", "--xds", m.cp.XDS, "-n", "shop", "--service", "orders", "--node-id", "orders-1",
			"--listen-admin", a.Admin, "--listen-outbound", a.Outbound, "--state-dir", a.StateDir).Output()
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "agent.yaml")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(agent, "--config", file, "--check").CombinedOutput(); err != nil {
			t.Errorf("--check: %v %s", err, out)
		}
		return exec.Command(agent, "--config", file)
	}})
	a.reaches("payments", 200)
	out, err := exec.Command(agent, "--config", "/nonexistent").CombinedOutput()
	if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 2 {
		t.Errorf("a file that is not there: %v %s, want exit code 2", err, out)
	}
}

// TestAgentWritesAnAccessLog over a rotation and to its end.
func TestAgentWritesAnAccessLog(t *testing.T) {
	t.Parallel()
	m, _ := shop(t)
	path := filepath.Join(t.TempDir(), "access.log")
	a := m.agentWith(harness.AgentOptions{Extra: []string{"--access-log", path}})
	a.reaches("payments", 200)
	a.Get("nobody", "/x")
	type line struct {
		Method, Path, Authority string
		Code                    int    `json:"response_code"`
		Flags                   string `json:"response_flags"`
		Cluster                 string `json:"upstream_cluster"`
	}
	read := func(file string) (list []line) {
		data, _ := os.ReadFile(file)
		for text := range strings.Lines(string(data)) {
			var l line
			if err := json.Unmarshal([]byte(text), &l); err != nil {
				t.Fatalf("%v in %q", err, text)
			}
			list = append(list, l)
		}
		return list
	}
	has := func(file string, want line) {
		t.Helper()
		eventually(t, func() error {
			list := read(file)
			if len(list) == 0 || list[len(list)-1] != want {
				return fmt.Errorf("%s has %+v, want %+v at the end", file, list, want)
			}
			return nil
		})
	}
	has(path, line{"GET", "/x", "nobody", 404, "NR", ""})
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	if err := a.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error { _, err := os.Stat(path); return err })
	a.Get("payments", "/y")
	if err := a.Stop(patience); err != nil {
		t.Error(err)
	}
	has(path, line{"GET", "/y", "payments", 200, "-", "shop/payments"})
}

// TestAgentLosesNoRequestAtSIGTERM has callers that send one request after the other on connections that they keep.
func TestAgentLosesNoRequestAtSIGTERM(t *testing.T) {
	t.Parallel()
	m, host := shop(t)
	a := m.agentWith(harness.AgentOptions{Extra: []string{"--drain-delay", "300ms"}})
	a.reaches("payments", 200)
	host.Set(harness.Behaviour{Delay: 2 * time.Millisecond})
	var callers sync.WaitGroup
	for range 16 {
		callers.Go(func() {
			client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}, Timeout: patience}
			defer client.CloseIdleConnections()
			for {
				request, _ := http.NewRequest("POST", "http://"+a.Outbound+"/", strings.NewReader("a body")) // not sent again by the client
				request.Host = "payments"
				response, err := client.Do(request)
				if err != nil {
					t.Errorf("a request was lost: %v", err)
					return
				}
				_ = response.Body.Close()
				if response.StatusCode != 200 {
					t.Errorf("a request got %d", response.StatusCode)
				}
				if response.Close {
					return // told to go elsewhere
				}
			}
		})
	}
	before := host.Requests()
	eventually(t, func() error {
		if host.Requests()-before < 200 {
			return fmt.Errorf("not under load yet")
		}
		return nil
	})
	if err := a.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error { // while new connections are still accepted
		if text, err := a.Page("/readyz"); err == nil || !strings.Contains(err.Error(), "draining") {
			return fmt.Errorf("/readyz says %q %v, want 503 draining", text, err)
		}
		return nil
	})
	callers.Wait()
	if err := a.Wait(patience); err != nil {
		t.Errorf("the end: %v", err)
	}
}

func TestASecondSIGTERMEndsTheAgentAtOnce(t *testing.T) {
	t.Parallel()
	m, host := shop(t)
	a := m.agent("orders")
	a.reaches("payments", 200)
	host.Set(harness.Behaviour{Hang: true})
	go a.Get("payments", "/")
	eventually(t, func() error {
		if host.Active() == 0 {
			return fmt.Errorf("not under way yet")
		}
		return nil
	})
	_ = a.Signal(syscall.SIGTERM)
	eventually(t, func() error {
		if !strings.Contains(a.Log(), "draining") {
			return fmt.Errorf("not draining yet")
		}
		return nil
	})
	begun := time.Now()
	_ = a.Signal(syscall.SIGTERM)
	if err := a.Wait(patience); err == nil || strings.Contains(err.Error(), "still runs") || time.Since(begun) > 10*time.Second {
		t.Errorf("ended with %v after %v, want by the signal at once", err, time.Since(begun))
	}
}

// TestAgentTakesItsPortFromTheServiceManager restarts while callers go on connecting: none is refused.
func TestAgentTakesItsPortFromTheServiceManager(t *testing.T) {
	t.Parallel()
	m, _ := shop(t)
	path, err := agentBinary()
	if err != nil {
		t.Fatal(err)
	}
	var socket *os.File
	a := m.agentWith(harness.AgentOptions{Command: func(a *harness.Agent) *exec.Cmd {
		if socket == nil {
			l, err := net.Listen("tcp", a.Outbound)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			if socket, err = l.(*net.TCPListener).File(); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=outbound exec "$@"`, "sh", path, "--xds", m.cp.XDS, "--namespace", "shop", "--service", "orders",
			"--node-id", "orders-1", "--listen-admin", a.Admin, "--listen-outbound", a.Outbound, "--state-dir", a.StateDir)
		cmd.ExtraFiles = []*os.File{socket}
		return cmd
	}})
	t.Cleanup(func() { _ = socket.Close() })
	a.reaches("payments", 200)
	saved(t, a)

	stop, failed, calls := make(chan struct{}), 0, 0
	var caller sync.WaitGroup
	caller.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			client := harness.NewClient(a.Outbound, patience)
			if call := client.Get("payments", "/"); call.Status != 200 {
				failed++
				t.Errorf("during the restart: %d %v", call.Status, call.Err)
			}
			calls++
		}
	})
	for range 3 {
		if err := a.Stop(patience); err != nil {
			t.Error(err)
		}
		if err := a.Start(within(t, patience)); err != nil {
			t.Fatal(err)
		}
		a.reaches("payments", 200)
	}
	close(stop)
	caller.Wait()
	t.Logf("%d of %d calls failed over 3 restarts", failed, calls)
}
