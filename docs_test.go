package breakwater_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/breakwater-mesh/breakwater/pkg/agent"
	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/apiserver"
	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/controlplane"
	"github.com/breakwater-mesh/breakwater/pkg/envoy"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/settings"
	"github.com/breakwater-mesh/breakwater/pkg/telemetry"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

var update = flag.Bool("update", false, "write the generated parts of docs/ anew")

// What is generated stands between two markers.
var generatedPart = regexp.MustCompile(`(?s)<!-- generated: ([a-zA-Z ]+) -->\n(.*?)<!-- end -->`)

// TestGeneratedDocs compares the parts of docs/ that come from the code with the committed text.
func TestGeneratedDocs(t *testing.T) {
	parts := map[string]string{"later": laterTable(), "gates": gatesTable(), "inherent": inherentTable(), "settings": settingsTable(controlPlaneFlags()), "agent settings": settingsTable(agentFlags()), "agent pages": pagesTable(), "operations": operationsTable(t), "problems": problemsTable(t)}
	section := reflect.TypeFor[policy.Sections]()
	described := manifest.Describe[policy.Sections]("")
	for f := range section.Fields() {
		name := jsonName(f)
		parts[name] = fieldTable(t, section, described, name+".")
	}
	spec := manifest.Describe[policy.Spec]("")
	for _, side := range []string{"to", "from"} {
		parts[side] = fieldTable(t, reflect.TypeFor[policy.Spec](), spec, side+".")
	}
	service := manifest.Describe[catalog.ServiceSpec]("")
	service = slices.DeleteFunc(service, func(d manifest.FieldDoc) bool { return strings.HasPrefix(d.Path, "endpoints[]") })
	parts["Service"] = fieldTable(t, reflect.TypeFor[catalog.ServiceSpec](), service, "")
	guardrail := slices.DeleteFunc(manifest.Describe[policy.GuardrailSpec](""), func(d manifest.FieldDoc) bool { return !strings.HasPrefix(d.Path, "bounds[]") })
	parts["Guardrail"] = fieldTable(t, reflect.TypeFor[policy.GuardrailSpec](), guardrail, "")
	parts["Endpoint"] = fieldTable(t, reflect.TypeFor[catalog.EndpointSpec](), manifest.Describe[catalog.EndpointSpec](""), "")

	for _, file := range docs(t) {
		text := read(t, file)
		got := generatedPart.ReplaceAllStringFunc(text, func(part string) string {
			name := generatedPart.FindStringSubmatch(part)[1]
			table, ok := parts[name]
			if !ok {
				t.Errorf("%s: nothing generates %q, or it stands there twice", file, name)
			}
			delete(parts, name)
			return "<!-- generated: " + name + " -->\n" + table + "<!-- end -->"
		})
		switch {
		case got == text:
		case *update:
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		default:
			t.Errorf("%s is not what the code says; run go test -run Docs . -update and review the difference", file)
		}
	}
	for name := range parts {
		t.Errorf("no document has a place for %q: <!-- generated: %s --> ... <!-- end -->", name, name)
	}
}

// gatesTable is the fields of which some Envoy that is served knows nothing.
func gatesTable() string {
	var rows [][]string
	for _, f := range envoy.YoungFields() {
		short := strings.Split(f.API, ".")
		rows = append(rows, []string{"`" + f.Field + "`", f.Since, "`" + strings.Join(short[len(short)-2:], ".") + "`", f.Without})
	}
	return table([]string{"field", "since Envoy", "its field", "an older Envoy"}, rows)
}

// inherentTable is what no policy can bring nearer.
func inherentTable() string {
	var rows [][]string
	for _, i := range envoy.InherentDifferences() {
		rows = append(rows, []string{"`" + i.Field + "`", strings.Join(i.Profiles, ", "), i.Reason})
	}
	return table([]string{"field", "at", "whatever is written"}, rows)
}

func docs(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("docs/*.md")
	if err != nil || len(files) == 0 {
		t.Fatalf("no documents: %v", err)
	}
	return append(files, "README.md")
}

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

// fieldTable is a table of the fields whose path starts with prefix.
func fieldTable(t *testing.T, in reflect.Type, described []manifest.FieldDoc, prefix string) string {
	t.Helper()
	var rows [][]string
	for _, d := range described {
		name, ok := strings.CutPrefix(d.Path, prefix)
		if !ok {
			continue
		}
		tag := tagOf(t, in, d.Path)
		rows = append(rows, []string{"`" + name + "`", d.Doc, values(d, tag), d.Default, d.Scope, d.Effect, gets(d.Path)})
	}
	return table([]string{"field", "what", "values", "default (whose)", "scope", "a change", "Envoy gets"}, rows)
}

