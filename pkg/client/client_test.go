package client_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/client"
)

func TestNewRefusesWhatIsNoServer(t *testing.T) {
	for _, server := range []string{"", "ftp://x", "http://", "unix:", "http://x?y=z", "http://a b"} {
		if c, err := client.New(server); err == nil {
			t.Errorf("New(%q) = %v, want an error", server, c)
		}
	}
}

// TestRefusals reads problems, and what something else than our server says.
func TestRefusals(t *testing.T) {
	for name, tt := range map[string]struct {
		body, want string
		status     int
	}{
		"a problem":       {`{"type":"urn:breakwater:problem:not-found","title":"Not found","status":404,"detail":"there is no Policy a/b"}`, "Not found: there is no Policy a/b", 404},
		"a proxy's page":  {"<html>bad gateway</html>", "Bad Gateway: <html>bad gateway</html>", 502},
		"nothing":         {"", "Service Unavailable", 503},
		"JSON of another": {`{"message":"no"}`, `Forbidden: {"message":"no"}`, 403},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tt.status)
				_, _ = w.Write([]byte(tt.body))
			}))
			defer server.Close()
			c, err := client.New(server.URL)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_, err = c.Policy(t.Context(), "a", "b")
			if err == nil || err.Error() != tt.want || client.StatusOf(err) != tt.status {
				t.Errorf("got %v with status %d, want %s with %d", err, client.StatusOf(err), tt.want, tt.status)
			}
		})
	}
}

// TestUnixSocketAndHeaders asks over a socket and looks at what arrives.
func TestUnixSocketAndHeaders(t *testing.T) {
	path := filepath.Join(t.TempDir(), "api.sock")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var got *http.Request
	server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Clone(context.Background())
		_, _ = w.Write([]byte(`{"revision": 7}`))
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	defer func() {
		_ = server.Close()
		<-done
	}()
	c, err := client.New("unix:" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Actor, c.Reason = "alice", "because"
	result, err := c.Delete(t.Context(), api.Services, "shop", "a/../b", client.DeleteOptions{IfMatch: `"x-1"`, Force: true})
	if err != nil || result.Revision != 7 {
		t.Fatalf("Delete = %+v, %v, want revision 7", result, err)
	}
	if got.URL.EscapedPath() != "/api/v1/namespaces/shop/services/a%2F..%2Fb" || got.URL.RawQuery != "force=true" {
		t.Errorf("asked for %s?%s: a name must not leave its segment", got.URL.EscapedPath(), got.URL.RawQuery)
	}
	for name, want := range map[string]string{"If-Match": `"x-1"`, "X-Breakwater-Actor": "alice", "X-Breakwater-Reason": "because", "Accept": "application/json"} {
		if got.Header.Get(name) != want {
			t.Errorf("header %s is %q, want %q", name, got.Header.Get(name), want)
		}
	}
}
