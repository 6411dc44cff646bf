// Package fields knows every field of the policy language with a value of its own: two values, what must stand beside it for it to count,
// and what of a proxy's configuration carries it. The documents, the compiler and real proxies are held against the same list.
package fields

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// What carries a field to Envoy.
const (
	Cluster  = "Cluster"
	Route    = "Route"
	Runtime  = "Runtime"
	Listener = "Listener"
	Nothing  = "nothing" // Envoy gets no part of it
)

// Rebuilds is the effect of a field that rebuilds the cluster, whatever stands beside it.
const Rebuilds = "rebuilds the cluster"

// Field is one field of the language.
type Field struct {
	Path    string // such as retry.backOff.base
	Carrier string
	At      string // the place in the carrier
	First   string // a value that is not the default, as YAML
	Second  string // another one
}

// Section is the name of the section that the field is in.
func (f Field) Section() string {
	section, _, _ := strings.Cut(f.Path, ".")
	return section
}

// Protocol is what the service must speak for the field to count, "" for whatever.
func (f Field) Protocol() string {
	if strings.HasPrefix(f.Path, "healthCheck.grpc.") {
		return "http2"
	}
	return ""
}

// Spec is that of a policy for the service payments in which the field has a value, as YAML, or is not set, where that is ""; and in which
// what it needs stands beside it, and further sections, as YAML. An error names what is no YAML.
func (f Field) Spec(value string, further ...string) (map[string]any, error) {
	section := f.Section()
	within, err := object(f.beside())
	if err != nil {
		return nil, err
	}
	spec := map[string]any{"to": map[string]any{"service": "payments"}, section: within}
	if section == "fault" {
		spec["expiresAt"] = "2099-01-01T00:00:00Z"
	}
	switch {
	case value != "":
		if err := set(spec, strings.Split(f.Path, "."), value); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Path, err)
		}
	case len(within) == 0: // an empty section can't be written
		delete(spec, section)
	}
	for _, text := range append(further, besides[f.Path]) {
		if err := yaml.Unmarshal([]byte(text), &spec); err != nil {
			return nil, fmt.Errorf("%s: %w", text, err)
		}
	}
	return spec, nil
}

// Off is the spec of a policy for the service payments that switches the field's section off.
func (f Field) Off() map[string]any {
	return map[string]any{"to": map[string]any{"service": "payments"}, f.Section(): map[string]any{"disabled": true}}
}

// Rebuilds reports whether a change of a mark of the whole section, of that declared effect, rebuilds the cluster where the field is what it
// takes away or brings: "in place; connect and connectionIdle rebuild the cluster" does so for these two.
func (f Field) Rebuilds(effect string) bool {
	if effect == Rebuilds {
		return true
	}
	always, but, _ := strings.Cut(effect, "; ")
	_, path, _ := strings.Cut(f.Path, ".")
	return always == "in place" && slices.Contains(strings.Fields(strings.ReplaceAll(but, ",", " ")), path)
}

// beside is what must stand in the section for the field to count.
func (f Field) beside() string {
	for _, path := range []string{f.Path, f.Path[:strings.LastIndexByte(f.Path, '.')]} {
		if text, ok := around[path]; ok {
			return text
		}
	}
	return around[f.Section()]
}

func object(text string) (map[string]any, error) {
	m := map[string]any{}
	if err := yaml.Unmarshal([]byte(text), &m); err != nil {
		return nil, fmt.Errorf("%s: %w", text, err)
	}
	return m, nil
}

// set puts a value, as YAML, at a path.
func set(into map[string]any, path []string, value string) error {
	last := len(path) - 1
	for _, name := range path[:last] {
		inner, ok := into[name].(map[string]any)
		if !ok {
			inner = map[string]any{}
			into[name] = inner
		}
		into = inner
	}
	var v any
	err := yaml.Unmarshal([]byte(value), &v)
	into[path[last]] = v
	return err
}
