// Package golden reads what the compiler's goldens are made of: a service and its policies.
package golden

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"go.yaml.in/yaml/v4"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// Service is the service of a golden, from its service.yaml.
func Service(t testing.TB, a *txtar.Archive) *catalog.Service {
	t.Helper()
	svc := new(catalog.Service)
	decode(t, Section(a, "service.yaml"), svc)
	return svc
}

// Policies are the policies of a golden, in the order of its policies.yaml, each of them valid.
func Policies(t testing.TB, a *txtar.Archive) []*policy.Policy {
	t.Helper()
	var policies []*policy.Policy
	for text := range strings.SplitSeq(Section(a, "policies.yaml"), "---\n") {
		if strings.TrimSpace(text) == "" {
			continue
		}
		p := new(policy.Policy)
		decode(t, text, p)
		if faults := policy.Validate(p); len(faults) > 0 {
			t.Fatalf("policy %s: %v", p.Key(), faults)
		}
		policies = append(policies, p)
	}
	return policies
}

// Section is the text of one file of the archive, "" where it has none of that name.
func Section(a *txtar.Archive, name string) string {
	for _, f := range a.Files {
		if f.Name == name {
			return string(f.Data)
		}
	}
	return ""
}

// decode reads YAML into the Go structs by way of JSON.
func decode(t testing.TB, text string, into any) {
	t.Helper()
	var v any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
}
