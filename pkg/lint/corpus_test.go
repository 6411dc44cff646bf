package lint_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/breakwater-mesh/breakwater/internal/testkit/corpus"
	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/lint"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// TestFindingsAboutACorpusMakeSense lints random policies over every field of the language, whether they can stand together or not: each
// finding has a rule, names an object that is there and a field that is written in it, and its words have no gaps.
func TestFindingsAboutACorpusMakeSense(t *testing.T) {
	for seed := range uint64(2) {
		in, policies := random(t, seed)
		found := lint.Run(in)
		if len(found) < 50 {
			t.Errorf("seed %d: only %d findings: the corpus shows nothing", seed, len(found))
		}
		for _, f := range found {
			i := slices.IndexFunc(lint.Rules(), func(r lint.Rule) bool { return r.Code == f.Code })
			if i < 0 || !slices.Contains([]lint.Severity{lint.Info, lint.Rules()[i].Severity}, f.Severity) {
				t.Errorf("seed %d: %s has no rule of its severity %s", seed, f.Code, f.Severity)
			}
			p := policies[f.Object]
			if p == nil || !written(t, p, f.Path) {
				t.Errorf("seed %d: %s is about %s of %s, which is not there", seed, f.Code, f.Path, f.Object)
			}
			text := strings.Join(append(f.Calls, f.Why, f.Instead), " ")
			for _, gap := range []string{"%!", "policy /", "<nil>", "  ", " 1 hosts", "()"} {
				if strings.Contains(text, gap) {
					t.Errorf("seed %d: %s says %q: %s", seed, f.Code, gap, text)
				}
			}
		}
	}
}

func random(t *testing.T, seed uint64) (lint.Input, map[manifest.Key]*policy.Policy) {
	t.Helper()
	c, err := corpus.New(corpus.Options{
		Seed: seed, Policies: 150, TLS: catalog.TLS{CAFile: "/ca.pem", CertFile: "/cert.pem", KeyFile: "/key.pem"},
		Callers: []corpus.Caller{{Key: manifest.Key{Namespace: "shop", Name: "caller"}, Port: 7001}, {Key: manifest.Key{Namespace: "bank", Name: "caller"}}},
		Admit:   func([]*policy.Policy) []string { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	var in lint.Input
	for _, s := range c.Services {
		in.Services = append(in.Services, lint.ServiceOf(s, nil))
	}
	policies := map[manifest.Key]*policy.Policy{}
	for _, p := range c.Admitted() {
		in.Policies = append(in.Policies, policy.Compile(p))
		policies[p.Key()] = p
	}
	return in, policies
}

// written reports whether a policy has something at path. That of a whole side counts, too, where that side is absent: every caller.
func written(t *testing.T, p *policy.Policy, path string) bool {
	t.Helper()
	data, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var at any
	if err := json.Unmarshal(data, &at); err != nil {
		t.Fatal(err)
	}
	if path == "spec.from" {
		return true
	}
	for _, name := range strings.Split(path, ".") {
		object, _ := at.(map[string]any)
		inner, ok := object[name]
		if !ok {
			return false
		}
		at = inner
	}
	return true
}
