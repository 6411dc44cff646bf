package manifest

import (
	"fmt"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// thing is a spec with one field of every sort.
type thing struct {
	Name    string            `json:"name,omitempty"`
	Count   *uint32           `json:"count,omitempty"`
	Rank    *int32            `json:"rank,omitempty"`
	Flag    *bool             `json:"flag,omitempty"`
	Wait    *Duration         `json:"wait,omitempty"`
	Most    *Count            `json:"most,omitempty"`
	Words   []string          `json:"words,omitempty"`
	Codes   []uint32          `json:"codes,omitempty"`
	Opt     *[]string         `json:"opt,omitempty"`
	Match   map[string]string `json:"match,omitempty"`
	Section *section          `json:"section,omitempty"`
	Many    []section         `json:"many,omitempty"`
	Embedded
}

type Embedded struct {
	Deep *section `json:"deep,omitempty"`
}

type section struct {
	NumRetries *uint32   `json:"numRetries,omitempty"`
	BackOff    *Duration `json:"backOff,omitempty"`
}

func (section) NotYet() map[string]string { return map[string]string{"hedge": NotYet} }

const head = "apiVersion: breakwater/v1alpha1\nkind: Thing\nmetadata: {name: a}\n"

// read decodes text and reads every document as a thing; faults come back one a line.
func read(text string, format Format) ([]Object[thing], string) {
	docs, errs := Decode("", []byte(text), format, Limits{})
	var objects []Object[thing]
	for _, d := range docs {
		o, more := Into[thing](d)
		objects, errs = append(objects, o), append(errs, more...)
	}
	return objects, errs.Sorted().Error()
}

func TestDecodeReadsEverySort(t *testing.T) {
	text := head + `spec:
  name: payments
  count: 7
  rank: -3
  flag: true
  wait: 1m30s
  most: unlimited
  words: [a, b]
  codes: [503]
  opt: []
  match: {app.kubernetes.io/name: web}
  section: {numRetries: 2}
  many: [{backOff: 25ms}]
  deep: {numRetries: 4}
status: {whatever: null}
`
	objects, faults := read(text, YAML)
	if faults != "" || len(objects) != 1 {
		t.Fatalf("faults = %s, objects = %d", faults, len(objects))
	}
	want := thing{
		Name: "payments", Count: new(uint32(7)), Rank: new(int32(-3)), Flag: new(true), Wait: new(Duration("1m30s")), Most: new(Unlimited),
		Words: []string{"a", "b"}, Codes: []uint32{503}, Opt: &[]string{}, Match: map[string]string{"app.kubernetes.io/name": "web"},
		Section: &section{NumRetries: new(uint32(2))}, Many: []section{{BackOff: new(Duration("25ms"))}},
		Embedded: Embedded{&section{NumRetries: new(uint32(4))}},
	}
	if diff := cmp.Diff(want, objects[0].Spec, cmp.Exporter(func(reflect.Type) bool { return true })); diff != "" {
		t.Errorf("spec differs (-want +got):\n%s", diff)
	}
}

func TestDecodeFaults(t *testing.T) {
	for _, tt := range []struct {
		name, spec, want string
	}{
		{"unknown field with a guess", "spec: {section: {numRetrys: 1}}", "4:18: spec.section.numRetrys: unknown field: did you mean numRetries?"},
		{"wrong case", "spec: {section: {NUMRETRIES: 1}}", "4:18: spec.section.NUMRETRIES: unknown field: did you mean numRetries?"},
		{"in the wrong place", "spec: {numRetries: 1}", "4:8: spec.numRetries: unknown field: did you mean section.numRetries or deep.numRetries?"},
		{"no guess", "spec: {zzzzzz: 1}", "4:8: spec.zzzzzz: unknown field"},
		{"to come", "spec: {section: {hedge: {a: 1}}}", "4:18: spec.section.hedge: not supported yet"},
		{"duplicate", "spec: {name: a, name: b}", "4:17: spec.name: is there twice: the first is on line 4"},
		{"null", "spec: {name: null}", "4:14: spec.name: null is no value: leave the field out"},
		{"nothing", "spec: {name: }", "4:14: spec.name: null is no value: leave the field out"},
		{"tilde", "spec: {name: ~}", "4:14: spec.name: null is no value: leave the field out"},
		{"empty section", "spec: {section: {}}", "4:17: spec.section: is empty: set a field or leave it out"},
		{"empty list", "spec: {words: []}", "4:15: spec.words: is empty: name at least one or leave it out"},
		{"empty spec", "spec: {}", "4:7: spec: is empty: set a field or leave it out"},
		{"bare number for a duration", "spec: {wait: 5}", "4:14: spec.wait: write a unit, such as 5s or 5ms"},
		{"fraction for a duration", "spec: {wait: 0.5}", "4:14: spec.wait: write a unit, such as 5s or 250ms"},
		{"list for a duration", "spec: {wait: [5s]}", "4:14: spec.wait: must be a duration such as 5s, not a list"},
		{"number for text", "spec: {name: 5}", "4:14: spec.name: must be text, not a number: put it in quotes"},
		{"date for text", "spec: {name: 2024-01-01}", "4:14: spec.name: must be text, not a date: put it in quotes"},
		{"text for a number", "spec: {count: many}", "4:15: spec.count: must be a whole number, not \"many\""},
		{"quoted number", "spec: {count: \"5\"}", "4:15: spec.count: must be a number, not text: remove the quotes"},
		{"negative", "spec: {count: -1}", "4:15: spec.count: must not be negative"},
		{"huge", "spec: {count: 99999999999999999999}", "4:15: spec.count: must be at most 4294967295"},
		{"beyond 32 bits", "spec: {count: 4294967296}", "4:15: spec.count: must be at most 4294967295"},
		{"exponent", "spec: {count: 1e3}", "4:15: spec.count: must be a whole number, in digits"},
		{"fraction", "spec: {count: 1.5}", "4:15: spec.count: must be a whole number, in digits"},
		{"hexadecimal", "spec: {count: 0x10}", "4:15: spec.count: must be written in decimal digits"},
		{"octal", "spec: {count: 010}", "4:15: spec.count: must be written in decimal digits"},
		{"underscore", "spec: {count: 1_000}", "4:15: spec.count: must be written in decimal digits"},
		{"not a number", "spec: {count: .nan}", "4:15: spec.count: must be a whole number"},
		{"signed out of range", "spec: {rank: 3000000000}", "4:14: spec.rank: must be between -2147483648 and 2147483647"},
		{"yes", "spec: {flag: yes}", "4:14: spec.flag: must be true or false"},
		{"loud true", "spec: {flag: TRUE}", "4:14: spec.flag: must be true or false"},
		{"count of words", "spec: {most: lots}", "4:14: spec.most: must be a number or \"unlimited\", not \"lots\""},
		{"count unlimited by number", "spec: {most: 4294967295}", "4:14: spec.most: must be less than 4294967295: write \"unlimited\" for no limit"},
		{"index in a path", "spec: {words: [a, 5]}", "4:19: spec.words[1]: must be text, not a number: put it in quotes"},
		{"index of an object", "spec: {many: [{numRetries: -1}]}", "4:28: spec.many[0].numRetries: must not be negative"},
		{"text for a list", "spec: {words: a}", "4:15: spec.words: must be a list, not \"a\""},
		{"list for a section", "spec: {section: [a]}", "4:17: spec.section: must be an object with fields, not a list"},
		{"list for a number", "spec: {count: [1]}", "4:15: spec.count: must be a whole number, not a list"},
		{"text for labels", "spec: {match: a}", "4:15: spec.match: must be an object of keys and values, not \"a\""},
		{"anchor", "spec: {name: &a b}", "4:14: spec.name: anchors are not accepted: write the value out where it is needed"},
		{"tag", "spec: {name: !!str b}", "4:14: spec.name: tags are not accepted: leave !!str out"},
		{"own tag", "spec: {name: !thing b}", "4:14: spec.name: tags are not accepted: leave !thing out"},
		{"control character by escape", "spec: {name: \"a\\0b\"}", "4:14: spec.name: has a control character"},
		{"a list as key", "spec: {[a]: b}", "4:8: spec: a key must be text"},
		{"merge key", "spec: {<<: {name: a}}", "4:8: spec: merge keys are not accepted: write the fields out"},
		{"nested too deeply", "spec: " + strings.Repeat("[", 40) + strings.Repeat("]", 40), "4:7: spec: must be an object with fields, not a list\n4:38: spec" + strings.Repeat("[0]", 31) + ": is nested too deeply"},
		{"several at once", "spec:\n  name: 5\n  wait: 5\n  section: {}\n", "5:9: spec.name: must be text, not a number: put it in quotes\n6:9: spec.wait: write a unit, such as 5s or 5ms\n7:12: spec.section: is empty: set a field or leave it out"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, got := read(head+tt.spec+"\n", YAML); got != tt.want {
				t.Errorf("faults:\n%s\nwant:\n%s", got, tt.want)
			}
		})
	}
}

