package corpus

import (
	"reflect"
	"slices"
	"strings"

	"github.com/breakwater-mesh/breakwater/internal/testkit/draw"
	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// policy is valid alone.
func (m *maker) policy(name string) *policy.Policy {
	p := &policy.Policy{APIVersion: manifest.APIVersion, Kind: policy.Kind, Metadata: manifest.Meta{
		Namespace: draw.Of(m.chance, "shop", "bank", "shop", "bank", manifest.SystemNamespace), Name: name,
	}}
	p.Spec.To, p.Spec.From = m.target(p.Metadata.Namespace), m.source()
	if len(policy.Validate(p)) > 0 { // it reaches where it may not
		p.Spec.To.Namespace, p.Spec.From = "", nil
	}
	p.Spec.Precedence = new(m.chance.Int32N(draw.Of(m.chance, int32(10), 1000))) // now and then that of another policy
	m.set(without(draw.Fields("", reflect.ValueOf(&p.Spec).Elem()), "to", "from", "precedence"), 60)
	for _, section := range draw.Fields("", reflect.ValueOf(&p.Spec.Sections).Elem()) {
		if draw.Percent(m.chance, 30) {
			m.section(section)
		}
	}
	m.mend(p)
	return p
}

// section is on with some fields, or off.
func (m *maker) section(f draw.Field) {
	f.Value.Set(reflect.New(f.Value.Type().Elem()))
	off := f.Path + ".disabled"
	if draw.Percent(m.chance, 10) {
		f.Value.Elem().FieldByName("Disabled").Set(reflect.ValueOf(new(true)))
		return
	}
	m.set(without(draw.Fields(f.Path, f.Value.Elem()), off), 60)
	if f.Value.Elem().IsZero() { // an empty one can't be written
		f.Value.SetZero()
	}
}

// mend takes out of p what makes it invalid.
func (m *maker) mend(p *policy.Policy) {
	for range 100 {
		errs := policy.Validate(p)
		if len(errs) == 0 {
			if !m.wanting(p) {
				return
			}
			continue
		}
		at := strings.TrimPrefix(draw.Of(m.chance, errs...).Field, "spec.")
		if !draw.Clear(reflect.ValueOf(&p.Spec).Elem(), at) && !m.fill(p, at) {
			stop("what is wrong with this policy can't be left out: %v", errs)
		}
	}
	stop("it is no policy whatever is left out: %v", policy.Validate(p))
}

// fill gives p a field beside its sections that one of them needs.
func (m *maker) fill(p *policy.Policy, path string) bool {
	for _, f := range draw.Fields("", reflect.ValueOf(&p.Spec).Elem()) {
		if f.Path == path {
			f.Set(m.chance)
			return true
		}
	}
	return false
}

// wanting takes a section out of p, mostly, that needs what no other policy will say.
func (m *maker) wanting(p *policy.Policy) bool {
	found := policy.Check(nil, nil, []*policy.Compiled{policy.Compile(p)}, nil)
	if len(found) == 0 || draw.Percent(m.chance, 5) {
		return false
	}
	section, _, _ := strings.Cut(found[0].Field, ".")
	return draw.Clear(reflect.ValueOf(&p.Spec).Elem(), section)
}

// set gives some of the fields a value.
func (m *maker) set(fields []draw.Field, percent int) {
	for _, f := range fields {
		if draw.Percent(m.chance, percent) {
			f.Set(m.chance)
		}
	}
}

func without(fields []draw.Field, names ...string) []draw.Field {
	return slices.DeleteFunc(fields, func(f draw.Field) bool { return slices.Contains(names, f.Path) })
}

// target is mostly one service or a part of it: what covers many makes most of the work of admission.
func (m *maker) target(namespace string) policy.Target {
	everywhere := namespace == manifest.SystemNamespace && draw.Percent(m.chance, 50)
	var to policy.Target
	if everywhere {
		to.Namespace = policy.Every
	}
	switch of := draw.Of(m.chance, m.Services...); {
	case draw.Percent(m.chance, 3):
		to.Service = policy.Every
	case draw.Percent(m.chance, 5) || everywhere:
		to.Selector = draw.Of(m.chance, labels[:3]...)
	default:
		to.Service, to.Namespace = of.Metadata.Name, of.Metadata.Namespace
		subsets, routes := partsOf(of)
		switch m.chance.IntN(6) {
		case 0:
			to.Subset = draw.Of(m.chance, subsets...)
		case 1:
			to.Route = draw.Of(m.chance, routes...)
		}
	}
	return to
}

// partsOf are the subsets and routes of a service, and a subset that it may not have.
func partsOf(s *catalog.Service) (subsets, routes []string) {
	for _, name := range []string{"v1", "v2"} {
		if s.Spec.Subsets[name] != nil {
			subsets = append(subsets, name)
		}
	}
	for _, r := range s.Spec.Routes {
		routes = append(routes, r.Name)
	}
	return append(subsets, "v1"), append(routes, catalog.DefaultRoute)
}

func (m *maker) source() *policy.Source {
	switch m.chance.IntN(4) {
	case 0:
		return &policy.Source{Namespace: draw.Of(m.chance, "", "shop", "bank", policy.Every), Selector: draw.Of(m.chance, labels[:3]...)}
	case 1:
		caller := draw.Of(m.chance, m.Callers...)
		return &policy.Source{Namespace: caller.Namespace, Service: caller.Name}
	}
	return nil
}
