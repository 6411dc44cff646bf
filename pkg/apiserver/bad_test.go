package apiserver_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"text/template"
	"time"

	"golang.org/x/tools/txtar"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/apiserver"
)

var update = flag.Bool("update", false, "rewrite the expected part of golden files")

// uids are what differs from run to run.
var uids = regexp.MustCompile(`"[a-z2-7]{16}-`)

// leastBad is how many bad inputs there must be.
const leastBad = 150

// badWorld is what the store holds while bad inputs are sent to it.
const badWorld = `
apiVersion: breakwater/v1alpha1
kind: Service
metadata: {namespace: shop, name: payments, labels: {tier: back}}
spec: {protocol: http, dependsOn: []}
---
apiVersion: breakwater/v1alpha1
kind: Service
metadata: {namespace: shop, name: orders, labels: {tier: front}}
spec: {protocol: http, port: 80, dependsOn: [payments]}
---
apiVersion: breakwater/v1alpha1
kind: Service
metadata: {namespace: pay, name: ledger}
spec: {protocol: grpc, port: 80, hosts: [ledger.example]}
---
apiVersion: breakwater/v1alpha1
kind: Policy
metadata: {namespace: shop, name: guard}
spec: {to: {service: orders}, timeout: {request: 2s}}
---
apiVersion: breakwater/v1alpha1
kind: Policy
metadata: {namespace: shop, name: front}
spec: {to: {selector: {tier: front}}, retry: {numRetries: 3}}
`

// TestBadInput sends every request of testdata/bad and compares status and message with what the file says. A case is two files of an
// archive: its name with the request, and "want". In a request «repeat N TEXT» and «byte N» stand for what is too long, or can't be
// written. With -update only the wants are rewritten.
func TestBadInput(t *testing.T) {
	f := newFixture(t, func(c *apiserver.Config) { c.ReadWait = 5 * time.Millisecond })
	f.apply(badWorld)
	before := f.revision()
	files, err := filepath.Glob("testdata/bad/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	cases := 0
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i+1 < len(archive.Files); i += 2 {
			request, want := archive.Files[i], &archive.Files[i+1]
			cases++
			t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar")+"/"+request.Name, func(t *testing.T) {
				if want.Name != "want" {
					t.Fatalf("%s: %q follows %q, want \"want\"", file, want.Name, request.Name)
				}
				defer func() {
					if after := f.revision(); after != before {
						t.Errorf("a refused request moved the store from revision %d to %d", before, after)
						before = after
					}
				}()
				got := f.bad(t, string(request.Data))
				if *update {
					want.Data = []byte(got)
				} else if got != string(want.Data) {
					t.Errorf("got\n%swant\n%s", got, want.Data)
				}
			})
		}
		if *update {
			if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if cases < leastBad {
		t.Errorf("%d bad inputs, want at least %d", cases, leastBad)
	}
}

// bad sends the request that text describes: "METHOD path", headers, an empty line, the body. It returns the refusal as text.
func (f *fixture) bad(t *testing.T, text string) string {
	t.Helper()
	funcs := template.FuncMap{
		"repeat": func(n int, s string) string { return strings.Repeat(s, n) },
		"byte":   func(b int) string { return string([]byte{byte(b)}) },
	}
	expanded, err := template.New("").Delims("«", "»").Funcs(funcs).Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := expanded.Execute(&b, nil); err != nil {
		t.Fatal(err)
	}
	head, body, _ := strings.Cut(b.String(), "\n\n")
	lines := strings.Split(strings.TrimSuffix(head, "\n"), "\n")
	method, path, _ := strings.Cut(lines[0], " ")
	begun := time.Now()
	r := f.do(method, path, body, lines[1:]...)
	if took := time.Since(begun); took > 20*time.Second {
		t.Errorf("refusing it took %v", took)
	}
	if r.status < http.StatusBadRequest {
		t.Fatalf("status %d: it was not refused\n%s", r.status, r.body)
	}
	var p api.Problem
	if err := json.Unmarshal([]byte(r.body), &p); err != nil {
		t.Fatalf("the answer is no problem: %v\n%s", err, r.body)
	}
	if p.Status != r.status || p.Type == "" || p.RequestID == "" || r.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("problem %+v as %s, with status %d", p, r.header.Get("Content-Type"), r.status)
	}
	return fmt.Sprintf("%d %s\n", r.status, uids.ReplaceAllString(p.Error(), `"UID-`))
}
