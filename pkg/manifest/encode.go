package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Schema is the version of the stored form. A later version may add fields; they survive a rewrite by this one: see KeepUnknown.
const Schema = 1

type stored[S any] struct {
	Schema int `json:"schema"`
	Object[S]
}

// Encode is the canonical stored form of o: JSON in the order of the structs, without the revision, which the store keeps.
func Encode[S any](o *Object[S]) ([]byte, error) {
	s := stored[S]{Schema, *o}
	s.Metadata.Revision = 0
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return nil, fmt.Errorf("encode %s %s: %w", o.Kind, o.Key(), err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte{'\n'}), nil
}

// DecodeStored reads what Encode wrote, here or in a later version: fields it does not know are passed over.
func DecodeStored[S any](data []byte) (*Object[S], error) {
	var s stored[S]
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("decode stored object: %w", err)
	}
	if s.Schema < 1 {
		return nil, fmt.Errorf("decode stored object %s: no schema version", s.Key())
	}
	return &s.Object, nil
}

// KeepUnknown is fresh, a stored S about to replace old, with the fields of old that this version does not know. They stay
// where what they are in stays; in lists they are lost with the item.
func KeepUnknown[S any](old, fresh []byte) ([]byte, error) {
	before, err := oneJSON(old)
	if err != nil {
		return nil, fmt.Errorf("stored object: %w", err)
	}
	after, err := oneJSON(fresh)
	if err != nil {
		return nil, fmt.Errorf("object to store: %w", err)
	}
	keepUnknown(before, after, reflect.TypeFor[stored[S]]())
	return appendJSON(nil, after), nil
}

func keepUnknown(old, fresh *yaml.Node, t reflect.Type) {
	if old.Kind != yaml.MappingNode || fresh.Kind != yaml.MappingNode {
		return
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()) {
		return
	}
	fields := fieldsOf(t)
	for i := 0; i+1 < len(old.Content); i += 2 {
		key, item := old.Content[i], old.Content[i+1]
		f := slices.IndexFunc(fields, func(f field) bool { return f.name == key.Value })
		if f < 0 {
			fresh.Content = append(fresh.Content, key, item)
		} else if inner := entryOf(fresh, key.Value); inner != nil {
			keepUnknown(item, inner, t.FieldByIndex(fields[f].index).Type)
		}
	}
}

func entryOf(n *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

func oneJSON(data []byte) (*yaml.Node, error) {
	roots, fault := parseJSON(data, Limits{Depth: 10000, Documents: 2})
	if fault != nil {
		return nil, fault
	}
	if len(roots) != 1 {
		return nil, fmt.Errorf("want one JSON value, got %d", len(roots))
	}
	return roots[0], nil
}

// ToYAML writes one JSON value as a YAML document, fields in the same order.
func ToYAML(data []byte) ([]byte, error) {
	n, err := oneJSON(data)
	if err != nil {
		return nil, fmt.Errorf("to YAML: %w", err)
	}
	plain(n)
	out, err := yaml.Dump(n, yaml.WithLineWidth(-1))
	if err != nil {
		return nil, fmt.Errorf("to YAML: %w", err)
	}
	return out, nil
}

// plain drops the quotes that no YAML reader, of 1.1 or 1.2, needs.
func plain(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!str" && plainText(n.Value) {
		n.Style = 0
	}
	n.Line, n.Column = 0, 0
	for _, item := range n.Content {
		plain(item)
	}
}

func plainText(s string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	if s == "" || len(s) > 256 || strings.Trim(s, letters+"0123456789-_./") != "" || slices.Contains(truthy, strings.ToLower(s)) {
		return false
	}
	if strings.IndexByte(letters, s[0]) >= 0 || s == "5xx" {
		return true
	}
	// 250ms and 5xx, but nothing that some reader takes for a number or a date.
	return s[0] >= '0' && s[0] <= '9' && strings.ContainsAny(s, letters) && !strings.ContainsAny(s, "eExXoO-_:")
}
