package cli_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/cli"
)

// Without a generation the edit is undone that the history showed, and no newer one.
func TestRollbackWithoutAGenerationIsOfTheLastEditSeen(t *testing.T) {
	for name, tt := range map[string]struct {
		last              api.Edit
		match, createOnly string
	}{
		"an update":  {api.Edit{Generation: 2, Action: api.Updated, UID: "u", Revision: 7}, `"u-7"`, ""},
		"a deletion": {api.Edit{Generation: 2, Action: api.Deleted, Revision: 7}, "", "*"},
	} {
		t.Run(name, func(t *testing.T) {
			var asked *http.Request
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				var answer any = api.History{Items: []api.Edit{tt.last, {Generation: 1, Action: api.Created}}}
				if r.Method == http.MethodPost {
					asked, answer = r, api.ApplyResult{}
				}
				_ = json.NewEncoder(w).Encode(answer) // to a test that would fail
			}))
			defer server.Close()
			var out, notes strings.Builder
			code := cli.Run(t.Context(), cli.Env{Args: []string{"rollback", "policy", "p", "-s", server.URL}, Out: &out, Err: &notes})
			if code != cli.ExitOK || asked == nil {
				t.Fatalf("exit code %d: %s", code, notes.String())
			}
			if got := asked.URL.RequestURI(); got != api.RollbackPath(api.Policies, "default", "p", 1) {
				t.Errorf("asked for %s", got)
			}
			if h := asked.Header; h.Get("If-Match") != tt.match || h.Get("If-None-Match") != tt.createOnly {
				t.Errorf("If-Match %q, If-None-Match %q, want %q and %q", h.Get("If-Match"), h.Get("If-None-Match"), tt.match, tt.createOnly)
			}
		})
	}
}
