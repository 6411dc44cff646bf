package envoy

import (
	"bytes"
	stdcmp "cmp"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/breakwater-mesh/breakwater/internal/testkit/golden"
	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

var update = flag.Bool("update", false, "write the goldens anew")

// A golden holds a service, its policies, the caller and the target, and what comes out: xDS, runtime keys, fidelity.
type goldenCase struct {
	service  *catalog.Service
	policies []*policy.Policy
	caller   policy.Caller
	target   Target
}

func TestGoldens(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no goldens: %v", err)
	}
	profiles, _ := filepath.Glob("testdata/*/*.txtar") // of other profiles than a sidecar's
	for _, file := range append(files, profiles...) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			g := readGolden(t, archive)
			out := g.outputs(t)
			if *update {
				writeGolden(t, file, archive, out)
				return
			}
			for _, want := range out {
				if d := cmp.Diff(golden.Section(archive, want.Name), string(want.Data)); d != "" {
					t.Errorf("%s (-want +got):\n%s", want.Name, d)
				}
			}
		})
	}
}

// eachGolden calls f with every golden.
func eachGolden(t *testing.T, f func(goldenCase)) {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no goldens: %v", err)
	}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		f(readGolden(t, archive))
	}
}

func readGolden(t *testing.T, a *txtar.Archive) goldenCase {
	t.Helper()
	g := goldenCase{
		caller: policy.Caller{Key: manifest.Key{Namespace: "shop", Name: "orders"}},
		target: Target{Profile: stdcmp.Or(strings.TrimSpace(golden.Section(a, "profile")), Sidecar), Version: "1.40", Runtime: golden.Section(a, "runtime") != "false\n"},
	}
	if from := strings.TrimSpace(golden.Section(a, "caller")); from != "" {
		ns, name, _ := strings.Cut(from, "/")
		g.caller.Key = manifest.Key{Namespace: ns, Name: name}
	}
	g.service, g.policies = golden.Service(t, a), golden.Policies(t, a)
	return g
}

func (g goldenCase) effective() *policy.Effective {
	called := policy.Service{Key: g.service.Key(), Labels: g.service.Metadata.Labels, Protocol: string(g.service.Spec.Protocol)}
	var applied []*policy.Compiled
	for _, p := range g.policies {
		if c := policy.Compile(p); c.Applies(called, g.caller) {
			applied = append(applied, c)
		}
	}
	slices.SortFunc(applied, (*policy.Compiled).Compare)
	eff, _ := policy.Merge(called, applied)
	return eff
}

func (g goldenCase) outputs(t *testing.T) []txtar.File {
	t.Helper()
	eff := g.effective()
	c, err := Service(g.target, g.service, eff)
	if err != nil {
		t.Fatal(err)
	}
	assignments := assignmentsFor(t, g, slices.Concat([]*view.Resource{c.Cluster}, c.Subsets))
	files := []txtar.File{
		{Name: "effective", Data: []byte(effectiveText(eff))},
		{Name: "limits", Data: []byte(limitsText(c.Limits))},
		{Name: "fidelity", Data: []byte(fidelityText(Report(g.target, g.service, eff)))},
		{Name: "cluster.json", Data: jsonOf(t, c.Cluster)},
	}
	if len(assignments) > 0 {
		files = append(files, txtar.File{Name: "assignment.json", Data: jsonOf(t, assignments[0])})
	}
	if c.Route != nil {
		files = slices.Insert(files, 4, txtar.File{Name: "route.json", Data: jsonOf(t, c.Route)})
	}
	if c.Local != nil {
		files = slices.Insert(files, 4, txtar.File{Name: "listener.json", Data: jsonOf(t, c.Local)})
	}
	for _, r := range slices.Concat(c.Subsets, assignments[min(1, len(assignments)):]) {
		_, subset, _ := strings.Cut(r.Name, "|")
		files = append(files, txtar.File{Name: subset + "-" + r.Type.String() + ".json", Data: jsonOf(t, r)})
	}
	for _, r := range c.Faults {
		files = append(files, txtar.File{Name: r.Name + "-" + r.Type.String() + ".json", Data: jsonOf(t, r)})
	}
	for _, r := range c.Composites {
		files = append(files, txtar.File{Name: r.Name + ".json", Data: jsonOf(t, r)})
	}
	return append(files, partFiles(eff)...)
}

