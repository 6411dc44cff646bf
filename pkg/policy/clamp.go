package policy

import (
	"reflect"
	"slices"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// Clamp says that a guardrail has moved a value.
type Clamp struct {
	From any          `json:"from"` // as JSON would show it; what was not set as what holds then, such as unlimited
	To   any          `json:"to"`
	By   manifest.Key `json:"by"`
}

// inForce are the sections whose defaults hold though no policy writes them; the others do nothing then, and a bound switches none on.
var inForce = []string{"timeout", "limits", "loadBalancing"}

// clamping holds complete sections between bounds.
type clamping struct {
	*merging
	sections *Sections
	done     map[string]Clamp // by path
}

// clamp holds s, which the merge made, between the bounds of the guardrails that apply.
func (m *merging) clamp(s *Sections) map[string]Clamp {
	c := &clamping{m, s, make(map[string]Clamp)}
	most, least := m.tightest()
	if most == nil {
		return nil
	}
	c.lowerAll(most)
	for leaf := range boundables {
		b, ok := least[leaf]
		if top, bounded := most[leaf]; bounded && ok && b.min.more(*top.max) {
			b.min = top.max
		}
		if ok {
			c.raise(leaf, *b.min, b.by)
		}
	}
	c.lowerAll(most) // what was raised may have bounded others that are not set
	return c.done
}

func (c *clamping) lowerAll(most map[int]barrier) {
	for leaf := range boundables {
		if b, ok := most[leaf]; ok {
			c.lower(leaf, *b.max, b.by)
		}
	}
}

// barrier is a bound and whose it is.
type barrier struct {
	bound
	by manifest.Key
}

// tightest are the bounds that count, by field.
func (m *merging) tightest() (most, least map[int]barrier) {
	for _, g := range m.applied {
		for _, b := range g.bounds {
			if most == nil {
				most, least = make(map[int]barrier), make(map[int]barrier)
			}
			if have, ok := most[b.leaf]; b.max != nil && (!ok || have.max.more(*b.max)) {
				most[b.leaf] = barrier{b, g.Policy.Key()}
			}
			if have, ok := least[b.leaf]; b.min != nil && (!ok || b.min.more(*have.min)) {
				least[b.leaf] = barrier{b, g.Policy.Key()}
			}
		}
	}
	return most, least
}

// Outdone are the guardrails among those that apply of which no bound counts, and whose is tighter in the place of their first.
func Outdone(applied []*Compiled) map[manifest.Key]manifest.Key {
	most, least := (&merging{applied: applied}).tightest()
	outdone := make(map[manifest.Key]manifest.Key)
	for _, g := range applied {
		key := g.Policy.Key()
		var by []manifest.Key
		for _, b := range g.bounds {
			if b.max != nil {
				by = append(by, most[b.leaf].by)
			}
			if b.min != nil {
				by = append(by, least[b.leaf].by)
			}
		}
		if len(by) > 0 && !slices.Contains(by, key) {
			outdone[key] = by[0]
		}
	}
	return outdone
}

// get is the value of a field; invalid where it is not set.
func (c *clamping) get(leaf int) reflect.Value {
	b := boundables[leaf]
	section := reflect.ValueOf(c.sections).Elem().Field(units[b.unit].section)
	if section.IsNil() {
		return reflect.Value{}
	}
	v := section.Elem().Field(units[b.unit].field)
	if b.inner >= 0 && !v.IsNil() {
		v = v.Elem().Field(b.inner)
	}
	if v.IsNil() {
		return reflect.Value{}
	}
	return v
}

// put writes a field; what is nested is copied first, since it belongs to a policy. Without a value the field is cleared.
func (c *clamping) put(leaf int, value reflect.Value) {
	b := boundables[leaf]
	section := reflect.ValueOf(c.sections).Elem().Field(units[b.unit].section)
	if section.IsNil() {
		section.Set(reflect.New(section.Type().Elem()))
	}
	v := section.Elem().Field(units[b.unit].field)
	if b.inner >= 0 {
		fresh := reflect.New(v.Type().Elem())
		if !v.IsNil() {
			fresh.Elem().Set(v.Elem())
		}
		v.Set(fresh)
		v = fresh.Elem().Field(b.inner)
	}
	if !value.IsValid() {
		value = reflect.Zero(v.Type())
	}
	v.Set(value)
}

// holds is what is in force for a field: what is set, or what its default says; ok is false where the field has no part in anything.
func (c *clamping) holds(leaf int) (a amount, ok bool) {
	b := boundables[leaf]
	if v := c.get(leaf); v.IsValid() {
		return b.amountOf(v), true
	}
	if b.unset == nil || !slices.Contains(inForce, sectionNames[units[b.unit].section]) {
		return amount{}, false
	}
	if t := c.sections.Timeout; t != nil && finite(t.Request) && b.path == "timeout.maxStream" {
		return amount{}, false // it can't be set beside request
	}
	a = *b.unset
	for _, o := range ordered { // a try ends with its request at the latest
		if v := c.get(boundableByPath[o.upper]); o.strict && o.lower == b.path && v.IsValid() {
			if end := b.amountOf(v); a.more(end) {
				a = end
			}
		}
	}
	return a, true
}

// lower holds a field to a maximum, and with it what follows from the same words, or depends on it.
func (c *clamping) lower(leaf int, most amount, by manifest.Key) {
	if now, ok := c.holds(leaf); !ok || !now.more(most) {
		return
	}
	was := c.get(leaf)
	c.set(leaf, most, by)
	if was.IsValid() {
		for _, twin := range c.twins(leaf) {
			if v := c.get(twin); v.IsValid() && boundables[twin].amountOf(v).more(most) {
				c.set(twin, most, by)
			}
		}
	}
	c.follow(by)
}

// raise holds a field that is set to a minimum.
func (c *clamping) raise(leaf int, least amount, by manifest.Key) {
	v := c.get(leaf)
	if !v.IsValid() || !least.more(boundables[leaf].amountOf(v)) {
		return
	}
	c.set(leaf, least, by)
	for _, o := range ordered {
		if o.lower == boundables[leaf].path {
			c.keepOrder(o, true, by)
		}
	}
	c.follow(by)
}

// set moves a field, and notes it.
func (c *clamping) set(leaf int, to amount, by manifest.Key) {
	b := boundables[leaf]
	clamp := Clamp{By: by, From: shown(c.get(leaf))}
	if clamp.From == nil {
		clamp.From = b.absent()
	}
	if have, twice := c.done[b.path]; twice {
		clamp.From = have.From
	}
	c.put(leaf, b.value(to))
	clamp.To = shown(c.get(leaf))
	c.done[b.path] = clamp
}

// twins are the other fields that one policy's same words were expanded to, such as both times of a circuit breaker.
func (c *clamping) twins(leaf int) []int {
	from := c.slots[boundables[leaf].unit]
	if from.by == nil {
		return nil
	}
	var list []int
	for other, b := range boundables {
		s := c.slots[b.unit]
		if other != leaf && b.inner < 0 && boundables[leaf].inner < 0 && s.value.IsValid() && s.by == from.by && s.path == from.path && b.kind == boundables[leaf].kind {
			list = append(list, other)
		}
	}
	return list
}

// order is a rule that one field is at most another one, or less.
type order struct {
	lower, upper string
	strict       bool
}

// ordered are the rules that a clamped field may break.
var ordered = []order{
	{"timeout.perTry", "timeout.request", true},
	{"timeout.perTryIdle", "timeout.request", true},
	{"timeout.perTryIdle", "timeout.perTry", true},
	{"timeout.deadline.minimum", "timeout.request", true},
	{"retry.backOff.base", "retry.backOff.max", false},
	{"outlierDetection.baseEjectionTime", "outlierDetection.maxEjectionTime", false},
	{"adaptiveConcurrency.minLatency.concurrency", "adaptiveConcurrency.maxConcurrency", false},
}

// follow clamps what depends on a clamped field.
func (c *clamping) follow(by manifest.Key) {
	for _, o := range ordered {
		c.keepOrder(o, false, by)
	}
	if t := c.sections.Timeout; t != nil && finite(t.Request) && finite(t.MaxStream) {
		leaf := boundableByPath["timeout.maxStream"]
		c.done["timeout.maxStream"] = Clamp{From: shown(c.get(leaf)), By: by}
		c.put(leaf, reflect.Value{})
	}
}

// keepOrder moves the lower field, or the upper one, where the rule between them is broken.
func (c *clamping) keepOrder(o order, up bool, by manifest.Key) {
	lower, upper := boundableByPath[o.lower], boundableByPath[o.upper]
	low, high := c.get(lower), c.get(upper)
	if !low.IsValid() || !high.IsValid() {
		return
	}
	a, b := boundables[lower].amountOf(low), boundables[upper].amountOf(high)
	if a.infinite || b.infinite || b.more(a) || !o.strict && a == b {
		return
	}
	if up && !o.strict {
		c.set(upper, a, by)
		return
	}
	switch step := uint64(time.Millisecond); {
	case !o.strict:
		c.set(lower, b, by)
	case b.n > step:
		c.set(lower, amount{n: b.n - step}, by)
	default: // nothing is less: the upper one alone bounds it
		c.done[o.lower] = Clamp{From: shown(low), By: by}
		c.put(lower, reflect.Value{})
	}
}