// values is what a field takes.
func values(d manifest.FieldDoc, tag reflect.StructTag) string {
	text := d.Type
	switch {
	case len(d.Values) > 0:
		text = "`" + strings.Join(d.Values, "`, `") + "`"
	case mark(d.Path):
		text = "`true`"
	case d.Type == "methods":
		text = "`safe`, `idempotent`, `all`, or a list"
	case d.Type == "count":
		text = "number or `unlimited`"
	}
	if tag.Get("allow") == "none" {
		text += " or `none`"
	}
	switch {
	case d.Minimum != "" && d.Maximum != "":
		text += ", " + d.Minimum + " to " + d.Maximum
	case d.Minimum != "":
		text += ", at least " + d.Minimum
	case d.Maximum != "":
		text += ", 0 to " + d.Maximum
	}
	if d.Unit != "" && d.Unit != d.Type {
		text += " (" + d.Unit + ")"
	}
	if later := tag.Get("later"); later != "" {
		text += "; not supported yet: `" + strings.ReplaceAll(later, ",", "`, `") + "`"
	}
	return text
}

// mark reports whether a field says something of its whole section: it is only ever true.
func mark(path string) bool {
	return strings.HasSuffix(path, ".disabled") || strings.HasSuffix(path, ".observe")
}

// tagOf finds the tag of the field at a path such as retry.backOff.base.
func tagOf(t *testing.T, in reflect.Type, path string) reflect.StructTag {
	t.Helper()
	var tag reflect.StructTag
	for name := range strings.SplitSeq(strings.ReplaceAll(path, "[]", ""), ".") {
		for in.Kind() == reflect.Pointer || in.Kind() == reflect.Slice {
			in = in.Elem()
		}
		i := slices.IndexFunc(reflect.VisibleFields(in), func(f reflect.StructField) bool { return jsonName(f) == name })
		if i < 0 {
			t.Fatalf("%s: there is no field %s", path, name)
		}
		f := reflect.VisibleFields(in)[i]
		in, tag = f.Type, f.Tag
	}
	return tag
}

func table(head []string, rows [][]string) string {
	var b strings.Builder
	line := func(cells []string) { b.WriteString("| " + strings.Join(cells, " | ") + " |\n") }
	line(head)
	line(slices.Repeat([]string{"---"}, len(head)))
	for _, r := range rows {
		for i := range r {
			r[i] = strings.ReplaceAll(r[i], "|", `\|`)
		}
		line(r)
	}
	return b.String()
}

// laterTable lists the words that the decoder knows and refuses.
func laterTable() string {
	var rows [][]string
	add := func(where string, of interface{ NotYet() map[string]string }) {
		var names []string
		for name, answer := range of.NotYet() {
			if answer == manifest.NotYet {
				names = append(names, "`"+name+"`")
			}
		}
		slices.Sort(names)
		rows = append(rows, []string{where, strings.Join(names, ", ")})
	}
	add("Service, in `spec.discovery`", catalog.Discovery{})
	return table([]string{"where", "refused with \"not supported yet\""}, rows)
}

// program is the flags of a program, the prefix of its environment, and its own check of what they were set to.
type program struct {
	flags    *pflag.FlagSet
	prefix   string
	validate func() error
}

func controlPlaneFlags() program {
	c, fs := controlplane.Defaults(), pflag.NewFlagSet("", pflag.ContinueOnError)
	c.Flags(fs)
	return program{fs, controlplane.EnvPrefix, c.Validate}
}

func agentFlags() program {
	c, fs := agent.Defaults(), pflag.NewFlagSet("", pflag.ContinueOnError)
	c.NodeID = "the host's name"
	c.Flags(fs)
	return program{fs, agent.EnvPrefix, c.Validate}
}

// settingsTable lists the flags of a program.
func settingsTable(p program) string {
	var rows [][]string
	p.flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		env := settings.Env(p.prefix, f.Name)
		def := f.DefValue
		if def != "" {
			def = "`" + def + "`"
		}
		rows = append(rows, []string{"`--" + f.Name + "`", "`" + env + "`", def, f.Usage})
	})
	return table([]string{"flag", "environment", "default", "what"}, rows)
}

// pagesTable lists the pages of the agent's admin port.
func pagesTable() string {
	var rows [][]string
	for _, p := range agent.Pages() {
		rows = append(rows, []string{"`" + p[0] + "`", p[1]})
	}
	return table([]string{"page", "what"}, rows)
}

