package catalog

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// How many of each one service may have.
const (
	maxSubsets  = 64
	maxRoutes   = 256
	maxBackends = 64
	maxPattern  = 1024 // bytes of a path, a header's value or an expression
)

// methods are those that proxies take: Envoy refuses others before it routes.
var methods = []string{"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "POST", "PATCH", "CONNECT"}

func (f *faults) subsets(spec *ServiceSpec) {
	if n := len(spec.Subsets); n > maxSubsets {
		f.add("spec.subsets", "must have at most %d subsets, has %d", maxSubsets, n)
	}
	for _, name := range slices.Sorted(maps.Keys(spec.Subsets)) {
		path, labels := "spec.subsets."+name, spec.Subsets[name]
		if msg := manifest.CheckName(name); msg != "" {
			f.add(path, "the subset's name %s", msg)
			continue
		}
		if len(labels) == 0 {
			f.add(path, "is empty: name at least one label of its endpoints")
		}
		f.errs = append(f.errs, manifest.CheckLabels(path, labels)...)
	}
}

func (f *faults) routes(svc *Service) {
	list := svc.Spec.Routes
	if n := len(list); n > maxRoutes {
		f.add("spec.routes", "must have at most %d routes, has %d", maxRoutes, n)
		return
	}
	first := make(map[string]int)
	shadow := -1
	for i := range list {
		r, path := &list[i], fmt.Sprintf("spec.routes[%d]", i)
		before, twice := first[r.Name]
		switch msg := manifest.CheckName(r.Name); {
		case r.Name == "":
			f.add(path+".name", "is required")
		case msg != "":
			f.add(path+".name", "%s", msg)
		case r.Name == DefaultRoute:
			f.add(path+".name", "%q is the route that takes what no other does: choose another name", DefaultRoute)
		case twice:
			f.add(path+".name", "%q is there twice: see spec.routes[%d]", r.Name, before)
		default:
			first[r.Name] = i
		}
		if shadow >= 0 {
			f.add(path, "never matches: spec.routes[%d] takes every call before it", shadow)
		} else if r.Everything() {
			shadow = i
		}
		if r.Match != nil {
			f.match(path+".match", r.Match)
		}
		f.backends(path+".backends", svc, r.Backends)
	}
}

func (f *faults) match(path string, m *RouteMatch) {
	if m.Path != nil {
		f.path(path+".path", m.Path)
	}
	for i, method := range m.Methods {
		at := fmt.Sprintf("%s.methods[%d]", path, i)
		if msg := manifest.CheckWord(method, methods, nil); msg != "" {
			f.add(at, "%s", msg)
		} else if slices.Contains(m.Methods[:i], method) {
			f.add(at, "%q is there twice", method)
		}
	}
	for i := range m.Headers {
		f.requestHeader(fmt.Sprintf("%s.headers[%d]", path, i), &m.Headers[i])
	}
}

func (f *faults) path(path string, m *PathMatch) {
	if !f.oneOf(path, "exact, prefix or regex", m.Exact != nil, m.Prefix != nil, m.Regex != nil) {
		return
	}
	for _, p := range []struct {
		field string
		value *string
	}{{"exact", m.Exact}, {"prefix", m.Prefix}} {
		switch {
		case p.value == nil:
		case !strings.HasPrefix(*p.value, "/"):
			f.add(path+"."+p.field, "must begin with /")
		case strings.ContainsAny(*p.value, "?#"):
			f.add(path+"."+p.field, "must have no query and no fragment: only the path is looked at")
		default:
			f.text(path+"."+p.field, *p.value)
		}
	}
	if m.Regex != nil {
		f.regex(path+".regex", *m.Regex)
	}
}

func (f *faults) requestHeader(path string, h *RequestMatcher) {
	switch {
	case h.Name == "":
		f.add(path+".name", "is required")
	case strings.HasPrefix(h.Name, ":"):
		f.add(path+".name", "%.70q is no header of the application: match the path or the methods", h.Name)
	case h.Name != strings.ToLower(h.Name):
		f.add(path+".name", "must be in lower case: %.70s", strings.ToLower(h.Name))
	case !headerName(h.Name):
		f.add(path+".name", "%.70q can't be the name of a header", h.Name)
	case strings.HasPrefix(h.Name, "x-envoy-"):
		f.add(path+".name", "x-envoy- headers are dropped before a route is chosen")
	}
	if !f.oneOf(path, "exact, prefix, regex or present", h.Exact != nil, h.Prefix != nil, h.Regex != nil, h.Present != nil) {
		return
	}
	switch {
	case h.Exact != nil:
		f.text(path+".exact", *h.Exact)
	case h.Prefix != nil && *h.Prefix == "":
		f.add(path+".prefix", "is empty: write present: true for any value")
	case h.Prefix != nil:
		f.text(path+".prefix", *h.Prefix)
	case h.Regex != nil:
		f.regex(path+".regex", *h.Regex)
	}
}

// oneOf reports whether exactly one of the fields is there.
func (f *faults) oneOf(path, names string, there ...bool) bool {
	n := 0
	for _, is := range there {
		if is {
			n++
		}
	}
	switch {
	case n == 0:
		f.add(path, "needs %s", names)
	case n > 1:
		f.add(path, "takes one of %s", names)
	}
	return n == 1
}

// text checks what is compared letter by letter: nothing that no request line or header can hold.
func (f *faults) text(path, s string) {
	switch {
	case len(s) > maxPattern:
		f.add(path, "must have at most %d bytes", maxPattern)
	case strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }):
		f.add(path, "has a control character, which no request has there")
	}
}

