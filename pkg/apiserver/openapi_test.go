package apiserver_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/apiserver"
	"github.com/breakwater-mesh/breakwater/pkg/store"
)

const openapiGolden = "testdata/openapi.json"

// TestOpenAPIDrift compares the document that is served with the committed one: a change of the API shows in review.
func TestOpenAPIDrift(t *testing.T) {
	f := newFixture(t)
	var got bytes.Buffer
	if err := json.Indent(&got, []byte(f.want(http.StatusOK, "GET", "/openapi.json", "").body), "", " "); err != nil {
		t.Fatal(err)
	}
	got.WriteByte('\n')
	if *update {
		if err := os.WriteFile(openapiGolden, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(openapiGolden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("the served document differs from %s; run the test with -update and review the difference", openapiGolden)
	}
	if text := f.want(http.StatusOK, "GET", "/openapi.yaml", "").body; !strings.Contains(text, "openapi: 3.1.0") {
		t.Errorf("openapi.yaml begins with %.60q", text)
	}
}

// TestOpenAPIDescribesBodies looks for what the framework can't know: bodies are read raw.
func TestOpenAPIDescribesBodies(t *testing.T) {
	f := newFixture(t)
	var doc struct {
		Paths map[string]map[string]struct {
			RequestBody struct {
				Content map[string]struct {
					Schema struct {
						Ref string `json:"$ref"`
					}
				}
			}
		}
		Components struct {
			Schemas map[string]struct {
				Properties map[string]json.RawMessage
			}
		}
	}
	if err := json.Unmarshal([]byte(f.want(http.StatusOK, "GET", "/openapi.json", "").body), &doc); err != nil {
		t.Fatal(err)
	}
	body := doc.Paths["/api/v1/namespaces/{namespace}/policies/{name}"]["put"].RequestBody.Content["application/yaml"].Schema.Ref
	if body != "#/components/schemas/Policy" {
		t.Errorf("the body of a policy is %q", body)
	}
	for _, section := range []string{"timeout", "retry", "limits", "bulkhead", "outlierDetection", "circuitBreaker", "loadBalancing", "healthCheck", "failureCriteria", "admissionControl"} {
		if doc.Components.Schemas["PolicySpec"].Properties[section] == nil {
			t.Errorf("the schema of a policy has no %s", section)
		}
	}
	if limit := string(doc.Components.Schemas["Limits"].Properties["maxRequests"]); !strings.Contains(limit, "unlimited") {
		t.Errorf("maxRequests is %s, want a number or unlimited", limit)
	}
	if doc.Components.Schemas["ErrorModel"].Properties != nil {
		t.Error("the framework's own error is described; the API answers with Problem")
	}
}

// brokenBook panics when asked.
type brokenBook struct{}

func (brokenBook) Proxies() []api.Proxy     { panic("the book is torn") }
func (brokenBook) Changed() <-chan struct{} { return nil }
func (brokenBook) Look() apiserver.Fleet    { return (&ledger{}).Look() }

func TestPanicBecomesAProblem(t *testing.T) {
	f := newFixture(t, func(c *apiserver.Config) { c.Book = brokenBook{} })
	p := parse[api.Problem](t, f.want(http.StatusInternalServerError, "GET", api.ProxiesPath, ""))
	if p.Type != api.Internal || strings.Contains(p.Error(), "torn") || p.RequestID == "" {
		t.Errorf("problem %+v, want %s with a request id and without the panic's text", p, api.Internal)
	}
}

// TestUnexpectedErrorIsLoggedNotShown stores what nobody can read: the answer keeps quiet, the log does not.
func TestUnexpectedErrorIsLoggedNotShown(t *testing.T) {
	var log bytes.Buffer
	f := newFixture(t, func(c *apiserver.Config) { c.Log = hclog.New(&hclog.LoggerOptions{Output: &log}) })
	f.apply(service("payments", ""))
	if _, err := f.kv.Commit(t.Context(), store.Txn{Ops: []store.Op{{Key: store.PolicyKey("shop", "p"), Value: []byte("{torn")}}}); err != nil {
		t.Fatal(err)
	}
	p := parse[api.Problem](t, f.want(http.StatusInternalServerError, "PUT", policies+"/p", doc("shop", "p", simple)))
	if p.Type != api.Internal || strings.Contains(p.Error(), "torn") || len(p.Errors) > 0 {
		t.Errorf("problem %+v, want %s without details", p, api.Internal)
	}
	if !strings.Contains(log.String(), p.RequestID) || !strings.Contains(log.String(), "policies/shop/p") {
		t.Errorf("the log names neither the request nor the key:\n%s", log.String())
	}
}
