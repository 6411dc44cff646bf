package manifest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// Format is how an input is written.
type Format int

// The formats.
const (
	YAML Format = iota // one document or many; JSON is taken too
	JSON               // one value or many, one after the other
)

// Limits bound what Decode reads. Zero values stand for the defaults.
type Limits struct {
	Total     int // bytes of the whole input; default 4 MiB
	Object    int // bytes of one object; default 1 MiB
	Depth     int // of nesting; default 32
	Documents int // objects, and as many nothings between two "---"; default 2,000
}

func (l Limits) withDefaults() Limits {
	return Limits{cmp.Or(l.Total, 4<<20), cmp.Or(l.Object, 1<<20), cmp.Or(l.Depth, 32), cmp.Or(l.Documents, 2000)}
}

// Document is one object of an input, not yet read as a kind: see Into.
type Document struct {
	File       string
	APIVersion string
	Kind       string
	Metadata   Meta // the author's part; what has faults is left out

	tree *tree
}

// Has reports whether the field of that path is written in the document.
func (d Document) Has(path string) bool { return d.tree.nodeAt(path) != nil }

// Decode splits an input into objects and reads their envelopes. It reports all faults it finds; the documents it returns
// beside faults are those whose kind is known, so that Into can go on to report theirs. file only goes into the faults.
func Decode(file string, data []byte, format Format, limits Limits) ([]Document, FieldErrors) {
	limits = limits.withDefaults()
	roots, err := parse(data, format, limits)
	if roots = unlisted(roots); len(roots) > limits.Documents {
		roots, err = nil, tooMany(limits)
	}
	var docs []Document
	var errs FieldErrors
	starts := lineStarts(data)
	for i, root := range roots {
		end := len(data)
		if i+1 < len(roots) {
			end = startOf(starts, roots[i+1].Line, end)
		}
		if size := end - startOf(starts, root.Line, end); size > limits.Object {
			errs = append(errs, &FieldError{File: file, Line: root.Line, Column: root.Column, Message: fmt.Sprintf("the object has %d bytes; at most %d are accepted", size, limits.Object)})
			continue
		}
		if len(errs) > 10*maxFaults {
			errs = append(errs, &FieldError{File: file, Line: root.Line, Column: root.Column, Message: "too many faults: the objects from here on were not read"})
			break
		}
		d := Document{File: file, tree: newTree(root, limits.Depth)}
		errs = append(errs, d.envelope()...)
		if d.Kind != "" {
			docs = append(docs, d)
		}
	}
	if err == nil && len(roots) == 0 {
		err = &FieldError{Message: "there is no object in the input"}
	}
	if err != nil {
		err.File = file
		errs = append(errs, err)
	}
	return docs, errs.Sorted()
}

// parse turns text into one node per object. The nodes before a fault of syntax are returned beside it.
func parse(data []byte, format Format, limits Limits) ([]*yaml.Node, *FieldError) {
	if len(data) > limits.Total {
		return nil, &FieldError{Message: fmt.Sprintf("the input has %d bytes; at most %d are accepted", len(data), limits.Total)}
	}
	if err := checkText(data); err != nil {
		return nil, err
	}
	if format == JSON {
		return parseJSON(data, limits)
	}
	return parseYAML(data, limits)
}

// tooMany is the one fault of an input of too many documents, none of which is read.
func tooMany(limits Limits) *FieldError {
	return &FieldError{Message: fmt.Sprintf("the input has more than %d documents: send fewer at a time", limits.Documents)}
}

// unlisted puts the objects of a list, as the API answers it ("items" and perhaps "revision"), in the list's place.
func unlisted(roots []*yaml.Node) []*yaml.Node {
	var flat []*yaml.Node
	for _, root := range roots {
		if items := itemsOf(root); items != nil {
			flat = append(flat, items.Content...)
		} else {
			flat = append(flat, root)
		}
	}
	return flat
}

// itemsOf are the items of a list, nil where n is none.
func itemsOf(n *yaml.Node) (items *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		switch key, item := n.Content[i], n.Content[i+1]; {
		case key.Value == "items" && item.Kind == yaml.SequenceNode && items == nil:
			items = item
		case key.Value != "revision":
			return nil
		}
	}
	return items
}

func parseYAML(data []byte, limits Limits) (roots []*yaml.Node, fault *FieldError) {
	loader, err := yaml.NewLoader(bytes.NewReader(data))
	if err != nil {
		return nil, &FieldError{Message: err.Error()}
	}
	for read := 0; ; read++ {
		if len(roots) > limits.Documents || read > 2*limits.Documents {
			return nil, tooMany(limits)
		}
		var n yaml.Node
		err := loader.Load(&n)
		if errors.Is(err, io.EOF) {
			return roots, nil
		}
		if err != nil {
			return roots, syntaxFault(err)
		}
		if n.Kind != yaml.DocumentNode || len(n.Content) != 1 || isNull(n.Content[0]) {
			continue // nothing between two "---"
		}
		roots = append(roots, n.Content[0])
	}
}

