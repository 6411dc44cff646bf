package policy_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

var update = flag.Bool("update", false, "write what comes out into the goldens")

// world is the input of a golden: the documents of its *.yaml files.
type world struct {
	services []policy.Service
	callers  []policy.Caller
	policies []*policy.Compiled
	faults   manifest.FieldErrors
}

func load(t *testing.T, files []txtar.File) world {
	t.Helper()
	var w world
	for _, f := range files {
		if !strings.HasSuffix(f.Name, ".yaml") {
			continue
		}
		docs, errs := manifest.Decode(f.Name, f.Data, manifest.YAML, manifest.Limits{})
		w.faults = append(w.faults, errs...)
		for _, d := range docs {
			w.add(d)
		}
	}
	slices.SortFunc(w.policies, (*policy.Compiled).Compare)
	return w
}

func (w *world) add(d manifest.Document) {
	if d.Kind == catalog.Kind {
		svc, errs := manifest.Into[catalog.ServiceSpec](d)
		w.faults = append(w.faults, append(errs, d.Locate(catalog.Validate(&svc))...)...)
		w.services = append(w.services, policy.Service{Key: svc.Key(), Labels: svc.Metadata.Labels, Protocol: string(catalog.ProtocolOf(&svc))})
		w.callers = append(w.callers, policy.Caller{Key: svc.Key(), Labels: svc.Metadata.Labels})
		return
	}
	if d.Kind == policy.GuardrailKind {
		g, errs := manifest.Into[policy.GuardrailSpec](d)
		if errs = append(errs, d.Locate(policy.ValidateGuardrail(&g))...); len(errs) == 0 {
			w.policies = append(w.policies, policy.CompileGuardrail(&g))
		}
		w.faults = append(w.faults, errs...)
		return
	}
	p, errs := manifest.Into[policy.Spec](d)
	errs = append(errs, d.Locate(policy.Validate(&p))...)
	w.faults = append(w.faults, errs...)
	if len(errs) == 0 {
		p.Metadata.Revision = int64(len(w.policies) + 1)
		w.policies = append(w.policies, policy.Compile(&p))
	}
}

func (w *world) service(key manifest.Key) policy.Service {
	for _, s := range w.services {
		if s.Key == key {
			return s
		}
	}
	return policy.Service{Key: key, Protocol: "http"}
}

func (w *world) caller(key manifest.Key) policy.Caller {
	for _, c := range w.callers {
		if c.Key == key {
			return c
		}
	}
	return policy.Caller{Key: key}
}

// effective answers "effective CALLER -> SERVICE [subset NAME] [route NAME]".
func (w *world) effective(question string) string {
	from, to, _ := strings.Cut(question, " -> ")
	to, of, _ := strings.Cut(to, " ")
	part := make(map[string]string)
	for words := strings.Fields(of); len(words) > 1; words = words[2:] {
		part[words[0]] = words[1]
	}
	svc, caller := w.service(catalog.ParseRef(to, "shop")), w.caller(catalog.ParseRef(from, "shop"))
	var applied []*policy.Compiled
	for _, c := range w.policies {
		if c.Matches(svc) && c.Applies(svc, caller) {
			applied = append(applied, c)
		}
	}
	e, problems := policy.Merge(svc, applied)
	e = e.Of(part["subset"], part["route"])
	var b strings.Builder
	for i, f := range e.AllFields() {
		if i >= len(e.Fields) {
			b.WriteString("observed ")
		}
		clamped := ""
		if f.Clamp != nil {
			clamped = fmt.Sprintf(" %s, clamped to %s by %s", inJSON(f.Clamp.From), inJSON(f.Clamp.To), f.Clamp.By)
		}
		fmt.Fprintf(&b, "%s: %s  # %s%s\n", f.Path, inJSON(f.Value), origin(f.Origin), clamped)
		for _, l := range f.Losers {
			fmt.Fprintf(&b, "    over %s  # %s\n", inJSON(l.Value), origin(l.Origin))
		}
	}
	for _, p := range problems {
		fmt.Fprintf(&b, "! %s %s (%s): %s\n", p.Reason, p.Loser.Policy.Key(), p.LoserPath, p.Message)
	}
	if b.Len() == 0 {
		return "nothing\n"
	}
	return b.String()
}

func inJSON(v any) string {
	data, _ := json.Marshal(v)
	return string(data)
}

func origin(o policy.Origin) string {
	if o.Default {
		return "default"
	}
	if o.Policy == (manifest.Key{}) {
		return "nobody's " + o.Path
	}
	return fmt.Sprintf("%s %s", o.Policy, o.Path)
}

// writes answers what an apply of all the policies at once would be refused for.
func (w *world) writes() string {
	var b strings.Builder
	for _, c := range policy.Conflicts(w.policies, w.services, w.callers, nil) {
		fmt.Fprintf(&b, "409 %s %s %s: %s\n", c.A.Policy.Key(), c.B.Policy.Key(), c.Field, c.Message)
	}
	for _, v := range policy.Check(w.services, w.callers, w.policies, nil) {
		status := "falls back"
		if v.Refused {
			status = "422"
		}
		caller := v.Caller.String()
		if v.Caller == (manifest.Key{}) {
			caller = "any other"
		}
		fmt.Fprintf(&b, "%s %s, %s -> %s: %s\n", status, v.Loser.Policy.Key(), caller, v.Service, v.Message)
	}
	for _, c := range w.policies {
		if c.Guardrail != nil {
			continue
		}
		for _, warning := range policy.Warnings(c.Policy) {
			fmt.Fprintf(&b, "warning %s %s: %s\n", c.Policy.Key(), warning.Field, warning.Message)
		}
	}
	if b.Len() == 0 {
		return "accepted\n"
	}
	return b.String()
}

func TestGoldens(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no goldens: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			w := load(t, archive.Files)
			if len(w.faults) > 0 {
				t.Fatal(w.faults)
			}
			changed := false
			for i, f := range archive.Files {
				var got string
				if question, ok := strings.CutPrefix(f.Name, "effective "); ok {
					got = w.effective(question)
				} else if f.Name == "writes" {
					got = w.writes()
				} else {
					continue
				}
				if diff := cmp.Diff(string(f.Data), got); diff != "" && !*update {
					t.Errorf("%s (-want +got):\n%s", f.Name, diff)
				}
				archive.Files[i].Data, changed = []byte(got), true
			}
			if *update && changed {
				if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
