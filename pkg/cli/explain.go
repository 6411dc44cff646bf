package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// explain writes an error to the notes: faults with their line of source and a caret, then one line that says what it comes to.
func (a *app) explain(err error) {
	var p *api.Problem
	var faults manifest.FieldErrors
	switch {
	case errors.As(err, &p):
		for i := range p.Errors {
			a.explainFault(p.Errors[i])
		}
		for _, c := range p.Conflicts {
			a.notef("%s\n", c.Message)
		}
		a.notef("bwctl: %s\n", summary(p))
	case errors.As(err, &faults):
		for _, f := range faults {
			a.explainFault(*f)
		}
		a.notef("bwctl: %s\n", plural(len(faults), "fault"))
	default:
		a.notef("bwctl: %v\n", err)
	}
}

func summary(p *api.Problem) string {
	text := p.Title
	if p.Detail != "" {
		text = strings.ToLower(p.Title[:1]) + p.Title[1:] + ": " + p.Detail
	}
	if p.Status == 503 {
		text += "; try again"
	}
	return text
}

func (a *app) explainFault(f manifest.FieldError) {
	var line string
	var ok bool
	if a.sources != nil {
		line, ok = a.sources.locate(&f)
	}
	f.Field = typed(f.Field)
	a.notef("%s\n", f.Error())
	if ok && len(line) <= 200 {
		a.notef("    %s\n    %s^\n", line, indent(line, f.Column))
	}
}

// typed is the name of what stood on the command line where the server speaks of a part of the request.
func typed(field string) string {
	switch name, _, _ := strings.Cut(field, "["); name {
	case "path.namespace":
		return "--namespace"
	case "path.name":
		return "NAME"
	case "query.version":
		return "--envoy"
	default:
		if flag, ok := strings.CutPrefix(name, "query."); ok {
			return "--" + flag
		}
	}
	return field
}

// indent is blank up to a column, as wide as the line is there.
func indent(line string, column int) string {
	var b strings.Builder
	for _, r := range line {
		if column--; column <= 0 {
			break
		}
		if r == '\t' {
			b.WriteByte('\t')
		} else {
			b.WriteByte(' ')
		}
	}
	return b.String()
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func join(words []string) string { return strings.Join(words, "|") }
