// Package harness runs the real parts on loopback for tests, benches and the demo: the control plane, Envoy, upstream hosts, load.
package harness

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/breakwater-mesh/breakwater/internal/testkit/ports"
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

// FreePorts are n ports of loopback that nobody listens on.
func FreePorts(n int) ([]int, error) { return ports.Free(n) }

// Loopback is 127.0.0.1:port.
func Loopback(port int) string { return ports.Loopback(port) }

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
