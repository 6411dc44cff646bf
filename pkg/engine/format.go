package engine

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
)

// text fills in a format. R is the reply that it tells of, nil where there is none; none is said where there is no value.
func (c *Call) text(f *dataplane.Format, r *reply, none string) string {
	if len(f.Parts) == 1 && f.Parts[0].Command == dataplane.Literal {
		return f.Parts[0].Text
	}
	var b strings.Builder
	for i := range f.Parts {
		p := &f.Parts[i]
		if p.Command == dataplane.Literal {
			b.WriteString(p.Text)
		} else if value, ok := c.value(p, r); ok {
			b.WriteString(value)
		} else {
			b.WriteString(none)
		}
	}
	return b.String()
}

// value is what a command yields; false: nothing.
func (c *Call) value(p *dataplane.FormatPart, r *reply) (string, bool) {
	switch p.Command {
	case dataplane.RequestHeader:
		values := c.req.Header[p.Text]
		if len(values) == 0 {
			return "", false
		}
		return values[0], true
	case dataplane.Computed:
		n, ok := c.compute(p.Expression)
		return strconv.FormatInt(n, 10), ok
	case dataplane.ResponseFlags:
		return c.flags.String(), true
	case dataplane.UpstreamName:
		if c.target == nil {
			return "", false
		}
		return c.target.live.name, true
	}
	if r == nil {
		return "", false
	}
	switch p.Command {
	case dataplane.ResponseCode:
		return strconv.Itoa(r.status), true
	case dataplane.CodeDetails:
		return r.details, r.details != ""
	}
	return r.body, true
}

// body makes a body of a format, and says what its content type is.
func (c *Call) body(f *dataplane.BodyFormat, r *reply) (body, contentType string) {
	if f.Text != nil {
		return c.text(f.Text, r, "-"), f.ContentType
	}
	var b strings.Builder
	b.WriteByte('{')
	for i := range f.JSON {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(quote(f.JSON[i].Name) + ":" + c.json(&f.JSON[i].Value, r))
	}
	return b.String() + "}\n", f.ContentType
}

// json is a value of one command alone by its type, and a string else.
func (c *Call) json(f *dataplane.Format, r *reply) string {
	if len(f.Parts) != 1 || f.Parts[0].Command == dataplane.Literal {
		return quote(c.text(f, r, "-"))
	}
	value, ok := c.value(&f.Parts[0], r)
	switch {
	case !ok:
		return "null"
	case f.Parts[0].Command == dataplane.ResponseCode:
		return value
	}
	return quote(value)
}

func quote(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string never fails
	return strings.TrimSuffix(b.String(), "\n")
}
