package apiserver

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/lint"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// findings is a linter that has looked at the world that was asked about last: what the next one is asked about differs little.
type findings struct {
	mu     sync.Mutex
	linter *lint.Linter // guarded by mu
	of     *world.World // guarded by mu; the one that the linter has looked at
}

// all is everything that lint finds in w.
func (f *findings) all(w *world.World) []lint.Finding {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.look(w)
	return f.linter.All()
}

// brought is what a write brings about that leads from before to after: what lint finds about the objects that it writes, and what is new elsewhere.
func (f *findings) brought(before, after *world.World, written map[object]*step) []lint.Finding {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.look(before)
	var list []lint.Finding
	for _, found := range f.look(after) {
		if written[objectOf(found)] == nil {
			list = append(list, found)
		}
	}
	for o := range written {
		list = append(list, f.linter.About(o.kind, o.key)...)
	}
	slices.SortFunc(list, lint.Compare)
	return list
}

// amend changes an object of a world that brought was given, which is remembered.
func (f *findings) amend(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// look looks at w, and finds what is new there.
func (f *findings) look(w *world.World) []lint.Finding {
	if f.of == w {
		return nil
	}
	if f.linter == nil {
		f.linter = lint.New()
	}
	f.of = w
	in := lint.Input{Policies: w.Ranked(), Services: make([]lint.Service, 0, len(w.Services()))}
	for _, s := range w.Services() {
		in.Services = append(in.Services, lint.ServiceOf(s, w.Endpoints(s.Key())))
	}
	return f.linter.Look(in)
}

func finding(f lint.Finding) api.Finding {
	return api.Finding{
		Code: f.Code, Severity: api.Severity(f.Severity), Kind: f.Kind, Namespace: f.Object.Namespace, Name: f.Object.Name, Path: f.Path,
		Calls: f.Calls, More: f.More, Why: f.Why, Instead: f.Instead, Accepted: f.Accepted,
	}
}

type lintInput struct {
	At
	Namespace string `query:"namespace" doc:"Only findings about objects of this namespace."`
	Severity  string `query:"severity" enum:"error,warning,info" default:"info" doc:"Only findings of this severity, and worse ones."`
}

func (s *server) lint(ctx context.Context, in *lintInput) (*answer[api.LintResponse], error) {
	if in.Namespace != "" {
		if err := checkNames("query.namespace", in.Namespace); err != nil {
			return nil, err
		}
	}
	w, err := s.worldAt(ctx, in.Revision)
	if err != nil {
		return nil, err
	}
	body := api.LintResponse{Items: []api.Finding{}, Revision: w.Rev}
	for _, found := range s.findings.all(w) {
		f := finding(found)
		if (in.Namespace == "" || f.Namespace == in.Namespace) && !f.Severity.Below(api.Severity(in.Severity)) {
			body.Items = append(body.Items, f)
		}
	}
	return &answer[api.LintResponse]{Body: body}, nil
}

// object names an object of any kind.
type object struct {
	kind string
	key  manifest.Key
}

func objectOf(f lint.Finding) object { return object{f.Kind, f.Object} }

// advised notes what lint finds about the written objects, and what the write brings about elsewhere. With strict it refuses errors.
func (w *writer) advised(before *world.World, p *plan, strict bool) error {
	written := make(map[object]*step)
	for _, s := range p.steps {
		if s.kind != endpointKind && s.action != api.Unchanged {
			written[object{s.kind, s.key}] = s
		}
	}
	if len(written) == 0 && !strict {
		return nil
	}
	for _, found := range w.findings.brought(before, p.world, written) {
		if f := finding(found); !p.warnedOf(f) {
			p.findings = append(p.findings, f)
		}
	}
	if !strict {
		return nil
	}
	return refusedByLint(p.findings, written)
}

// warnedOf reports whether a warning says already what f says: that what the object names is not there.
func (p *plan) warnedOf(f api.Finding) bool {
	return f.Code == lint.MatchesNothing && slices.ContainsFunc(p.warnings, func(w api.Warning) bool {
		return w.Kind == f.Kind && w.Namespace == f.Namespace && w.Name == f.Name && strings.HasPrefix(w.Field, f.Path)
	})
}

// refusedByLint is the problem of findings that are errors, nil where there is none.
func refusedByLint(list []api.Finding, written map[object]*step) error {
	problem := &api.Problem{
		Type: api.LintErrors, Title: "Lint errors", Status: http.StatusUnprocessableEntity, Detail: "and the request is strict",
	}
	for _, f := range list {
		if f.Severity != api.SeverityError {
			continue
		}
		message := fmt.Sprintf("%s [%s]; write %s", f.Why, f.Code, f.Instead)
		if s := written[object{f.Kind, manifest.Key{Namespace: f.Namespace, Name: f.Name}}]; s != nil {
			problem.Errors = append(problem.Errors, s.place.fault(f.Path, message))
		} else {
			problem.Errors = append(problem.Errors, manifest.FieldError{Message: f.String() + "; write " + f.Instead})
		}
	}
	if len(problem.Errors) == 0 {
		return nil
	}
	return problem
}
