package policy

import "reflect"

// Compiled is a policy made ready for resolving: classic knobs expanded, rank known. It is immutable, and so must the policy
// be from then on.
type Compiled struct {
	Policy    *Policy
	Guardrail *Guardrail // nil for a policy; else Policy only says whom it covers

	bounds        []bound // of a guardrail
	rank          rank
	toNamespace   string // Every for all
	fromNamespace string // only with a source
	part          part   // of the called service
	clears        []clearing
	sets          []setting

	observed *Compiled // its sections that only observe; nil for a guardrail
}

// setting is one unit that a policy sets.
type setting struct {
	unit  int
	value reflect.Value // pointer or slice; belongs to the policy
	path  string        // as written
}

// clearing is what a policy takes away from less specific ones, before it sets anything itself.
type clearing struct {
	section int    // all that is set there; -1: none
	keep    string // but for what was written in this section; empty: nothing
	origin  string // and all that was written in this section, wherever it was expanded to; empty: none
	path    string // as written
	off     int    // the section that is switched off, -1 where one is replaced
	scope   string // only what is of this scope; empty for all
}

// hits reports whether a value of unit u, written at path, is taken away.
func (c clearing) hits(u int, path string) bool {
	if !within(units[u].scope, c.scope) {
		return false
	}
	return units[u].section == c.section && (c.keep == "" || !under(path, c.keep)) || c.origin != "" && under(path, c.origin)
}

// under reports whether path is section or a field of it.
func under(path, section string) bool {
	return len(path) >= len(section) && path[:len(section)] == section && (len(path) == len(section) || path[len(section)] == '.')
}

// Compile expands p, which must be valid.
func Compile(p *Policy) *Compiled {
	enforced, observed := p.Spec.Sections.apart()
	c := compile(p, enforced)
	c.observed = compile(p, observed)
	// What a policy switches off is not observed there either.
	c.observed.clears = append(c.offs(), c.observed.clears...)
	return c
}

// compile expands some of the sections of p.
func compile(p *Policy, s Sections) *Compiled {
	e := expansion{}
	e.plain(&s)
	e.qualify(p.Metadata.Namespace)
	if s.Bulkhead != nil {
		s.Bulkhead.expand(&e)
	}
	if s.CircuitBreaker != nil {
		s.CircuitBreaker.expand(&e, s.LoadBalancing)
	}
	c := &Compiled{Policy: p, rank: rankOf(p), toNamespace: targetNamespace(p), part: partOf(p.Spec.To), clears: e.clears, sets: e.sets}
	for i := range c.clears {
		c.clears[i].scope = c.part.scope()
	}
	if p.Spec.From != nil {
		c.fromNamespace = sourceNamespace(p)
	}
	return c
}

// Matches reports whether c's target covers svc or a part of it, for at least some caller.
func (c *Compiled) Matches(svc Service) bool { return c.aims(&svc) }

// Applies reports whether c, which matches svc, covers calls from caller to it, or to the part that c names.
func (c *Compiled) Applies(_ Service, caller Caller) bool { return c.covers(&caller) }

// ForEvery reports whether c, where it matches, is for every caller.
func (c *Compiled) ForEvery() bool { return c.Policy.Spec.From == nil && !c.rank.consumer }

// NamesService reports whether c is written for one service, by its name, and for nothing less of it.
func (c *Compiled) NamesService() bool {
	to := c.Policy.Spec.To
	return to.Service != "" && to.Service != "*" && to.Subset == "" && to.Route == ""
}

// Compare orders by rank: less specific first, name last. It is a total order.
func (c *Compiled) Compare(o *Compiled) int {
	if d := c.rank.compare(o.rank); d != 0 {
		return d
	}
	if d := c.Policy.Key().Compare(o.Policy.Key()); d != 0 {
		return d
	}
	switch {
	case c.Guardrail == nil && o.Guardrail != nil:
		return -1
	case c.Guardrail != nil && o.Guardrail == nil:
		return 1
	}
	return 0
}

// Outranks reports whether c stands over o by its precedence alone: both are as specific.
func (c *Compiled) Outranks(o *Compiled) bool {
	equal := o.rank
	equal.precedence = c.rank.precedence
	return c.rank == equal && c.rank.precedence > o.rank.precedence
}

// Less reports whether c comes before o.
func (c *Compiled) Less(o *Compiled) bool { return c.Compare(o) < 0 }

// clearing is what c takes away in a section, by its own name or by that of a classic knob that expands into it.
func (c *Compiled) clearing(section int) (clearing, bool) {
	for _, clear := range c.clears {
		if clear.section == section || expandsInto(clear.origin, sectionNames[section]) {
			return clear, true
		}
	}
	return clearing{}, false
}

func expandsInto(knob, section string) bool {
	switch knob {
	case "bulkhead":
		return section == "limits"
	case "circuitBreaker":
		return section == "outlierDetection" || section == "loadBalancing"
	}
	return false
}

// expansion collects what a policy does.
type expansion struct {
	clears []clearing
	sets   []setting
}

func (e *expansion) set(path string, value any, from string) {
	e.sets = append(e.sets, setting{unitByPath[path], reflect.ValueOf(value), from})
}

// off switches a section off: what is set there goes, and what it was expanded to.
func (e *expansion) off(name string) {
	c := clearing{section: sectionIndex(name), origin: name, path: name + ".disabled", off: sectionIndex(name)}
	switch name {
	// A circuit breaker's expansion lives and dies together: with its outlier detection its panic threshold goes too, and
	// load balancing keeps its hands off that.
	case "outlierDetection":
		c.origin = "circuitBreaker"
	case "loadBalancing":
		c.keep = "circuitBreaker"
	}
	e.clears = append(e.clears, c)
}

// replace takes away the named section, and all that the section called origin was expanded to.
func (e *expansion) replace(section, origin string) {
	e.clears = append(e.clears, clearing{section: sectionIndex(section), origin: origin, path: origin, off: -1})
}

func sectionIndex(name string) int {
	for i, n := range sectionNames {
		if n == name {
			return i
		}
	}
	return -1
}

// plain takes over the sections that need no expansion.
func (e *expansion) plain(s *Sections) {
	v := reflect.ValueOf(s).Elem()
	for i, name := range sectionNames {
		section := v.Field(i)
		if section.IsNil() || name == "bulkhead" || name == "circuitBreaker" {
			continue
		}
		if isTrue(section.Elem().FieldByName("Disabled").Interface().(*bool)) {
			e.off(name)
		}
	}
	for i, u := range units {
		section := v.Field(u.section)
		if name := sectionNames[u.section]; section.IsNil() || name == "bulkhead" || name == "circuitBreaker" {
			continue
		}
		if value := section.Elem().Field(u.field); !value.IsNil() {
			e.sets = append(e.sets, setting{i, value, u.path})
		}
	}
}