// assignmentsFor are the assignments of clusters.
func assignmentsFor(t *testing.T, g goldenCase, clusters []*view.Resource) []*view.Resource {
	t.Helper()
	var list []*view.Resource
	for _, target := range []Target{{}, g.target} {
		all, err := target.Assignments(g.service, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range all {
			same := func(other *view.Resource) bool { return other.Name == r.Name }
			if slices.ContainsFunc(clusters, same) && !slices.ContainsFunc(list, same) {
				list = append(list, r)
			}
		}
	}
	return list
}

// partFiles are what differs for parts of the service.
func partFiles(eff *policy.Effective) []txtar.File {
	var files []txtar.File
	for _, name := range slices.Sorted(maps.Keys(eff.Subsets)) {
		files = append(files, txtar.File{Name: "effective subset " + name, Data: []byte(effectiveText(eff.Of(name, "")))})
	}
	for _, name := range slices.Sorted(maps.Keys(eff.Routes)) {
		files = append(files, txtar.File{Name: "effective route " + name, Data: []byte(effectiveText(eff.Of("", name)))})
	}
	return files
}

func effectiveText(e *policy.Effective) string {
	text := fieldsText(e.Fields)
	if e.Observed != nil {
		for line := range strings.Lines(fieldsText(e.Observed.Fields)) {
			text += "observed " + line
		}
	}
	return text
}

func fieldsText(fields []policy.Field) string {
	var b strings.Builder
	for _, f := range fields {
		value, _ := json.Marshal(f.Value)
		fmt.Fprintf(&b, "%s = %s <- %s", f.Path, value, originText(f.Origin))
		for _, l := range f.Losers {
			value, _ := json.Marshal(l.Value)
			fmt.Fprintf(&b, ", over %s of %s", value, originText(l.Origin))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func originText(o policy.Origin) string {
	if o.Default {
		return "default"
	}
	return o.Policy.String() + " " + o.Path
}

func limitsText(keys []RuntimeKey) string {
	var b strings.Builder
	for _, k := range keys {
		fmt.Fprintf(&b, "%s = %d\n", k.Key, k.Value)
	}
	return b.String()
}

func fidelityText(report []Fidelity) string {
	var b strings.Builder
	for _, f := range report {
		if f.Level != Exact {
			fmt.Fprintf(&b, "%s: %s: %s", f.Field, f.Level, f.Reason)
			if f.Instead != "" {
				fmt.Fprintf(&b, " (instead: %s)", f.Instead)
			}
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// message is the resource's proto.
func messageOf(t *testing.T, r *view.Resource) proto.Message {
	t.Helper()
	a := new(anypb.Any)
	if err := proto.Unmarshal(r.Any(), a); err != nil {
		t.Fatal(err)
	}
	m, err := a.UnmarshalNew()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// jsonOf is the resource as JSON, laid out always alike, which protojson alone is not.
func jsonOf(t *testing.T, r *view.Resource) []byte {
	t.Helper()
	data, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(messageOf(t, r))
	if err != nil {
		t.Fatal(err)
	}
	var compact, out bytes.Buffer
	if err := json.Compact(&compact, data); err != nil {
		t.Fatal(err)
	}
	if err := json.Indent(&out, compact.Bytes(), "", " "); err != nil {
		t.Fatal(err)
	}
	return append(out.Bytes(), '\n')
}

func writeGolden(t *testing.T, file string, a *txtar.Archive, out []txtar.File) {
	t.Helper()
	next := &txtar.Archive{Comment: a.Comment}
	for _, f := range a.Files {
		if !slices.ContainsFunc(out, func(o txtar.File) bool { return o.Name == f.Name }) {
			next.Files = append(next.Files, f)
		}
	}
	next.Files = append(next.Files, out...)
	if err := os.WriteFile(file, txtar.Format(next), 0o644); err != nil {
		t.Fatal(err)
	}
}