// operationsTable lists what the served OpenAPI document has.
func operationsTable(t *testing.T) string {
	t.Helper()
	r := httptest.NewRequest("GET", "/openapi.json", nil)
	r.Host = "localhost"
	w := httptest.NewRecorder()
	apiserver.New(apiserver.Config{}).ServeHTTP(w, r)
	var doc struct {
		Paths map[string]map[string]struct{ Summary string }
	}
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	var rows [][]string
	for path, methods := range doc.Paths {
		for method, op := range methods {
			rows = append(rows, []string{"`" + strings.ToUpper(method) + " " + path + "`", op.Summary})
		}
	}
	slices.SortFunc(rows, func(a, b []string) int {
		return strings.Compare(pathFirst(a[0]), pathFirst(b[0]))
	})
	return table([]string{"request", "what"}, rows)
}

// pathFirst is "`GET /x`" as "/x GET": what to sort by.
func pathFirst(request string) string {
	method, path, _ := strings.Cut(strings.Trim(request, "`"), " ")
	return path + " " + method
}

// problemsTable lists the constants of pkg/api with what their comments say.
func problemsTable(t *testing.T) string {
	t.Helper()
	var rows [][]string
	constant := regexp.MustCompile(`(?m)^\s+\w+\s+ProblemType = typePrefix \+ "([a-z-]+)"\s+// (\d+)(?:: (.*))?$`)
	for _, m := range constant.FindAllStringSubmatch(read(t, "pkg/api/problem.go"), -1) {
		rows = append(rows, []string{"`urn:breakwater:problem:" + m[1] + "`", m[2], m[3]})
	}
	return table([]string{"type", "status", "when"}, rows)
}

// block is a fenced block of a document.
type block struct{ kind, text, where string }

var fenced = regexp.MustCompile("(?ms)^```([a-z][a-z :]*)\n(.*?)^```$")

func blocks(t *testing.T) []block {
	t.Helper()
	var list []block
	for _, file := range docs(t) {
		text := read(t, file)
		for _, at := range fenced.FindAllStringSubmatchIndex(text, -1) {
			line := 1 + strings.Count(text[:at[0]], "\n")
			list = append(list, block{text[at[2]:at[3]], text[at[4]:at[5]], fmt.Sprintf("%s:%d", file, line)})
		}
	}
	return list
}

// TestDocsManifests takes every manifest of the documents and every file of examples/ as an apply would.
func TestDocsManifests(t *testing.T) {
	n := 0
	for _, b := range blocks(t) {
		if b.kind == "yaml" {
			n++
			t.Run(b.where, func(t *testing.T) { acceptable(t, b.text) })
		}
	}
	if n < 5 {
		t.Errorf("only %d manifests found in the documents", n)
	}
	for _, file := range examples(t) {
		t.Run(file, func(t *testing.T) { acceptable(t, read(t, file)) })
	}
}

// acceptable decodes and validates documents, looks for conflicts and invalid merges among them, and compiles what comes out.
func acceptable(t *testing.T, text string) {
	t.Helper()
	documents, faults := manifest.Decode("", []byte(text), manifest.YAML, manifest.Limits{})
	var all []*policy.Compiled
	services := []*catalog.Service{{}}
	services[0].Metadata = manifest.Meta{Namespace: "shop", Name: "payments"}
	for _, d := range documents {
		switch d.Kind {
		case policy.Kind:
			p, found := manifest.Into[policy.Spec](d)
			p.Metadata = withNamespace(p.Metadata)
			faults = append(append(faults, found...), policy.Validate(&p)...)
			if len(faults) == 0 {
				all = append(all, policy.Compile(&p))
			}
		case policy.GuardrailKind:
			g, found := manifest.Into[policy.GuardrailSpec](d)
			g.Metadata = withNamespace(g.Metadata)
			faults = append(append(faults, found...), policy.ValidateGuardrail(&g)...)
			if len(faults) == 0 {
				all = append(all, policy.CompileGuardrail(&g))
			}
		case catalog.Kind:
			s, found := manifest.Into[catalog.ServiceSpec](d)
			s.Metadata = withNamespace(s.Metadata)
			faults = append(append(faults, found...), catalog.Validate(&s)...)
			services = append(services, &s)
		default:
			t.Errorf("kind %q", d.Kind)
		}
	}
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	var called []policy.Service
	var callers []policy.Caller
	for _, s := range services {
		called = append(called, policy.Service{Key: s.Key(), Labels: s.Metadata.Labels, Protocol: string(catalog.ProtocolOf(s))})
		callers = append(callers, policy.Caller{Key: s.Key(), Labels: s.Metadata.Labels})
	}
	for _, c := range policy.Conflicts(all, called, callers, nil) {
		t.Error(c.Message)
	}
	for _, v := range policy.Check(called, callers, all, nil) {
		t.Error(v.Message)
	}
	slices.SortFunc(all, func(a, b *policy.Compiled) int {
		if a.Less(b) {
			return -1
		}
		return 1
	})
	for i, s := range services {
		matching := slices.DeleteFunc(slices.Clone(all), func(c *policy.Compiled) bool { return !c.Matches(called[i]) })
		compiled(t, s, matching)
	}
}