func syntaxFault(err error) *FieldError {
	var load *yaml.LoadError
	if !errors.As(err, &load) {
		return &FieldError{Message: "not valid YAML: " + clip(err.Error())}
	}
	f := &FieldError{Line: load.Mark.Line, Column: load.Mark.Column, Message: "not valid YAML: " + load.Message}
	if f.Line == 0 {
		f.Column = 0
	}
	return f
}

// checkText refuses bytes that no manifest has: invalid UTF-8 and control characters.
func checkText(data []byte) *FieldError {
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		msg := ""
		switch {
		case r == utf8.RuneError && size == 1:
			msg = "is not UTF-8"
		case control(r):
			msg = fmt.Sprintf("has the control character U+%04X", r)
		}
		if msg != "" {
			line, column := position(data, i)
			return &FieldError{Line: line, Column: column, Message: "the input " + msg}
		}
		i += size
	}
	return nil
}

func control(r rune) bool {
	return r < 0x20 && r != '\n' && r != '\r' && r != '\t' || r == 0x7f
}

// position is the line and column, from 1, of a byte.
func position(data []byte, at int) (line, column int) {
	at = min(at, len(data))
	start := bytes.LastIndexByte(data[:at], '\n') + 1
	return bytes.Count(data[:at], []byte{'\n'}) + 1, utf8.RuneCount(data[start:at]) + 1
}

// lineStarts are the first bytes of the lines, which YAML ends with more than "\n".
func lineStarts(data []byte) []int {
	starts := []int{0}
	for i, r := range string(data) {
		switch r {
		case '\r':
			if i+1 < len(data) && data[i+1] == '\n' {
				continue
			}
			fallthrough
		case '\n', 0x85, 0x2028, 0x2029:
			starts = append(starts, i+utf8.RuneLen(r))
		}
	}
	return starts
}

// startOf is the first byte of a line.
func startOf(starts []int, line, end int) int {
	if line > len(starts) {
		return end
	}
	return starts[max(line, 1)-1]
}

// Sorted sorts the faults by file and position, in place, and returns them.
func (es FieldErrors) Sorted() FieldErrors {
	slices.SortStableFunc(es, func(a, b *FieldError) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return es
}

// CheckKind says what is wrong with the document's kind; nil when it is one of known. The kinds of later are to come.
func (d Document) CheckKind(known, later []string) *FieldError {
	msg := CheckWord(d.Kind, known, later)
	if msg == "" {
		return nil
	}
	return d.Locate(FieldErrors{{Field: "kind", Message: msg}})[0]
}

// Locate gives faults found by field path the document's file, lines and columns, in place, and returns them sorted. A fault of
// a field that could not even be read is dropped: it has been reported.
func (d Document) Locate(errs FieldErrors) FieldErrors {
	var kept FieldErrors
	for _, e := range errs {
		if d.tree.faultyAround(e.Field) {
			continue
		}
		e.File = d.File
		e.Line, e.Column = d.tree.position(e.Field)
		kept = append(kept, e)
	}
	if more := len(kept.Sorted()) - maxFaults; more > 0 {
		line, column := d.tree.position("")
		kept = append(kept[:maxFaults], &FieldError{File: d.File, Line: line, Column: column, Message: fmt.Sprintf("there are %d more faults", more)})
	}
	return kept
}

// envelope reads everything but spec.
func (d *Document) envelope() FieldErrors {
	t := d.tree
	w := walker{tree: t}
	if t.root.Kind != yaml.MappingNode {
		t.fault("", t.root, "must be an object with apiVersion, kind, metadata and spec")
		return t.take(d.File)
	}
	var head struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Metadata   Meta   `json:"metadata"`
		Spec       raw    `json:"spec"`
		Status     raw    `json:"status" set:"server"`
	}
	w.structure(t.root, value(&head), "", "")
	d.APIVersion, d.Kind, d.Metadata = head.APIVersion, head.Kind, head.Metadata
	for _, name := range []string{"apiVersion", "kind", "metadata", "spec"} {
		n := t.nodeAt(name)
		empty := n != nil && (name == "kind" && d.Kind == "" || name == "apiVersion" && d.APIVersion == "")
		if n == nil {
			t.fault(name, t.root, "is required")
		} else if empty && !t.bad[n] {
			t.fault(name, n, "is required")
		}
	}
	if d.APIVersion != "" && d.APIVersion != APIVersion {
		t.fault("apiVersion", t.nodeAt("apiVersion"), fmt.Sprintf("must be %s, not %q", APIVersion, clip(d.APIVersion)))
	}
	return t.take(d.File)
}

// Into reads the document as an object whose spec is S. The object is the better part of the truth where there are faults.
func Into[S any](d Document) (Object[S], FieldErrors) {
	o := Object[S]{APIVersion: d.APIVersion, Kind: d.Kind, Metadata: d.Metadata}
	if n := d.tree.nodeAt("spec"); n != nil {
		w := walker{tree: d.tree}
		w.value(n, value(&o.Spec), "spec", "")
	}
	return o, d.tree.take(d.File).Sorted()
}

// parent is the path without its last field, entry or index; "" at the top.
func parent(path string) string {
	if strings.HasSuffix(path, `"]`) {
		return path[:strings.LastIndex(path, `["`)]
	}
	return path[:max(0, strings.LastIndexAny(path, ".["))]
}
