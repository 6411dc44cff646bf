package integration_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/integration/harness"
)

// TestAgentSurvivesSlowHeads has many connections whose heads come byte by byte. Who takes a minute is cut off: seen in the long run.
func TestAgentSurvivesSlowHeads(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	m.service("payments", 2)
	m.apply(m.manifest("orders"))
	a := m.agent("orders")
	a.reaches("payments", 200)
	before := a.resident()
	stop := a.traffic("payments")
	slow := a.dial(choose(300, 2000))
	ended := 0
	for end := time.Now().Add(choose(time.Second, 70*time.Second)); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		ended = 0
		for i, c := range slow {
			if _, err := c.Write([]byte("GET / HTTP/1.1\r\nX-Slow: xxxxxxxxx"[i%30 : i%30+1])); err != nil {
				ended++
			}
		}
	}
	unharmed(t, stop())
	if grown := (a.resident() - before) * 1024 / float64(len(slow)); grown > 64 {
		t.Errorf("a slow connection costs %.0f KiB, want at most 64", grown)
	}
	if long() && ended < len(slow) {
		t.Errorf("%d of %d slow connections were ended after a minute, want all", ended, len(slow))
	}
}

// dial opens n connections to the agent, which end with the test.
func (l *local) dial(n int) []net.Conn {
	l.t.Helper()
	conns := make([]net.Conn, n)
	for i := range conns {
		c, err := net.DialTimeout("tcp", l.Outbound, patience)
		if err != nil {
			l.t.Fatal(err)
		}
		l.t.Cleanup(func() { _ = c.Close() })
		conns[i] = c
	}
	return conns
}

// TestAgentAndEnvoyBoundHeads compares what both say to heads that are too large.
func TestAgentAndEnvoyBoundHeads(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	host, err := harness.StartHost(0, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n, _ := strconv.Atoi(r.URL.Query().Get("head")); n > 0 {
			w.Header().Set("X-Large", strings.Repeat("x", n))
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(host.Close)
	m.hosts["payments"] = []*harness.Host{host}
	m.apply(m.manifest("payments"), m.manifest("orders"))
	a, e := m.agent("orders"), m.envoy("orders")
	a.reaches("payments", 200)
	e.reaches("payments", 200)
	many := strings.Builder{}
	for i := range 2000 {
		fmt.Fprintf(&many, "X-%d: x\r\n", i)
	}
	for name, tt := range map[string]struct {
		path, fields string
		want         int
	}{
		"a header of 1 MiB":          {"/", "X-Large: " + strings.Repeat("x", 1<<20) + "\r\n", 431},
		"a path of 1 MiB":            {"/" + strings.Repeat("x", 1<<20), "", 431},
		"2,000 headers":              {"/", many.String(), 431},
		"a response head of 100 KiB": {"/?head=102400", "", 200},
		"a response head of 2 MiB":   {"/?head=2097152", "", 502},
		"a header of 1,000 KiB":      {"/", "X-Large: " + strings.Repeat("x", 1000<<10) + "\r\n", 200},
		"nothing out of the usual":   {"/", "X-Usual: yes\r\n", 200},
	} {
		request := "GET " + tt.path + " HTTP/1.1\r\nHost: payments\r\n" + tt.fields + "\r\n"
		got, want := rawStatus(t, a.Outbound, request), rawStatus(t, e.Outbound, request)
		if got != want || want != tt.want {
			t.Errorf("%s: the agent says %d, Envoy %d, want %d of both", name, got, want, tt.want)
		}
	}
	a.reaches("payments", 200)
}

// rawStatus sends a request as it stands and returns the status of the answer.
func rawStatus(t *testing.T, address, request string) int {
	t.Helper()
	c, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	go func() { _, _ = io.WriteString(c, request) }() // which may be cut off
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Errorf("%.30q...: %v", request, err)
		return 0
	}
	return resp.StatusCode
}

// TestAgentWithFewFiles has more connections come than it may open files.
func TestAgentWithFewFiles(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	m.service("payments", 1)
	m.apply(m.manifest("orders"))
	a := m.agentWith(harness.AgentOptions{Before: []string{"prlimit", "--nofile=128", "--"}})
	a.reaches("payments", 200) // over a connection that stays
	crowd := a.dial(300)
	time.Sleep(200 * time.Millisecond)
	cpu, err := harness.CPUTime(a.Pid())
	if err != nil {
		t.Fatal(err)
	}
	const watched = time.Second
	time.Sleep(watched)
	if call := a.Get("payments", "/"); call.Status != 200 {
		t.Errorf("over a connection from before: %d %v, want 200", call.Status, call.Err)
	}
	after, err := harness.CPUTime(a.Pid())
	if err != nil {
		t.Fatal(err)
	}
	if used := after - cpu; used > watched/4 {
		t.Errorf("it used %v of CPU in %v while it could not accept", used, watched)
	}
	for _, c := range crowd {
		_ = c.Close()
	}
	fresh := harness.NewClient(a.Outbound, 5*time.Second)
	eventually(t, func() error {
		if call := fresh.Get("payments", "/"); call.Status != 200 {
			return fmt.Errorf("after the crowd has left: %d %v", call.Status, call.Err)
		}
		return nil
	})
}

// TestAgentWithAFullDisk keeps its state on a file system of 64 KiB that is full. Nobody else sees its mount; who isn't root is root there.
func TestAgentWithAFullDisk(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	m.service("payments", 1)
	m.apply(m.manifest("orders"))
	first := m.agent("orders")
	first.reaches("payments", 200)
	sound := first.saved(1)[0]
	first.Kill()
	saved, err := os.ReadFile(sound)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	script := `mount -t tmpfs -o size=64k none "$1" && cp "$2" "$1" && { cat /dev/zero > "$1/full" 2>/dev/null; shift 2; exec "$@"; }`
	a := m.agentWith(harness.AgentOptions{
		StateDir: dir, Outbound: first.Outbound, Before: []string{"unshare", "--map-root-user", "--mount", "--", "sh", "-c", script, "sh", dir, sound},
	})
	a.learns(m, "payments")
	eventually(t, func() error {
		if !strings.Contains(a.Log(), syscall.ENOSPC.Error()) {
			return errors.New("the log says nothing of the full disk")
		}
		return nil
	})
	kept, err := os.ReadFile(filepath.Join(fmt.Sprintf("/proc/%d/root", a.Pid()), dir, filepath.Base(sound)))
	if err != nil || !bytes.Equal(kept, saved) {
		t.Errorf("the file from before has %d bytes (%v), want the same %d", len(kept), err, len(saved))
	}
}