func TestDecodeFaultsOfTheWhole(t *testing.T) {
	for _, tt := range []struct {
		name, text, want string
		format           Format
	}{
		{"empty", "", "there is no object in the input", YAML},
		{"only separators", "---\n---\n# nothing\n", "there is no object in the input", YAML},
		{"text", "hello\n", "1:1: must be an object with apiVersion, kind, metadata and spec", YAML},
		{"list", "- a\n", "1:1: must be an object with apiVersion, kind, metadata and spec", YAML},
		{"nothing said", "spec: {name: a}\n", "1:1: apiVersion: is required\n1:1: kind: is required\n1:1: metadata: is required", YAML},
		{"empty kind", "apiVersion: breakwater/v1alpha1\nkind: ''\nmetadata: {name: a}\nspec: {name: a}\n", "2:7: kind: is required", YAML},
		{"another version", "apiVersion: v1\nkind: Thing\nmetadata: {name: a}\nspec: {name: a}\n", "1:13: apiVersion: must be breakwater/v1alpha1, not \"v1\"", YAML},
		{"unknown at the top", head + "spec: {name: a}\nspecs: {}\n", "5:1: specs: unknown field: did you mean spec?", YAML},
		{"unknown in metadata", "apiVersion: breakwater/v1alpha1\nkind: Thing\nmetadata: {name: a, label: {}}\nspec: {name: a}\n", "3:21: metadata.label: unknown field: did you mean labels?", YAML},
		{"syntax", head + "spec: [a\n", "5:1: not valid YAML: did not find expected ',' or ']'", YAML},
		{"tab", head + "spec:\n\tname: a\n", "5:1: not valid YAML: found character that cannot start any token", YAML},
		{"unknown alias", head + "spec: {name: *a}\n", "4:14: not valid YAML: unknown anchor 'a' referenced", YAML},
		{"not UTF-8", "kind: \xff\n", "1:7: the input is not UTF-8", YAML},
		{"NUL", "kind: a\x00b\n", "1:8: the input has the control character U+0000", YAML},
		{"YAML for JSON", head, "1:1: not valid JSON: invalid character 'a' looking for beginning of value", JSON},
		{"JSON cut off", `{"apiVersion": "breakwater/v1alpha1",`, "1:38: not valid JSON: it ends too early", JSON},
		{"JSON with a comma too many", `{"a": [1,]}`, "1:10: not valid JSON: invalid character ']' looking for beginning of value", JSON},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, got := read(tt.text, tt.format); got != tt.want {
				t.Errorf("faults:\n%s\nwant:\n%s", got, tt.want)
			}
		})
	}
}

