package apiserver

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/hashicorp/go-hclog"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/store"
)

func forbidden(detail string) *api.Problem {
	return &api.Problem{Type: api.Forbidden, Title: "Forbidden", Status: http.StatusForbidden, Detail: detail}
}

func notFound(detail string) *api.Problem {
	return &api.Problem{Type: api.NotFound, Title: "Not found", Status: http.StatusNotFound, Detail: detail}
}

func internal(detail string) *api.Problem {
	return &api.Problem{Type: api.Internal, Title: "Internal error", Status: http.StatusInternalServerError, Detail: detail}
}

func tooLarge(detail string) *api.Problem {
	return &api.Problem{Type: api.TooLarge, Title: "Too large", Status: http.StatusRequestEntityTooLarge, Detail: detail}
}

// invalid is the problem of an input with faults.
func invalid(faults ...manifest.FieldError) *api.Problem {
	detail := "1 fault"
	if len(faults) != 1 {
		detail = fmt.Sprintf("%d faults", len(faults))
	}
	return &api.Problem{Type: api.Invalid, Title: "Invalid request", Status: http.StatusUnprocessableEntity, Detail: detail, Errors: faults}
}

func invalidField(field, message string) *api.Problem {
	return invalid(manifest.FieldError{Field: field, Message: message})
}

// faulty turns the faults of a decoder or validator into a problem. An error of another kind becomes one fault.
func faulty(err error) *api.Problem {
	var list manifest.FieldErrors
	var one *manifest.FieldError
	switch {
	case errors.As(err, &list):
		faults := make([]manifest.FieldError, len(list))
		for i, f := range list {
			faults[i] = *f
		}
		return invalid(faults...)
	case errors.As(err, &one):
		return invalid(*one)
	}
	return invalid(manifest.FieldError{Message: err.Error()})
}

func preconditionFailed(detail string, revision int64) *api.Problem {
	return &api.Problem{
		Type: api.PreconditionFails, Title: "Precondition failed", Status: http.StatusPreconditionFailed,
		Detail: detail, Revision: revision,
	}
}

func conflict(kind api.ProblemType, detail string, with ...api.Conflict) *api.Problem {
	return &api.Problem{Type: kind, Title: "Conflict", Status: http.StatusConflict, Detail: detail, Conflicts: with}
}

// storeFailed is the answer to a store that did not take a write or read.
func storeFailed(err error) error {
	if errors.Is(err, store.ErrTooLarge) {
		return tooLarge(err.Error())
	}
	if !errors.Is(err, store.ErrUnavailable) {
		return err
	}
	p := &api.Problem{
		Type: api.Unavailable, Title: "Store unavailable", Status: http.StatusServiceUnavailable,
		Detail: "the store can't be reached, or has no quorum: nothing is known to be written; reads and proxies go on with what this replica has",
	}
	if alarm, ok := errors.AsType[*store.AlarmError](err); ok {
		p.Title = "Store refuses writes"
		p.Detail = "etcd's alarm " + alarm.Alarm + " is on: nothing is known to be written; reads and proxies go on; etcdctl alarm disarm ends it once its cause is gone"
	}
	return huma.ErrorWithHeaders(p, http.Header{"Retry-After": {"2"}})
}

// contended is the answer to a write that lost to others until its time was over.
func contended() error {
	p := &api.Problem{
		Type: api.Unavailable, Title: "Too many writers", Status: http.StatusServiceUnavailable,
		Detail: "others kept writing the same objects until the time was over: nothing is known to be written; try again",
	}
	return huma.ErrorWithHeaders(p, http.Header{"Retry-After": {"1"}})
}

// asProblem is a transformer that gives the framework's own errors the shape of ours, and every problem its request's id.
func asProblem(log hclog.Logger) huma.Transformer {
	return func(ctx huma.Context, _ string, v any) (any, error) {
		p, ok := v.(*api.Problem)
		if foreign, is := v.(*huma.ErrorModel); is {
			p, ok = translate(foreign), true
		}
		if !ok {
			return v, nil
		}
		if x := exchangeOf(ctx.Context()); x != nil {
			p.RequestID = x.id
		}
		if foreign, is := v.(*huma.ErrorModel); is && p.Status >= http.StatusInternalServerError {
			level := hclog.Error
			if ctx.Context().Err() != nil {
				level = hclog.Debug // whoever asked has gone
			}
			log.Log(level, "request failed", "request", p.RequestID, "method", ctx.Method(), "path", ctx.URL().Path, "error", joined(foreign))
		}
		return p, nil
	}
}

// joined is everything that an error of the framework says.
func joined(e *huma.ErrorModel) error {
	var all []error
	for _, d := range e.Errors {
		all = append(all, errors.New(d.Message))
	}
	return errors.Join(all...)
}

func translate(e *huma.ErrorModel) *api.Problem {
	if e.Status >= http.StatusInternalServerError {
		return internal("the server failed; its log has the details")
	}
	faults := make([]manifest.FieldError, 0, len(e.Errors))
	for _, d := range e.Errors {
		faults = append(faults, manifest.FieldError{Field: d.Location, Message: d.Message})
	}
	slices.SortFunc(faults, func(a, b manifest.FieldError) int {
		return cmp.Or(strings.Compare(a.Field, b.Field), strings.Compare(a.Message, b.Message))
	})
	p := invalid(faults...)
	p.Status = e.Status
	return p
}
