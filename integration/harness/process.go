// Package harness runs the real parts on loopback for tests, benches and the demo: the control plane, Envoy, upstream hosts, load.
package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Process is a child process and what it wrote.
type Process struct {
	cmd  *exec.Cmd
	log  *tail
	done chan struct{} // closed when it has ended
	err  error         // of Wait; read after done
}

// start runs name and keeps the last of what it writes to stderr and stdout.
func start(name string, args ...string) (*Process, error) { return Start(exec.Command(name, args...)) }

// Start is start of a command that has more to it than arguments.
func Start(cmd *exec.Cmd) (*Process, error) {
	p := &Process{cmd: cmd, log: &tail{limit: 1 << 20}, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // nothing outlives a killed test
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// Log is the last of what the process wrote.
func (p *Process) Log() string { return p.log.String() }

// Pid is the process's id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Kill ends the process with SIGKILL and waits for its end.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Signal sends sig.
func (p *Process) Signal(sig os.Signal) error { return p.cmd.Process.Signal(sig) }

// Stop asks the process to end and waits, at most for the timeout; then it is killed. It returns how the process ended.
func (p *Process) Stop(timeout time.Duration) error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return p.err
	case <-time.After(timeout):
		p.Kill()
		return fmt.Errorf("%s did not end within %v of SIGTERM", filepath.Base(p.cmd.Path), timeout)
	}
}

// Wait waits for the end of the process.
func (p *Process) Wait(timeout time.Duration) error {
	select {
	case <-p.done:
		return p.err
	case <-time.After(timeout):
		return fmt.Errorf("%s still runs after %v", filepath.Base(p.cmd.Path), timeout)
	}
}

// tail keeps the last limit bytes written to it.
type tail struct {
	mu    sync.Mutex
	buf   bytes.Buffer
	limit int
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if over := t.buf.Len() + len(p) - t.limit; over > 0 {
		t.buf.Next(over)
	}
	return t.buf.Write(p)
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.buf.String()
}

// Root is the root of the repository: the nearest parent of the working directory that holds go.mod.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
	}
	return "", errors.New("no go.mod above the working directory")
}

// Build compiles a program of the module into dir and returns its path. Pkg is such as "./cmd/controlplane".
func Build(dir, pkg string) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	out := filepath.Join(dir, filepath.Base(pkg))
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", out, pkg)
	cmd.Dir = root
	if msg, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", pkg, err, msg)
	}
	return out, nil
}

// given are the ports that FreePorts has returned: whoever asked may not have taken them yet.
var given sync.Map

// FreePorts are n free TCP ports, none of which it has returned before. They are below those that systems take for connections, so
// that nobody takes one before it is used.
func FreePorts(n int) ([]int, error) {
	const first, last = 10_000, 32_000
	ports := make([]int, 0, n)
	for tries := 0; len(ports) < n; tries++ {
		port := first + rand.IntN(last-first)
		if _, again := given.LoadOrStore(port, true); again && tries <= last-first {
			continue
		}
		l, err := net.Listen("tcp", Loopback(port))
		if err == nil {
			defer l.Close()
			ports = append(ports, port)
		} else if tries > last-first {
			return nil, err
		}
	}
	return ports, nil
}

// Loopback is 127.0.0.1:port.
func Loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// Poll calls f every few milliseconds until it returns nil, and gives its last error when ctx ends.
func Poll(ctx context.Context, f func() error) error {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-ticker.C:
		}
	}
}

// Run runs a program to its end, at most for the timeout, and returns what it wrote.
func Run(timeout time.Duration, name string, args ...string) (string, error) {
	p, err := start(name, args...)
	if err != nil {
		return "", err
	}
	if err := p.Wait(timeout); err != nil {
		p.Kill()
		return p.Log(), err
	}
	return p.Log(), nil
}
