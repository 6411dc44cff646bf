package corpus

import (
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/breakwater-mesh/breakwater/internal/testkit/draw"
	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

var (
	// policyName is the name of a policy of the corpus in a message.
	policyName = regexp.MustCompile(`\b[a-z-]+/p[0-9]+\b`)
	// listed is what a reason lists of the fields of a section that lacks something: more or fewer of them make no other reason of it.
	listed = regexp.MustCompile(`\([^)]* of policy [^)]*\)`)
)

// exact holds the words of a refusal against the language: a reason names all who have a part in it, and nobody else.
func (m *maker) exact(written *policy.Policy, reasons []string) {
	if len(reasons) == 0 {
		stop("the refusal of %s says nothing", written.Key())
	}
	all := compiled(append(m.Admitted(), written))
	for _, reason := range reasons {
		names := policyName.FindAllString(reason, -1)
		isNamed := func(p *policy.Compiled) bool { return slices.Contains(names, p.Policy.Key().String()) }
		if !m.conflict(reason, only(all, isNamed)) {
			speaking := compiled(reduced(all, reason))
			m.merged(written, reason, only(speaking, isNamed), speaking)
		}
	}
}

func compiled(policies []*policy.Policy) []*policy.Compiled {
	var list []*policy.Compiled
	for _, p := range policies {
		list = append(list, policy.Compile(p))
	}
	slices.SortFunc(list, (*policy.Compiled).Compare)
	return list
}

// expanded are sections that are expanded into each other.
var expanded = []string{"outlierDetection", "circuitBreaker", "loadBalancing"}

// reduced are the policies that speak of the section that a reason is about, with nothing else: what comes of that is quickly seen.
func reduced(all []*policy.Compiled, reason string) []*policy.Policy {
	section := reason[:strings.IndexAny(reason, ". ")]
	var list []*policy.Policy
	for _, c := range all {
		p := *c.Policy
		sections := reflect.ValueOf(&p.Spec.Sections).Elem()
		for _, f := range draw.Fields("", sections) {
			if f.Path != section && !(slices.Contains(expanded, f.Path) && slices.Contains(expanded, section)) {
				f.Value.SetZero()
			}
		}
		if !sections.IsZero() {
			list = append(list, &p)
		}
	}
	return list
}

// conflict reports whether the reason is that two policies contradict each other, and they are named.
func (m *maker) conflict(reason string, named []*policy.Compiled) bool {
	called, callers := m.described()
	found := policy.Conflicts(named, called, callers, nil)
	return len(named) == 2 && slices.ContainsFunc(found, func(c policy.Conflict) bool { return c.Message == reason })
}

// merged looks for a call for which the reason holds. There it must hold for those alone that are named, for none of them less, and
// whoever else is left out.
func (m *maker) merged(written *policy.Policy, reason string, named, all []*policy.Compiled) {
	service, applied := m.place(reason, named, all)
	if applied == nil {
		stop("the refusal of %s holds for no call: %s", written.Key(), reason)
	}
	if !slices.Contains(told(service, named), reason) {
		stop("the refusal of %s does not come of those that it names alone: %s", written.Key(), reason)
	}
	for _, p := range applied {
		rest := func(list []*policy.Compiled) []*policy.Compiled {
			return only(list, func(o *policy.Compiled) bool { return o != p })
		}
		switch {
		case !slices.Contains(named, p) && !tells(service, rest(applied), reason):
			stop("the refusal of %s does not name %s, without which there were none: %s", written.Key(), p.Policy.Key(), reason)
		case slices.Contains(named, p) && slices.Contains(told(service, rest(named)), reason):
			stop("the refusal of %s names %s, and is the same without: %s", written.Key(), p.Policy.Key(), reason)
		}
	}
}

// place is a service and what applies to calls of it, where the reason holds; nil where there is none.
func (m *maker) place(reason string, named, all []*policy.Compiled) (policy.Service, []*policy.Compiled) {
	called, callers := m.described()
	for _, s := range called {
		matches := func(p *policy.Compiled) bool { return p.Matches(s) }
		if len(only(named, matches)) < len(named) {
			continue
		}
		matching := only(all, matches)
		for _, c := range callers {
			applies := func(p *policy.Compiled) bool { return p.Applies(s, c) }
			if len(only(named, applies)) < len(named) {
				continue
			}
			if applied := only(matching, applies); slices.Contains(told(s, applied), reason) {
				return s, applied
			}
		}
	}
	return policy.Service{}, nil
}

// told is why what comes of some policies is invalid.
func told(s policy.Service, some []*policy.Compiled) []string {
	var reasons []string
	_, problems := policy.Merge(s, some)
	for _, p := range problems {
		reasons = append(reasons, p.Message)
	}
	return reasons
}

// tells reports whether a reason is among them, whatever it lists.
func tells(s policy.Service, some []*policy.Compiled, reason string) bool {
	return slices.ContainsFunc(told(s, some), func(r string) bool { return listed.ReplaceAllString(r, "") == listed.ReplaceAllString(reason, "") })
}

func only(list []*policy.Compiled, is func(*policy.Compiled) bool) []*policy.Compiled {
	return slices.DeleteFunc(slices.Clone(list), func(p *policy.Compiled) bool { return !is(p) })
}

// described are the services of the catalogue and its callers, and such as policies may describe by labels.
func (m *maker) described() ([]policy.Service, []policy.Caller) {
	called, callers := slices.Clone(m.called), append(slices.Clone(m.callers), policy.Caller{})
	for _, namespace := range append([]string{manifest.SystemNamespace}, namespaces...) {
		for _, set := range labels {
			key := manifest.Key{Namespace: namespace}
			called = append(called, policy.Service{Key: key, Labels: set, Protocol: string(catalog.HTTP)})
			callers = append(callers, policy.Caller{Key: key, Labels: set})
		}
	}
	return called, callers
}
