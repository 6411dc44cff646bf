package harness

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/api"
)

// ControlPlane is a running breakwater program.
type ControlPlane struct {
	*Process
	XDS, API, Admin string // host:port
	DataDir         string

	binary string
	args   []string
}

// StartControlPlane runs the program with fixed loopback ports, so that it can be started again where its proxies look for it, and
// waits until it is ready. Extra arguments are appended.
func StartControlPlane(ctx context.Context, binary, dataDir string, extra ...string) (*ControlPlane, error) {
	ports, err := FreePorts(3)
	if err != nil {
		return nil, err
	}
	c := &ControlPlane{XDS: Loopback(ports[0]), API: Loopback(ports[1]), Admin: Loopback(ports[2]), DataDir: dataDir, binary: binary}
	c.args = append([]string{"serve", "--data-dir", dataDir, "--listen-xds", c.XDS, "--listen-api", c.API, "--listen-admin", c.Admin, "--log-level", "debug"}, extra...)
	if err := c.Start(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// Start runs the program (again) and waits until it is ready.
func (c *ControlPlane) Start(ctx context.Context) error {
	p, err := start(c.binary, c.args...)
	if err != nil {
		return err
	}
	c.Process = p
	if err := Poll(ctx, c.ready); err != nil {
		p.Kill()
		return fmt.Errorf("control plane is not ready: %w\n%s", err, p.Log())
	}
	return nil
}

// Kill ends the program with SIGKILL. Connections to it are forgotten too, so that the next request finds its successor.
func (c *ControlPlane) Kill() {
	c.Process.Kill()
	apiClient.CloseIdleConnections()
}

func (c *ControlPlane) ready() error {
	select {
	case <-c.done:
		return fmt.Errorf("control plane ended (%v)\n%s", c.err, c.Log())
	default:
	}
	_, _, err := c.do(http.MethodGet, "http://"+c.Admin+"/readyz", "")
	return err
}

// Do sends one API request with a YAML body and returns the status and the answer. An error is a transport failure or a status of 400
// and above; the status and the body are there all the same.
func (c *ControlPlane) Do(method, path, body string) (int, string, error) {
	return c.do(method, "http://"+c.API+path, body)
}

// Apply writes all the documents in one transaction, however many clusters that rebuilds.
func (c *ControlPlane) Apply(documents string) error {
	_, _, err := c.Do(http.MethodPost, "/api/v1/apply?wide=true", documents)
	return err
}

// Programmed is nil once every proxy that an object of shop concerns, by its plural and name, has acked what it says.
func (c *ControlPlane) Programmed(plural, name string) error {
	_, answer, err := c.Do(http.MethodGet, api.ObjectPath(plural, "shop", name)+"/status", "")
	if err != nil {
		return err
	}
	var doc api.StatusResponse
	if err := json.Unmarshal([]byte(answer), &doc); err != nil {
		return err
	}
	for _, c := range doc.Conditions {
		if c.Type == "Programmed" && c.Status == api.True {
			return nil
		}
	}
	return fmt.Errorf("%s %s is not programmed: %s", plural, name, answer)
}

var apiClient = &http.Client{Timeout: 15 * time.Second}

func (c *ControlPlane) do(method, url, body string) (int, string, error) {
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/yaml")
	}
	resp, err := apiClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return resp.StatusCode, "", err
	}
	if resp.StatusCode >= 400 {
		return resp.StatusCode, string(answer), errors.New(method + " " + url + ": " + resp.Status + ": " + string(answer))
	}
	return resp.StatusCode, string(answer), nil
}
