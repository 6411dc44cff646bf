// Package client is a typed client of the Breakwater API.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/api"
)

// DefaultServer is where a control plane with default flags listens.
const DefaultServer = "http://127.0.0.1:8080"

// maxAnswer bounds what is read of an answer.
const maxAnswer = 256 << 20

// Client asks one server. It is safe for concurrent use.
type Client struct {
	// Actor and Reason go into the history of what the client writes. Set them before the first call.
	Actor, Reason string

	base   string
	http   *http.Client
	stream *http.Client // for answers without an end
}

// New is a client of the server at an address: http://HOST:PORT, HOST:PORT, or unix:PATH. It opens no connection yet.
func New(server string) (*Client, error) {
	transport := &http.Transport{ForceAttemptHTTP2: false, IdleConnTimeout: 30 * time.Second}
	if path, ok := strings.CutPrefix(server, "unix:"); ok {
		if path == "" {
			return nil, fmt.Errorf("server %q: want unix:PATH", server)
		}
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}
		server = "http://localhost"
	} else {
		transport.Proxy = http.ProxyFromEnvironment
		transport.DialContext = (&net.Dialer{Timeout: 5 * time.Second}).DialContext
	}
	if !strings.Contains(server, "://") {
		server = "http://" + server
	}
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" {
		return nil, fmt.Errorf("server %q: want http://HOST:PORT or unix:PATH", server)
	}
	return &Client{
		base: strings.TrimSuffix(u.String(), "/"), http: &http.Client{Transport: transport, Timeout: time.Minute}, stream: &http.Client{Transport: transport},
	}, nil
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Answer is what a server answered to a request that it did not refuse.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Do sends one request; headers are name, value, name, value ... A refusal is a *api.Problem.
func (c *Client) Do(ctx context.Context, method, path string, body []byte, headers ...string) (*Answer, error) {
	var reader io.Reader
	if body != nil {
		reader = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, reader)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", c.base, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/yaml")
	}
	req.Header.Set("Accept", "application/json")
	if method != http.MethodGet {
		setIf(req.Header, "X-Breakwater-Actor", c.Actor)
		setIf(req.Header, "X-Breakwater-Reason", c.Reason)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		setIf(req.Header, headers[i], headers[i+1])
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the server: %w", err)
	}
	defer resp.Body.Close()
	answer := &Answer{Status: resp.StatusCode, Header: resp.Header}
	if answer.Body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer)); err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", c.base, err)
	}
	if resp.StatusCode >= 300 {
		return nil, problem(answer)
	}
	return answer, nil
}

func setIf(h http.Header, name, value string) {
	if value != "" {
		h.Set(name, value)
	}
}

// problem reads a refusal, also that of something that is not our server.
func problem(a *Answer) error {
	var p api.Problem
	if err := json.Unmarshal(a.Body, &p); err != nil || p.Status == 0 {
		text := strings.TrimSpace(string(a.Body[:min(len(a.Body), 200)]))
		return &api.Problem{Title: http.StatusText(a.Status), Status: a.Status, Detail: text}
	}
	return &p
}

// StatusOf is the HTTP status of a refusal, 0 for any other error.
func StatusOf(err error) int {
	var p *api.Problem
	if errors.As(err, &p) {
		return p.Status
	}
	return 0
}

// read asks for a T.
func read[T any](ctx context.Context, c *Client, method, path string, body []byte, headers ...string) (*T, error) {
	answer, err := c.Do(ctx, method, path, body, headers...)
	if err != nil {
		return nil, err
	}
	var v T
	if err := json.Unmarshal(answer.Body, &v); err != nil {
		return nil, fmt.Errorf("read the answer to %s %s: %w", method, path, err)
	}
	return &v, nil
}