func (f *faults) regex(path, s string) {
	if s == "" {
		f.add(path, "is empty")
		return
	}
	f.text(path, s)
	if _, err := regexp.Compile(s); err != nil {
		f.add(path, "is no RE2 expression: %s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
}

func (f *faults) backends(path string, svc *Service, list []Backend) {
	if n := len(list); n > maxBackends {
		f.add(path, "must have at most %d backends, has %d", maxBackends, n)
		return
	}
	type place struct {
		service manifest.Key
		subset  string
	}
	seen := make(map[place]int)
	var weight uint64
	for i, b := range list {
		at := fmt.Sprintf("%s[%d]", path, i)
		weight += uint64(b.Share())
		key := b.Key(svc)
		if msg := checkKey(b.Service, key); msg != "" {
			f.add(at+".service", "%s", msg)
			continue
		}
		if b.Subset != "" {
			f.backendSubset(at+".subset", svc, key, b.Subset)
		}
		to := place{key, b.Subset}
		if first, twice := seen[to]; twice {
			f.add(at, "is there twice: see %s[%d]", path, first)
			continue
		}
		seen[to] = i
	}
	if len(list) > 0 && weight == 0 {
		f.add(path, "all weights are 0: give one of them a share")
	}
}

// backendSubset checks the subset of a backend; those of another service are known to whoever knows that service.
func (f *faults) backendSubset(path string, svc *Service, key manifest.Key, subset string) {
	if msg := manifest.CheckName(subset); msg != "" {
		f.add(path, "%s", msg)
		return
	}
	if _, ok := svc.Spec.Subsets[subset]; !ok && key == svc.Key() {
		f.add(path, "there is no subset %q in spec.subsets", subset)
	}
}

// checkKey says what is wrong with a reference to a service, read as key; "" when nothing is, or there is none.
func checkKey(ref string, key manifest.Key) string {
	if ref == "" {
		return ""
	}
	if namespace, _, ok := strings.Cut(ref, "/"); ok {
		if msg := manifest.CheckName(namespace); msg != "" {
			return "the namespace " + msg
		}
	}
	if msg := manifest.CheckName(key.Name); msg != "" {
		return "the name " + msg
	}
	return ""
}

// headerName reports whether s can be the name of a header, in lower case.
func headerName(s string) bool {
	return len(s) <= 256 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~") == ""
}
