package manifest

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"
)

// maxFaults is where reporting stops: nobody reads more, and a hostile input has any number.
const maxFaults = 100

// tree is the text of one object: its nodes, where each field is, and what is wrong.
type tree struct {
	root  *yaml.Node
	where map[string]*yaml.Node // by field path: the value
	bad   map[*yaml.Node]bool   // not to be read: reported already
	faults
}

type faults struct {
	errs   FieldErrors
	more   int
	faulty map[string]bool // paths with a fault
	above  map[string]bool // paths of what a faulty field is in
}

// newTree looks over a whole object and reports what no object may have, whatever its kind.
func newTree(root *yaml.Node, depth int) *tree {
	t := &tree{root: root, where: make(map[string]*yaml.Node), bad: make(map[*yaml.Node]bool)}
	t.faulty, t.above = make(map[string]bool), make(map[string]bool)
	t.look(root, "", depth)
	return t
}

// fault notes what is wrong at n, which is not read any further.
func (t *tree) fault(path string, n *yaml.Node, msg string) {
	t.bad[n] = true
	t.faulty[path] = true
	for at := parent(path); at != "" && !t.above[at]; at = parent(at) {
		t.above[at] = true
	}
	if len(t.errs) >= maxFaults {
		t.more++
		return
	}
	t.errs = append(t.errs, &FieldError{Line: n.Line, Column: n.Column, Field: path, Message: msg})
}

// take returns the faults found since the last call.
func (t *tree) take(file string) FieldErrors {
	errs := t.errs
	if t.more > 0 {
		errs = append(errs, &FieldError{Line: t.root.Line, Column: t.root.Column, Message: fmt.Sprintf("there are %d more faults", t.more)})
	}
	for _, e := range errs {
		e.File = file
	}
	t.errs, t.more = nil, 0
	return errs
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// look checks n and everything below it. Nothing recurses deeper than depth.
func (t *tree) look(n *yaml.Node, path string, depth int) {
	t.where[path] = n
	switch {
	case n.Kind == yaml.AliasNode:
		t.fault(path, n, "aliases are not accepted: write the value out")
	case n.Anchor != "":
		t.fault(path, n, "anchors are not accepted: write the value out where it is needed")
	case n.Style&yaml.TaggedStyle != 0:
		t.fault(path, n, "tags are not accepted: leave "+clip(n.Tag)+" out")
	case depth == 0:
		t.fault(path, n, "is nested too deeply")
	case isNull(n):
		t.fault(path, n, "null is no value: leave the field out")
	case n.Kind == yaml.ScalarNode && strings.ContainsFunc(n.Value, control):
		t.fault(path, n, "has a control character")
	case n.Kind == yaml.SequenceNode:
		for i, item := range n.Content {
			t.look(item, fmt.Sprintf("%s[%d]", path, i), depth-1)
		}
	case n.Kind == yaml.MappingNode:
		t.lookMapping(n, path, depth)
	}
}

func (t *tree) lookMapping(n *yaml.Node, path string, depth int) {
	seen := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, item := n.Content[i], n.Content[i+1]
		if t.badKey(key, path) {
			t.bad[item] = true
			continue
		}
		at := entry(path, key.Value)
		if line, twice := seen[key.Value]; twice {
			t.fault(at, key, fmt.Sprintf("is there twice: the first is on line %d", line))
			continue
		}
		seen[key.Value] = key.Line
		if path == "" && key.Value == "status" {
			continue // the server's
		}
		t.look(item, at, depth-1)
	}
}

// badKey reports a key that can't be the name of a field.
func (t *tree) badKey(key *yaml.Node, path string) bool {
	switch {
	case key.Kind != yaml.ScalarNode:
		t.fault(path, key, "a key must be text")
	case key.Anchor != "" || key.Style&yaml.TaggedStyle != 0:
		t.fault(path, key, "anchors and tags are not accepted")
	case key.ShortTag() == "!!merge":
		t.fault(path, key, "merge keys are not accepted: write the fields out")
	case strings.ContainsFunc(key.Value, control):
		t.fault(path, key, "a key has a control character")
	default:
		return false
	}
	return true
}

func (t *tree) nodeAt(path string) *yaml.Node { return t.where[path] }

// position is where the field is; where it is missing, the nearest that it would be in.
func (t *tree) position(path string) (line, column int) {
	for {
		if n, ok := t.where[path]; ok {
			return n.Line, n.Column
		}
		if path == "" {
			return t.root.Line, t.root.Column
		}
		path = parent(path)
	}
}

// faultyAround reports whether the field itself, something it is in, or something in it has a fault.
func (t *tree) faultyAround(path string) bool {
	for at := path; at != ""; at = parent(at) {
		if t.faulty[at] {
			return true
		}
	}
	return t.above[path]
}