func TestDecodeJSON(t *testing.T) {
	text := "{\n  \"apiVersion\": \"breakwater/v1alpha1\", \"kind\": \"Thing\",\n  \"metadata\": {\"name\": \"a\"},\n" +
		"  \"spec\": {\"name\": \"\\ud83d\\ude00\", \"count\": -1,\n    \"name\": \"b\", \"wait\": 5, \"é\": 1, \"flag\": null}\n}\n"
	_, got := read(text, JSON)
	want := "4:45: spec.count: must not be negative\n5:5: spec.name: is there twice: the first is on line 4\n5:26: spec.wait: write a unit, such as 5s or 5ms\n" +
		"5:29: spec[\"é\"]: unknown field\n5:45: spec.flag: null is no value: leave the field out"
	if got != want {
		t.Errorf("faults:\n%s\nwant:\n%s", got, want)
	}
}

func TestDecodeIgnoresTheServersFields(t *testing.T) {
	text := "apiVersion: breakwater/v1alpha1\nkind: Thing\nmetadata: {name: a, uid: x, revision: 7, generation: 2, createdAt: 2026-01-02T03:04:05Z, updatedBy: me}\nspec: {name: a}\nstatus: [1]\n"
	objects, faults := read(text, YAML)
	if faults != "" {
		t.Fatal(faults)
	}
	if diff := cmp.Diff(Meta{Name: "a"}, objects[0].Metadata); diff != "" {
		t.Errorf("metadata (-want +got):\n%s", diff)
	}
}

