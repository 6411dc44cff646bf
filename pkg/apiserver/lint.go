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

// findings keeps what lint finds in the newest world that was asked for: writes and readers ask for the same one again and again.
type findings struct {
	mu   sync.Mutex
	of   *world.World  // guarded by mu
	list []api.Finding // guarded by mu; the slice itself is immutable
}

func (f *findings) get(w *world.World) []api.Finding {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.of != w {
		f.of, f.list = w, find(w)
	}
	return f.list
}

// find is all that lint finds in w.
func find(w *world.World) []api.Finding {
	in := lint.Input{Policies: w.Ranked()}
	for _, s := range w.Services() {
		in.Services = append(in.Services, lint.Service{Service: s, Hosts: len(s.Spec.Endpoints) + len(w.Endpoints(s.Key()))})
	}
	list := []api.Finding{}
	for _, f := range lint.Run(in) {
		list = append(list, api.Finding{
			Code: f.Code, Severity: api.Severity(f.Severity), Kind: f.Kind, Namespace: f.Object.Namespace, Name: f.Object.Name, Path: f.Path,
			Calls: f.Calls, More: f.More, Why: f.Why, Instead: f.Instead, Accepted: f.Accepted,
		})
	}
	return list
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
	for _, f := range s.findings.get(w) {
		if (in.Namespace == "" || f.Namespace == in.Namespace) && !f.Severity.Below(api.Severity(in.Severity)) {
			body.Items = append(body.Items, f)
		}
	}
	return &answer[api.LintResponse]{Body: body}, nil
}

// told is what makes two findings one, whatever else holds for the same object.
type told struct {
	code, path string
	object     manifest.Key
	severity   api.Severity
}

func tell(f api.Finding) told {
	return told{f.Code, f.Path, manifest.Key{Namespace: f.Namespace, Name: f.Name}, f.Severity}
}

// advised notes what lint finds about the written objects, and what the write brings about elsewhere. With strict it refuses errors.
func (w *writer) advised(before *world.World, p *plan, strict bool) error {
	written := make(map[string]*step)
	for _, s := range p.steps {
		if s.kind != endpointKind && s.action != api.Unchanged {
			written[s.kind+"/"+s.key.String()] = s
		}
	}
	if len(written) == 0 && !strict {
		return nil
	}
	old := make(map[told]bool)
	for _, f := range w.findings.get(before) {
		old[tell(f)] = true
	}
	for _, f := range find(p.world) {
		concerned := written[f.Kind+"/"+f.Namespace+"/"+f.Name] != nil || !old[tell(f)]
		if concerned && !p.warnedOf(f) {
			p.findings = append(p.findings, f)
		}
	}
	if !strict {
		return nil
	}
	return refusedByLint(p.findings, written)
}

// warnedOf reports whether a warning says of the same field already what f says.
func (p *plan) warnedOf(f api.Finding) bool {
	return slices.ContainsFunc(p.warnings, func(w api.Warning) bool {
		return w.Kind == f.Kind && w.Namespace == f.Namespace && w.Name == f.Name &&
			(w.Field == f.Path || f.Code == lint.MatchesNothing && strings.HasPrefix(w.Field, f.Path))
	})
}

// refusedByLint is the problem of findings that are errors, nil where there is none.
func refusedByLint(list []api.Finding, written map[string]*step) error {
	problem := &api.Problem{
		Type: api.LintErrors, Title: "Lint errors", Status: http.StatusUnprocessableEntity, Detail: "and the request is strict",
	}
	for _, f := range list {
		if f.Severity != api.SeverityError {
			continue
		}
		message := fmt.Sprintf("%s [%s]; write %s", f.Why, f.Code, f.Instead)
		if s := written[f.Kind+"/"+f.Namespace+"/"+f.Name]; s != nil {
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
