package engine

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
)

// reply is an answer of the data plane's own, before the listener's mappers and filters have seen it.
type reply struct {
	status  int
	grpc    int // gRPC status; -1: by status
	body    string
	flags   Flags
	details string
	extra   []Field
	edits   []dataplane.HeaderEdit
	direct  bool // no filter sees it

	location string // "" none
}

// local makes a reply the call's answer.
func (c *Call) local(r *reply) Answer {
	c.flags |= r.flags
	c.details = r.details
	h := http.Header{}
	if r.location != "" {
		h["Location"] = []string{r.location}
	}
	if c.route != nil {
		early := *r
		early.status = 0 // it is not known yet
		c.editLevels(h, c.route.Response, &early)
	}
	if c.attempts > 0 && !c.outer && c.host.AttemptCountResponse {
		h[attemptCount] = []string{strconv.Itoa(c.attempts)}
	}
	for _, f := range r.extra {
		h[f.Name] = append(h[f.Name], f.Value)
	}
	c.edit(h, r.edits, r)
	l := c.form(r, h)
	if !r.direct {
		if other := c.respond(l.Status, l.Header); other != nil {
			return c.local(other)
		}
	}
	return Answer{Local: l, Status: r.status, Flags: c.flags}
}

const attemptCount = "X-Envoy-Attempt-Count"

// respond shows the head of an answer to the filters.
func (c *Call) respond(status int, h http.Header) *reply {
	for _, s := range slices.Backward(c.steps) {
		if r := s.response(c, status, h); r != nil {
			c.replaced = true
			return r
		}
	}
	return nil
}

// form maps a reply and puts it into the words of HTTP or, for gRPC, of a response of trailers only. H becomes its header.
func (c *Call) form(r *reply, h http.Header) *LocalReply {
	before := h.Get("Content-Type")
	said := r.body
	kind := c.mapReply(r, h)
	if !c.grpc {
		if r.body == "" {
			delete(h, "Content-Type")
		} else if now := h.Get("Content-Type"); now == "" || r.body != said && now == before {
			h["Content-Type"] = []string{kind}
		}
		if r.body != "" || c.req.Method != http.MethodHead {
			h["Content-Length"] = []string{strconv.Itoa(len(r.body))}
		}
		return &LocalReply{Status: r.status, Header: h, Body: r.body}
	}
	h["Content-Type"] = []string{"application/grpc"}
	if h.Get("Grpc-Status") == "" {
		code := r.grpc
		if code < 0 {
			code = grpcStatus(r.status)
		}
		h["Grpc-Status"] = []string{strconv.Itoa(code)}
	}
	if r.body != "" {
		h["Grpc-Message"] = []string{encodeMessage(r.body)}
	}
	delete(h, "Content-Length")
	return &LocalReply{Status: http.StatusOK, Header: h}
}

// mapReply changes a reply as the first mapper that matches says, and returns the content type of its body.
func (c *Call) mapReply(r *reply, h http.Header) (contentType string) {
	format := c.http.ReplyFormat
	for i := range c.http.Replies {
		m := &c.http.Replies[i]
		if !c.holds(&m.When, r) {
			continue
		}
		if m.Body != nil {
			r.body = *m.Body
		}
		c.edit(h, m.Headers, r)
		if m.Status != 0 {
			r.status = m.Status
		}
		if m.Format != nil {
			format = m.Format
		}
		break
	}
	if format == nil {
		return "text/plain"
	}
	r.body, contentType = c.body(format, r)
	return contentType
}

// holds reports whether a condition holds of a reply.
func (c *Call) holds(when *dataplane.Condition, r *reply) bool {
	each := func(w dataplane.Condition) bool { return c.holds(&w, r) }
	switch {
	case when.All != nil:
		return !slices.ContainsFunc(when.All, func(w dataplane.Condition) bool { return !each(w) })
	case when.Any != nil:
		return slices.ContainsFunc(when.Any, each)
	case when.Status != nil:
		return compares(when.Status, r.status)
	case when.Flags != nil:
		return len(when.Flags) == 0 && c.flags != 0 || slices.ContainsFunc(when.Flags, c.flags.has)
	case when.Header != nil:
		return when.Header.Matches(c.req.Get)
	case when.Metadata != nil:
		if c.route == nil {
			return false
		}
		value, ok := c.route.Metadata[when.Metadata.Key]
		return ok && value == when.Metadata.Value
	}
	return strings.Contains(r.details, when.Details)
}

func compares(s *dataplane.StatusCondition, status int) bool {
	value := int(s.Value)
	switch s.Op {
	case dataplane.StatusAtLeast:
		return status >= value
	case dataplane.StatusAtMost:
		return status <= value
	case dataplane.StatusNot:
		return status != value
	}
	return status == value
}

// has reports whether the flag of this name is set.
func (f Flags) has(name string) bool {
	i := slices.Index(flagNames[:], name)
	return i >= 0 && f&(1<<i) != 0
}
