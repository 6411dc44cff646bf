package harness

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Agent is a running breakwater-agent beside one caller.
type Agent struct {
	*Process
	Admin, Outbound string // host:port
	StateDir        string

	command func() *exec.Cmd
}

// AgentOptions say whose agent it is.
type AgentOptions struct {
	Binary, XDS, Namespace, Service, StateDir string
	Extra                                     []string // further arguments
	Outbound                                  string   // where it listens for the caller; "" picks a port
	Before                                    []string // a command that becomes the program, such as prlimit with its arguments
	// Command, where it is set, makes the command in place of one with flags.
	Command func(a *Agent) *exec.Cmd
}

// StartAgent runs the program with fixed loopback ports and waits until it is ready.
func StartAgent(ctx context.Context, o AgentOptions) (*Agent, error) {
	ports, err := FreePorts(2)
	if err != nil {
		return nil, err
	}
	a := &Agent{Admin: Loopback(ports[0]), Outbound: Loopback(ports[1]), StateDir: o.StateDir}
	if o.Outbound != "" {
		a.Outbound = o.Outbound
	}
	line := slices.Concat(o.Before, []string{o.Binary, "--xds", o.XDS, "--namespace", o.Namespace, "--service", o.Service, "--node-id", o.Service + "-1",
		"--listen-admin", a.Admin, "--listen-outbound", a.Outbound, "--state-dir", o.StateDir, "--log-level", "debug"}, o.Extra)
	a.command = func() *exec.Cmd { return exec.Command(line[0], line[1:]...) }
	if o.Command != nil {
		a.command = func() *exec.Cmd { return o.Command(a) }
	}
	if err := a.Start(ctx); err != nil {
		return nil, err
	}
	return a, nil
}

// Start runs the program (again) and waits until it is ready.
func (a *Agent) Start(ctx context.Context) error {
	p, err := Start(a.command())
	if err != nil {
		return err
	}
	a.Process = p
	if err := Poll(ctx, func() error { _, err := a.Page("/readyz"); return err }); err != nil {
		p.Kill()
		return fmt.Errorf("agent is not ready: %w\n%s", err, p.Log())
	}
	return nil
}

// Stat is one statistic; 0 where there is none of that name.
func (a *Agent) Stat(name string) (int64, error) {
	body, err := a.Page("/stats")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(body) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+": "); ok {
			return strconv.ParseInt(value, 10, 64)
		}
	}
	return 0, nil
}

// Page is what a page of the admin port says; an error where its status is not 200.
func (a *Agent) Page(path string) (string, error) {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + a.Admin + path)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", path, resp.Status, body)
	}
	return string(body), err
}
