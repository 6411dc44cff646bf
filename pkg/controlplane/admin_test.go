package controlplane

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/telemetry"
)

// ask sends a request to the admin handler.
func ask(h http.Handler, method, path string) (status int, body string) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, "http://127.0.0.1:8081"+path, nil))
	text, _ := io.ReadAll(w.Body)
	return w.Code, string(text)
}

func TestReadyOnlyOnceTheWorldIsThere(t *testing.T) {
	reason := errors.New("the store is being read")
	h := adminPort(telemetry.NewMetrics().Handler(), func() (string, error) { return ": stale", reason })
	if status, body := ask(h, "GET", "/readyz"); status != http.StatusServiceUnavailable || body != "not ready: the store is being read\n" {
		t.Errorf("before: %d %q, want 503 with the reason", status, body)
	}
	if status, body := ask(h, "GET", "/healthz"); status != http.StatusOK || body != "ok\n" {
		t.Errorf("/healthz before: %d %q, want 200: a process that is starting is alive", status, body)
	}
	reason = nil
	if status, body := ask(h, "GET", "/readyz"); status != http.StatusOK || body != "ready: stale\n" {
		t.Errorf("after: %d %q, want 200", status, body)
	}
}

func TestAdminServes(t *testing.T) {
	h := adminPort(telemetry.NewMetrics().Handler(), func() (string, error) { return "", nil })
	for path, want := range map[string]string{
		"/healthz":                  "ok",
		"/version":                  telemetry.Version,
		"/metrics":                  "breakwater_world_revision 0",
		"/debug/pprof/":             "goroutine",
		"/debug/pprof/heap?debug=1": "heap profile",
		"/debug/pprof/cmdline":      "test",
	} {
		if status, body := ask(h, "GET", path); status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("GET %s: %d %.80q, want 200 with %q", path, status, body, want)
		}
	}
	for _, path := range []string{"/", "/readyz/x", "/api/v1/policies"} {
		if status, _ := ask(h, "GET", path); status != http.StatusNotFound {
			t.Errorf("GET %s: %d, want 404", path, status)
		}
	}
	if status, _ := ask(h, "POST", "/readyz"); status != http.StatusMethodNotAllowed {
		t.Errorf("POST /readyz: %d, want 405", status)
	}
}

func TestAdminRefusesForeignNames(t *testing.T) {
	h := byAddress(http.NotFoundHandler(), []string{"breakwater.internal"})
	for host, want := range map[string]int{
		"127.0.0.1:8081": 404, "[::1]:8081": 404, "localhost": 404, "breakwater.internal:8081": 404, "evil.example.com": 403, "evil.example.com:8081": 403,
	} {
		r := httptest.NewRequest("GET", "/metrics", nil)
		r.Host = host
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("Host %s: %d, want %d", host, w.Code, want)
		}
	}
	r := httptest.NewRequest("GET", "http://evil.example.com/metrics", nil)
	r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, &net.UnixAddr{Name: "admin.sock", Net: "unix"}))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != 404 {
		t.Errorf("any host over a unix socket: %d, want 404", w.Code)
	}
}
