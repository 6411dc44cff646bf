package apiserver_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/apiserver"
)

// Whoever goes away before the answer has made nothing fail.
func TestWhoAskedAndWentAwayIsNoError(t *testing.T) {
	var log strings.Builder
	ctx, leave := context.WithCancel(t.Context())
	f := newFixture(t, func(c *apiserver.Config) {
		c.Log = hclog.New(&hclog.LoggerOptions{Level: hclog.Info, Output: &log})
		c.Held = func(ctx context.Context, _ string, _ bool) (*api.ProxyConfig, error) {
			leave()
			<-ctx.Done()
			return nil, ctx.Err()
		}
	})
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, api.ProxyDiffPath("orders-1"), nil)
	r.Host = "127.0.0.1:8080"
	f.handler.ServeHTTP(httptest.NewRecorder(), r)
	if ctx.Err() == nil {
		t.Fatal("the proxy's configuration was not asked for")
	}
	if strings.Contains(log.String(), "request failed") {
		t.Errorf("the log says %s", &log)
	}
}
