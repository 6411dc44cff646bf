package breakwater_test

import (
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/lint"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// examples are the manifests below examples/.
func examples(t *testing.T) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir("examples", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(path, ".yaml") {
			files = append(files, path)
		}
		return err
	})
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	return files
}

// TestExamplesHaveNothingAboveInfo lints each example as it is meant to be applied: what has no services of its own over the chain's, and
// the fallback over the chain.
func TestExamplesHaveNothingAboveInfo(t *testing.T) {
	for _, file := range examples(t) {
		text := read(t, file)
		beneath := map[string][]string{"examples/fallback.yaml": {"examples/services.yaml", "examples/chain.yaml"}, "examples/recipes/canary.yaml": {"examples/services.yaml"}}[file]
		if beneath == nil && !strings.Contains(text, "kind: Service") {
			beneath = []string{"examples/services.yaml"}
		}
		t.Run(file, func(t *testing.T) {
			var all []string
			for _, f := range append(beneath, file) {
				all = append(all, read(t, f))
			}
			acceptable(t, strings.Join(all, "---\n"))
			in := lint.Input{}
			services := map[manifest.Key]*catalog.Service{}
			for _, f := range append(beneath, file) {
				collect(t, read(t, f), &in, services)
			}
			for _, s := range services {
				in.Services = append(in.Services, lint.Service{Service: s, Hosts: 4})
			}
			for _, f := range lint.Run(in) {
				if f.Severity != lint.Info {
					t.Errorf("%s %s %s: %s", f.Code, f.Object, f.Path, f.Why)
				}
			}
		})
	}
}

// collect reads manifests; a service that is there already is replaced.
func collect(t *testing.T, text string, in *lint.Input, services map[manifest.Key]*catalog.Service) {
	t.Helper()
	documents, faults := manifest.Decode("", []byte(text), manifest.YAML, manifest.Limits{})
	for _, d := range documents {
		if d.Kind == policy.Kind {
			p, found := manifest.Into[policy.Spec](d)
			faults = append(faults, found...)
			in.Policies = append(in.Policies, policy.Compile(&p))
			continue
		}
		s, found := manifest.Into[catalog.ServiceSpec](d)
		faults = append(faults, found...)
		services[s.Key()] = &s
	}
	if len(faults) > 0 {
		t.Fatal(faults)
	}
}
