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
		t.Run(file, func(t *testing.T) { nothingAboveInfo(t, append(beneath, file)) })
	}
}

// TestRecipesHaveNothingAboveInfoOverTheChain lints each recipe over the chain, with its fallback and without.
func TestRecipesHaveNothingAboveInfoOverTheChain(t *testing.T) {
	for _, file := range examples(t) {
		if !strings.HasPrefix(file, "examples/recipes/") {
			continue
		}
		chain := []string{"examples/services.yaml", "examples/chain.yaml"}
		t.Run(file, func(t *testing.T) { nothingAboveInfo(t, append(chain, file)) })
		t.Run(file+" and fallback", func(t *testing.T) { nothingAboveInfo(t, append(chain, "examples/fallback.yaml", file)) })
	}
}

// nothingAboveInfo applies files one over the other, and lints what comes of them, with few hosts of each service and with many.
func nothingAboveInfo(t *testing.T, files []string) {
	t.Helper()
	var all []string
	var in lint.Input
	services := map[manifest.Key]*catalog.Service{}
	for _, f := range files {
		all = append(all, read(t, f))
		collect(t, read(t, f), &in, services)
	}
	acceptable(t, strings.Join(all, "---\n"))
	for _, hosts := range []int{4, 20} {
		in.Services = nil
		for _, s := range services {
			in.Services = append(in.Services, lint.Service{Service: s, Hosts: hosts, Subsets: evenly(s, hosts)})
		}
		for _, f := range lint.Run(in) {
			if f.Severity != lint.Info {
				t.Errorf("with %d hosts: %s %s %s: %s", hosts, f.Code, f.Object, f.Path, f.Why)
			}
		}
	}
}

// evenly deals the hosts of a service to its subsets.
func evenly(s *catalog.Service, hosts int) map[string]int {
	dealt := map[string]int{}
	for name := range s.Spec.Subsets {
		dealt[name] = hosts / len(s.Spec.Subsets)
	}
	return dealt
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