func withNamespace(m manifest.Meta) manifest.Meta {
	if m.Namespace == "" {
		m.Namespace = manifest.DefaultNamespace
	}
	return m
}

// compiled is a service as a sidecar with runtime layers gets it.
func compiled(t *testing.T, s *catalog.Service, applied []*policy.Compiled) envoy.Compiled {
	t.Helper()
	eff, _ := policy.Merge(policy.Service{Key: s.Key(), Labels: s.Metadata.Labels, Protocol: string(catalog.ProtocolOf(s))}, applied)
	c, err := envoy.Service(envoy.Target{Profile: "sidecar", Version: "1.40", Runtime: true}, s, eff)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestDocsAnswers reads every answer in the documents as what it claims to be.
func TestDocsAnswers(t *testing.T) {
	kinds := map[string]func() any{
		"json problem": func() any { return new(api.Problem) }, "json proxies": func() any { return new(api.ProxyList) },
		"json delivery": func() any { return new(api.Delivery) }, "json policy": func() any { return new(api.PolicyResponse) }, "json effective": func() any { return new(api.EffectiveResponse) },
		"json apply": func() any { return new(api.ApplyResult) },
	}
	n := 0
	for _, b := range blocks(t) {
		fresh, ok := kinds[b.kind]
		if !ok {
			if strings.HasPrefix(b.kind, "json") {
				t.Errorf("%s: a block of kind %q is checked by nothing", b.where, b.kind)
			}
			continue
		}
		n++
		d := json.NewDecoder(strings.NewReader(b.text))
		d.DisallowUnknownFields()
		if err := d.Decode(fresh()); err != nil {
			t.Errorf("%s: %v", b.where, err)
		}
	}
	if n == 0 {
		t.Error("no answers found in the documents")
	}
}

// TestDocsSettingsFile reads the documents' settings files.
func TestDocsSettingsFile(t *testing.T) {
	programs := map[string]func() program{"yaml settings": controlPlaneFlags, "yaml agent settings": agentFlags}
	seen := map[string]bool{}
	for _, b := range blocks(t) {
		flags, ok := programs[b.kind]
		if !ok {
			continue
		}
		seen[b.kind] = true
		file := filepath.Join(t.TempDir(), "breakwater.yaml")
		if err := os.WriteFile(file, []byte(b.text), 0o600); err != nil {
			t.Fatal(err)
		}
		p := flags()
		if err := settings.Complete(p.flags, p.prefix, file, func(string) string { return "" }); err != nil {
			t.Errorf("%s: %v", b.where, err)
		} else if err := p.validate(); err != nil {
			t.Errorf("%s: %v", b.where, err)
		}
	}
	if len(seen) != len(programs) {
		t.Errorf("of the settings files that the documents should have, found are %v", seen)
	}
}

// TestDocsMetrics compares the metrics named in docs/operations.md with those that are served.
func TestDocsMetrics(t *testing.T) {
	metric := regexp.MustCompile(`breakwater_[a-z_]+`)
	named := metric.FindAllString(read(t, "docs/operations.md"), -1)
	served := metric.FindAllString(servedMetrics(), -1)
	for _, name := range named {
		if !slices.Contains(served, name) {
			t.Errorf("docs/operations.md names %s, which is not served", name)
		}
	}
	for _, name := range served {
		base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_sum"), "_count")
		if !slices.Contains(named, name) && !slices.Contains(named, base) {
			t.Errorf("docs/operations.md does not name %s", name)
		}
	}
}

// servedMetrics is what a control plane's /metrics says once everything has happened.
func servedMetrics() string {
	m := telemetry.NewMetrics()
	m.StaleSince(func() (time.Time, bool) { return time.Time{}, false })
	m.Quarantined(func() int { return 0 })
	m.Leased([]string{"live"}, func(string) int { return 0 })
	m.Stream("envoy", "delta", 1)
	m.Refused("memory")
	m.Sent(view.CDS, 1, 1)
	m.Acked(view.CDS, time.Millisecond)
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return w.Body.String()
}
