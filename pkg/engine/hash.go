package engine

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// hash is what a cluster that balances by hash goes by; false where the route's policies find nothing in the request. It is asked for at
// each attempt, and each time makes the cookie that is missing, as Envoy does.
func (c *Call) hash() (h uint64, ok bool) {
	for i := range c.route.Hash {
		policy := &c.route.Hash[i]
		if one, found := c.hashOf(policy); found {
			h, ok = (h<<1|h>>63)^one, true
		}
		if policy.Terminal && ok {
			break
		}
	}
	return h, ok
}

func (c *Call) hashOf(p *dataplane.HashPolicy) (uint64, bool) {
	switch {
	case p.Header != "":
		return hashValues(c.req.Get(p.Header))
	case p.Cookie != "":
		value := cookieValue(c.req.Header["Cookie"], p.Cookie)
		if value == "" && p.TTL != nil {
			value = c.makeCookie(p)
		}
		return hashString(value), value != ""
	case p.SourceIP:
		host, _, err := net.SplitHostPort(c.req.Remote)
		return hashString(host), err == nil
	}
	value, ok := queryValue(c.req.Path, p.Query)
	return hashString(value), ok
}

func hashString(s string) uint64 { return resilience.Hash([]byte(s), 0) }

// hashValues is the same in whatever order the values come.
func hashValues(values []string) (h uint64, ok bool) {
	if len(values) > 1 {
		values = slices.Sorted(slices.Values(values))
	}
	for _, v := range values {
		h = resilience.Hash([]byte(v), h)
	}
	return h, len(values) > 0
}

// cookieValue is the value of a cookie, without the quotes that it may have, and with a space after it, as Envoy reads it.
func cookieValue(lines []string, name string) string {
	for _, line := range lines {
		for cookie := range strings.SplitSeq(line, ";") {
			key, value, ok := strings.Cut(cookie, "=")
			if ok && strings.TrimLeft(key, " ") == name {
				if len(value) >= 2 && value[0] == '"' && value[len(value)-1] == '"' {
					value = value[1 : len(value)-1]
				}
				return value
			}
		}
	}
	return ""
}

// queryValue is the first parameter of that name, as it was sent.
func queryValue(path, name string) (string, bool) {
	_, query, ok := strings.Cut(path, "?")
	if !ok {
		return "", false
	}
	query, _, _ = strings.Cut(query, "#")
	for parameter := range strings.SplitSeq(query, "&") {
		if key, value, _ := strings.Cut(parameter, "="); key == name {
			return value, true
		}
	}
	return "", false
}

// makeCookie is the value of the cookie that the application is given: the same for all requests of a connection.
func (c *Call) makeCookie(p *dataplane.HashPolicy) string {
	local, _ := c.context().Value(http.LocalAddrContextKey).(net.Addr)
	if local == nil || c.req.Remote == "" {
		return ""
	}
	value := fmt.Sprintf("%016x", hashString(c.req.Remote+local.String()))
	var b strings.Builder
	fmt.Fprintf(&b, "%s=%q", p.Cookie, value)
	if seconds := int64(*p.TTL / time.Second); seconds > 0 {
		fmt.Fprintf(&b, "; Max-Age=%d", seconds)
	}
	if p.Path != "" {
		b.WriteString("; Path=" + p.Path)
	}
	for _, a := range p.Attributes {
		b.WriteString("; " + a.Name)
		if a.Value != "" {
			b.WriteString("=" + a.Value)
		}
	}
	b.WriteString("; HttpOnly")
	c.cookies = append(c.cookies, b.String())
	return value
}

func (c *Call) context() context.Context {
	if c.ctx == nil {
		return context.Background()
	}
	return c.ctx
}