func TestDecodeManyDocuments(t *testing.T) {
	objects, faults := read(head+"spec: {name: one}\n---\n"+head+"spec: {name: 2}\n---\n---\n"+head+"spec: {name: three}\n...\n", YAML)
	if want := "9:14: spec.name: must be text, not a number: put it in quotes"; faults != want {
		t.Errorf("faults = %s, want %s", faults, want)
	}
	if len(objects) != 3 || objects[2].Spec.Name != "three" {
		t.Errorf("objects = %+v, want 3", objects)
	}
	one := `{"apiVersion":"breakwater/v1alpha1","kind":"Thing","metadata":{"name":"a"},"spec":{"name":"x"}}`
	if objects, faults := read(one+"\n"+one, JSON); len(objects) != 2 || faults != "" {
		t.Errorf("two JSON values: %d objects, faults %s", len(objects), faults)
	}
}

func TestDecodeIsBounded(t *testing.T) {
	bomb := "apiVersion: breakwater/v1alpha1\nkind: Thing\nmetadata: {name: a}\na: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		bomb += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c,", c-1), 9), ","))
	}
	for name, text := range map[string]string{
		"bomb":           bomb,
		"deep lists":     strings.Repeat("[", 1<<20),
		"deep objects":   strings.Repeat("{a: ", 1<<18),
		"deep blocks":    strings.Repeat("- ", 1<<19),
		"many documents": strings.Repeat("---\na\n", 1<<17),
		"many faults":    head + "spec: {" + strings.Repeat("x: 1, ", 1<<16) + "}",
		"long key":       strings.Repeat("a", 1<<20) + ": 1",
		"long line":      head + "spec: {words: [" + strings.Repeat("a, ", 1<<18) + "a]}",
		"too large":      strings.Repeat("#", 10<<20),
	} {
		for _, format := range []Format{YAML, JSON} {
			before := worked(t)
			_, faults := read(text, format)
			if took := worked(t) - before; took > 30*time.Second { // some 100 ms, and seconds under the race detector
				t.Errorf("%s took %v", name, took)
			}
			if n := strings.Count(faults, "\n"); n > 20*maxFaults {
				t.Errorf("%s: %d lines of faults", name, n)
			}
			if faults == "" && name != "long line" {
				t.Errorf("%s: no fault", name)
			}
		}
	}
}

