package lint

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	section = regexp.MustCompile("(?m)^## `([a-z0-9-]+)`\n(error|warning|info): (.*?)\\. ")
	fenced  = regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$")
)

// TestDocumentedExamples holds docs/lint.md against the rules: every code has a section with its severity, manifests that lead to it, and
// manifests that do not.
func TestDocumentedExamples(t *testing.T) {
	text, err := os.ReadFile("../../docs/lint.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := make(map[string]string)
	heads := section.FindAllStringSubmatchIndex(string(text), -1)
	for i, at := range heads {
		end := len(text)
		if i+1 < len(heads) {
			end = heads[i+1][0]
		}
		sections[string(text[at[2]:at[3]])] = string(text[at[0]:end])
	}
	var found strings.Builder
	for _, r := range Rules() {
		t.Run(r.Code, func(t *testing.T) { found.WriteString(r.documented(t, sections[r.Code])) })
		delete(sections, r.Code)
	}
	const file = "testdata/documented.golden"
	golden, err := os.ReadFile(file)
	if err != nil && !*update {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(golden), found.String()); d != "" && !*update {
		t.Errorf("what is found in the examples that lead to a finding (-want +got):\n%s", d)
	}
	if *update {
		if err := os.WriteFile(file, []byte(found.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for code := range sections {
		t.Errorf("docs/lint.md has a section for %s, which is no code", code)
	}
}

// documented holds a rule against its section, and returns the finding of the example that leads to it.
func (r Rule) documented(t *testing.T, text string) string {
	t.Helper()
	head := section.FindStringSubmatch(text)
	if head == nil {
		t.Fatalf("docs/lint.md has no section of its own: ## `%s`, then %s: %s.", r.Code, r.Severity, r.What)
	}
	if head[2] != string(r.Severity) || head[3] != r.What {
		t.Errorf("the section says %s: %s; the rule %s: %s", head[2], head[3], r.Severity, r.What)
	}
	examples := fenced.FindAllStringSubmatch(text, -1)
	if len(examples) != 2 {
		t.Fatalf("%d examples, want one that leads to it and one that does not", len(examples))
	}
	f := find(t, Run(read(t, examples[0][1])), r.Code)
	told := f.text()
	if f.Severity != r.Severity {
		t.Errorf("the example is %s, want %s", f.Severity, r.Severity)
	}
	if f.Why == "" || f.Instead == "" || f.Kind == "" || f.Object.Name == "" || !strings.HasPrefix(f.Path, "spec") {
		t.Errorf("the finding lacks something: %+v", f)
	}
	for _, f := range Run(read(t, examples[1][1])) {
		if f.Code == r.Code {
			t.Errorf("what is written instead still leads to %+v", f)
		}
		if f.Severity != Info {
			t.Errorf("what is written instead leads to %s: %s", f.Code, f.Why)
		}
	}
	return told
}
