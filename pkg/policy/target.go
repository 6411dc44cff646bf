package policy

import (
	"cmp"
	"strings"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// Every is the service or namespace that stands for all of them.
const Every = "*"

// How specific a target is, the least first.
const (
	toEveryNamespace = iota
	toEveryService
	toSelector
	toService
	toPart
)

// How specific a source is, the least first.
const (
	fromEvery = iota
	fromSelector
	fromService
)

// rank decides who wins, before the name does.
type rank struct {
	to, from   int8
	consumer   bool
	precedence int32
}

func rankOf(p *Policy) rank {
	r := rank{consumer: isConsumer(p)}
	switch to := p.Spec.To; {
	case to.Namespace == Every:
		r.to = toEveryNamespace
	case to.Service == Every:
		r.to = toEveryService
	case to.Selector != nil:
		r.to = toSelector
	case partOf(to) != (part{}):
		r.to = toPart
	default:
		r.to = toService
	}
	switch from := p.Spec.From; {
	case from == nil:
		r.from = fromEvery
	case from.Selector != nil:
		r.from = fromSelector
	default:
		r.from = fromService
	}
	if p.Spec.Precedence != nil {
		r.precedence = *p.Spec.Precedence
	}
	return r
}

func (r rank) compare(o rank) int {
	consumer := 0
	if r.consumer != o.consumer {
		consumer = -1
		if r.consumer {
			consumer = 1
		}
	}
	return cmp.Or(cmp.Compare(r.to, o.to), cmp.Compare(r.from, o.from), consumer, cmp.Compare(r.precedence, o.precedence))
}

// targetNamespace is where the called services are; Every for all namespaces.
func targetNamespace(p *Policy) string { return cmp.Or(p.Spec.To.Namespace, p.Metadata.Namespace) }

// sourceNamespace is where the calling services are. Only for a policy with a source.
func sourceNamespace(p *Policy) string { return cmp.Or(p.Spec.From.Namespace, p.Metadata.Namespace) }

// isConsumer reports whether p speaks of another namespace's services on behalf of its own callers.
func isConsumer(p *Policy) bool {
	return p.Metadata.Namespace != manifest.SystemNamespace && targetNamespace(p) != p.Metadata.Namespace
}

func selects(selector, labels map[string]string) bool {
	for k, v := range selector {
		if have, ok := labels[k]; !ok || have != v {
			return false
		}
	}
	return true
}

// matches reports whether c speaks of what of svc is looked at.
func (c *Compiled) matches(svc *Service) bool { return c.part.holds(svc.part) && c.aims(svc) }

// aims reports whether c speaks of svc, or of a part of it.
func (c *Compiled) aims(svc *Service) bool {
	to := &c.Policy.Spec.To
	if c.toNamespace != Every && c.toNamespace != svc.Namespace {
		return false
	}
	if to.Selector != nil {
		return selects(to.Selector, svc.Labels)
	}
	return to.Service == Every || to.Service == svc.Name
}

// covers reports whether calls from caller are meant.
func (c *Compiled) covers(caller *Caller) bool {
	if c.rank.consumer && caller.Namespace != c.Policy.Metadata.Namespace {
		return false
	}
	from := c.Policy.Spec.From
	if from == nil {
		return true
	}
	if c.fromNamespace != Every && c.fromNamespace != caller.Namespace {
		return false
	}
	if from.Selector != nil {
		return selects(from.Selector, caller.Labels)
	}
	return from.Service == caller.Name
}

// validateTarget checks both sides of a policy.
func validateTarget(p *Policy, f *faults) {
	root := p.Metadata.Namespace == manifest.SystemNamespace
	to := p.Spec.To
	f.side("to", to.Namespace, to.Service, to.Selector, root)
	if to.Service == "" && to.Selector == nil {
		f.add("to", "needs service or selector: name a service, or write service: \"*\" for every one of the namespace")
	}
	if to.Namespace == Every && to.Service != Every && to.Service != "" {
		f.add("to.service", "must be \"*\", or a selector, where to.namespace is \"*\"")
	}
	validatePart(p, f)
	from := p.Spec.From
	if from == nil {
		return
	}
	f.side("from", from.Namespace, from.Service, from.Selector, root)
	elsewhere := from.Namespace != "" && from.Namespace != Every && from.Namespace != p.Metadata.Namespace
	switch {
	case elsewhere && from.Service == Every:
		f.add("from.service", "must be one service, or write a selector: all callers of another namespace can't be named yet")
	case elsewhere && from.Service == "" && from.Selector == nil:
		f.add("from", "needs service or selector: all callers of another namespace can't be named yet")
	case from.Service == Every:
		f.add("from.service", "leave from out to cover every caller")
	case from.Service == "" && from.Selector == nil:
		f.add("from", "needs service or selector; leave from out to cover every caller")
	}
	if isConsumer(p) && sourceNamespace(p) != p.Metadata.Namespace {
		f.add("from.namespace", "must be the policy's own (%s) where the called service is another namespace's", p.Metadata.Namespace)
	}
}

// side checks what to and from have in common.
func (f *faults) side(path, namespace, service string, selector map[string]string, root bool) {
	switch {
	case namespace == Every && !root:
		f.add(path+".namespace", "\"*\" is for policies in %s only", manifest.SystemNamespace)
	case namespace != "" && namespace != Every:
		f.name(path+".namespace", namespace)
	}
	if service != "" && service != Every {
		f.name(path+".service", service)
	}
	if service != "" && selector != nil {
		f.add(path, "takes service or selector, not both")
	}
	if selector != nil && len(selector) == 0 {
		f.add(path+".selector", "is empty: name at least one label")
	}
	f.errs = append(f.errs, manifest.CheckLabels(f.prefix+path+".selector", selector)...)
}

// Described is the target as people say it, such as "shop/payments from orders".
func (c *Compiled) Described() string {
	var b strings.Builder
	side := func(namespace, service string, selector map[string]string) {
		b.WriteString(namespace + "/")
		if selector == nil {
			b.WriteString(service)
			return
		}
		b.WriteString(labelText(selector))
	}
	to := c.Policy.Spec.To
	side(c.toNamespace, to.Service, to.Selector)
	switch {
	case to.Subset != "":
		b.WriteString(" subset " + to.Subset)
	case to.Route != "":
		b.WriteString(" route " + to.Route)
	}
	if from := c.Policy.Spec.From; from != nil {
		b.WriteString(" from ")
		side(c.fromNamespace, from.Service, from.Selector)
	}
	return b.String()
}