// worked is how long this process has had a processor: what else the machine does is not in it.
func worked(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func TestLocate(t *testing.T) {
	docs, errs := Decode("p.yaml", []byte(head+"spec:\n  section: {numRetries: 3, backOff: 7}\n"), YAML, Limits{})
	if len(errs) != 0 {
		t.Fatal(errs)
	}
	_, errs = Into[thing](docs[0])
	if len(errs) != 1 {
		t.Fatalf("faults = %v, want the bare number", errs)
	}
	got := docs[0].Locate(FieldErrors{
		{Field: "spec.deep.numRetries", Message: "is required"}, // not there: where it would be
		{Field: "spec.section.numRetries", Message: "too many"},
		{Field: "spec.section.backOff", Message: "dropped: it could not be read"},
		{Field: "spec.section", Message: "dropped: something in it could not be read"},
	}).Error()
	want := "p.yaml:5:3: spec.deep.numRetries: is required\np.yaml:5:25: spec.section.numRetries: too many"
	if got != want {
		t.Errorf("located:\n%s\nwant:\n%s", got, want)
	}
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		head + "spec: {name: a}\n", head + "spec: {wait: 5}\n---\n" + head, "a: &a [*a]", "{\"a\": [1, {\"b\": null}]}", "? [a]\n: b\n", "%YAML 1.1\n---\n",
		"a: !!binary aGk=\n", "<<: *x\n", "a: |\n  b\n", "\xef\xbb\xbfa: 1\n", "a: 'x\n", "- - - -\n", "a: 0o17\nb: .inf\nc: 2001-01-01\n", `{"apiVersion":"breakwater/v1alpha1","kind":"Thing","metadata":{"name":"a"},"spec":{"most":"unlimited"}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, format := range []Format{YAML, JSON} {
			docs, errs := Decode("f", data, format, Limits{})
			if len(docs) == 0 && len(errs) == 0 {
				t.Error("neither a document nor a fault")
			}
			for _, d := range docs {
				o, more := Into[thing](d)
				errs = append(errs, more...)
				errs = append(errs, d.Locate(CheckBounds(&o.Spec, "spec"))...)
				errs = append(errs, d.Locate(CheckMeta(&o.Metadata))...)
				if len(errs) > 0 {
					continue
				}
				stored, err := Encode(&o)
				if err != nil {
					t.Fatal(err)
				}
				text, err := ToYAML(stored)
				if err != nil {
					t.Fatal(err)
				}
				back, errs := Decode("f", []byte(strings.Replace(string(text), "schema: 1\n", "", 1)), YAML, Limits{})
				if len(errs) > 0 || len(back) != 1 {
					t.Fatalf("what was written can't be read: %v\n%s", errs, text)
				}
				again, errs := Into[thing](back[0])
				if len(errs) > 0 {
					t.Fatalf("what was written can't be read: %v\n%s", errs, text)
				}
				if second, _ := Encode(&again); string(second) != string(stored) {
					t.Fatalf("round trip: %s became %s", stored, second)
				}
			}
		}
	})
}

func TestTooManyDocuments(t *testing.T) {
	const object = "apiVersion: breakwater/v1alpha1\nkind: Policy\nmetadata: {name: a}\nspec: {}\n---\n"
	item := `{"apiVersion": "breakwater/v1alpha1", "kind": "Policy", "metadata": {"name": "a"}, "spec": {}}`
	for name, tt := range map[string]struct {
		text   string
		format Format
		want   bool // too many
	}{
		"nothings":      {strings.Repeat("---\n", 2<<20), YAML, true},
		"objects":       {strings.Repeat(object, 2001), YAML, true},
		"2,000 objects": {strings.Repeat(object, 2000), YAML, false},
		"JSON":          {strings.Repeat("{}", 2001), JSON, true},
		"a list":        {`{"items": [` + strings.Repeat(item+",", 2000) + item + `]}`, JSON, true},
	} {
		docs, errs := Decode("", []byte(tt.text), tt.format, Limits{Total: 16 << 20})
		if got := strings.Contains(errs.Error(), "more than 2000 documents"); got != tt.want || tt.want && (len(errs) != 1 || len(docs) != 0) {
			t.Errorf("%s: %d documents, %d faults (%.100s)", name, len(docs), len(errs), errs.Error())
		}
	}
}
