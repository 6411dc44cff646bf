package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// GuardrailKind is the kind of a Guardrail manifest.
const GuardrailKind = "Guardrail"

// Guardrail bounds what policies may say, whoever wrote them. It sets nothing by itself: it holds the fields of a finished merge between
// its bounds.
type Guardrail = manifest.Object[GuardrailSpec]

// GuardrailSpec is what an author says in a guardrail.
type GuardrailSpec struct {
	To     Target  `json:"to" doc:"The called services: the guardrail's own namespace's, in breakwater-system any." bwdefault:"required"`
	From   *Source `json:"from,omitempty" doc:"The calling services." bwdefault:"every caller"`
	Bounds []Bound `json:"bounds,omitempty" doc:"What the fields of the effective policy must keep to." bwdefault:"required"`
}

// Bound holds one field of the effective policy.
type Bound struct {
	Field string `json:"field" doc:"A number, count or duration of the effective policy, such as limits.maxRequests: classic knobs are bounded where they expand to." bwdefault:"required"`
	Max   *Bar   `json:"max,omitempty" doc:"No more than this. What is not set, none or unlimited is more than anything, where it means that there is no limit." bwdefault:"no bound"`
	Min   *Bar   `json:"min,omitempty" doc:"No less than this, where the field is set. A max wins over it." bwdefault:"no bound"`
}

// Bar is a number or a duration, as the bounded field has it: 50, or "2s".
type Bar string

// MarshalJSON writes a number as one.
func (b Bar) MarshalJSON() ([]byte, error) {
	if _, err := strconv.ParseUint(string(b), 10, 32); err == nil {
		return []byte(b), nil
	}
	return json.Marshal(string(b))
}

// UnmarshalJSON reads a number, or a duration.
func (b *Bar) UnmarshalJSON(data []byte) error {
	var n uint32
	if json.Unmarshal(data, &n) == nil {
		*b = Bar(strconv.FormatUint(uint64(n), 10))
		return nil
	}
	var text string
	if json.Unmarshal(data, &text) != nil {
		return errors.New(`must be a number, such as 50, or a duration, such as "2s"`)
	}
	*b = Bar(text)
	return nil
}

// bound is one bound of a compiled guardrail.
type bound struct {
	leaf     int // of boundables
	max, min *amount
}

// ValidateGuardrail is everything that is wrong with one guardrail alone, whose namespace must be filled in.
func ValidateGuardrail(g *Guardrail) manifest.FieldErrors {
	f := &faults{prefix: "spec."}
	f.errs = append(f.errs, manifest.CheckMeta(&g.Metadata)...)
	p := asPolicy(g)
	validateTarget(p, f)
	if isConsumer(p) {
		f.add("to.namespace", "must be the guardrail's own (%s): only %s bounds what is called elsewhere", g.Metadata.Namespace, manifest.SystemNamespace)
	}
	if partOf(g.Spec.To) != (part{}) {
		f.add("to", "takes no subset and no route: a guardrail holds for every part of a service")
	}
	if len(g.Spec.Bounds) == 0 {
		f.add("bounds", "is required: name at least one field, such as {field: limits.maxRequests, max: 50}")
	}
	for i, b := range g.Spec.Bounds {
		path := fmt.Sprintf("bounds[%d]", i)
		b.validate(f, path)
		if slices.ContainsFunc(g.Spec.Bounds[:i], func(o Bound) bool { return o.Field == b.Field }) {
			f.add(path+".field", "%q is there twice", b.Field)
		}
	}
	return f.errs
}

func (b Bound) validate(f *faults, path string) {
	section, _, _ := strings.Cut(b.Field, ".")
	leaf, ok := boundableByPath[b.Field]
	switch {
	case section == "bulkhead" || section == "circuitBreaker":
		f.add(path+".field", "is a classic knob: bound what it expands to, such as %s", map[string]string{
			"bulkhead": "limits.maxRequests", "circuitBreaker": "outlierDetection.baseEjectionTime"}[section])
		return
	case !ok:
		f.word(path+".field", b.Field, boundablePaths, nil)
		return
	}
	if b.Max == nil && b.Min == nil {
		f.add(path, "needs max or min")
	}
	most, found := b.Max.validate(f, path+".max", boundables[leaf])
	least, both := b.Min.validate(f, path+".min", boundables[leaf])
	if found && both && least.more(most) {
		f.add(path+".min", "must be at most max (%s)", *b.Max)
	}
}

// validate reads the bar of a field; ok is false where there is none, or where it is wrong.
func (b *Bar) validate(f *faults, path string, of boundable) (a amount, ok bool) {
	if b == nil {
		return a, false
	}
	if a, ok = of.parse(string(*b)); ok && !a.infinite {
		if msg := of.fits(a); msg != "" {
			f.add(path, "%s", msg)
			return a, false
		}
		return a, true
	}
	if msg := manifest.Duration(*b).Check(false); of.kind == durations && msg != "" {
		f.add(path, "%s", msg)
	} else {
		f.add(path, "must be a number: %s is one", of.path)
	}
	return a, false
}

// asPolicy is a policy that covers what g does, and says nothing.
func asPolicy(g *Guardrail) *Policy {
	return &Policy{APIVersion: g.APIVersion, Kind: g.Kind, Metadata: g.Metadata, Spec: Spec{To: g.Spec.To, From: g.Spec.From}}
}

// CompileGuardrail makes g, which must be valid, ready for resolving: among the policies that apply it sets nothing, and bounds what
// comes out.
func CompileGuardrail(g *Guardrail) *Compiled {
	c := Compile(asPolicy(g))
	c.Guardrail = g
	for _, b := range g.Spec.Bounds {
		leaf := boundableByPath[b.Field]
		made := bound{leaf: leaf}
		if b.Max != nil {
			a, _ := boundables[leaf].parse(string(*b.Max))
			made.max = &a
		}
		if b.Min != nil {
			a, _ := boundables[leaf].parse(string(*b.Min))
			made.min = &a
		}
		c.bounds = append(c.bounds, made)
	}
	return c
}
