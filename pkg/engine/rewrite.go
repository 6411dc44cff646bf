package engine

import (
	"net/http"
	"strings"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
)

// originalPath says what a path was before it was rewritten.
const originalPath = "X-Envoy-Original-Path"

// depart makes the request what its route says that hosts see.
func (c *Call) depart() {
	if len(c.route.Request) > 0 {
		c.editLevels(c.req.Header, c.route.Request, nil)
		c.req.Internal = true // what it has of x-envoy-* by now is the route's
	}
	if host := c.newHost(); host != "" {
		c.tellHost(c.req.Header, c.req.Authority)
		c.req.Authority = host
	}
	if c.route.Rewrite != nil {
		c.rewritePath(c.route.Rewrite)
	}
}

// newHost is what the request's host becomes; "": what it is.
func (c *Call) newHost() string {
	switch w := &c.route.HostRewrite; {
	case w.Literal != "":
		return w.Literal
	case w.Header != "":
		if values := c.req.Header[w.Header]; len(values) > 0 {
			return values[0]
		}
	case w.Path != nil:
		return w.Path(pathOf(c.req.Path))
	}
	return ""
}

// AutoHost is the name that a host is called by and h with what the host was before, where the route says so; else both as they are.
func (a *Attempt) AutoHost(host string, h http.Header) (string, http.Header) {
	if !a.call.route.HostRewrite.Auto || a.Host.Name == "" {
		return host, h
	}
	h = h.Clone() // other attempts may be under way with the same
	a.call.tellHost(h, host)
	return a.Host.Name, h
}

const (
	forwardedHost = "X-Forwarded-Host"
	originalHost  = "X-Envoy-Original-Host"
)

// tellHost says in h what the host was. To x-forwarded-host it is added, unless it is the last thing there.
func (c *Call) tellHost(h http.Header, host string) {
	if !c.http.SuppressEnvoy {
		h[originalHost] = []string{host}
	}
	said := strings.Join(h[forwardedHost], ",")
	switch {
	case !c.route.HostRewrite.Tell || host == "" || said[strings.LastIndexByte(said, ',')+1:] == host:
	case said == "":
		h[forwardedHost] = []string{host}
	default:
		h[forwardedHost] = []string{said + "," + host}
	}
}

// rewritePath changes the path and tells hosts what it was.
func (c *Call) rewritePath(w *dataplane.PathRewrite) {
	if !c.http.SuppressEnvoy {
		c.req.Header[originalPath] = []string{c.req.Path}
	}
	path := pathOf(c.req.Path)
	query := c.req.Path[len(path):]
	switch {
	case w.Change != nil:
		path = w.Change(path)
	case w.Cut < 0:
		path = w.With
	default:
		path = w.With + path[w.Cut:]
	}
	c.req.Path = path + query
}

// direct answers as the route says. What is created or is elsewhere has a place, which is here unless the route says another.
func (c *Call) direct() Answer {
	d := c.route.Direct
	r := &reply{status: d.Status, grpc: -1, body: d.Body, details: "direct_response"}
	if d.Redirect != nil && d.Redirect.Rewrite != nil {
		c.rewritePath(d.Redirect.Rewrite)
	}
	if d.Status == http.StatusCreated || d.Status/100 == 3 {
		r.location = c.location(d.Redirect)
	}
	return c.local(r)
}

// location is the URL of the request, changed as to says, which may be nil.
func (c *Call) location(to *dataplane.Redirect) string {
	if to == nil {
		to = &dataplane.Redirect{}
	}
	scheme, host := to.Scheme, to.Host
	if scheme == "" {
		scheme = c.req.Scheme
	}
	if host == "" {
		host = c.hostFor(scheme, to.Port)
	}
	if to.Port != "" {
		host += ":" + to.Port
	}
	return scheme + "://" + host + c.newPath(to)
}

// hostFor is the request's host: without its port where another is to follow, or where it is that of the scheme that is left.
func (c *Call) hostFor(scheme, port string) string {
	bare := WithoutPort(c.req.Authority)
	was := c.req.Authority[len(bare):]
	own := map[string]string{"http": ":80", "https": ":443"}
	came := strings.Join(c.req.Header["X-Forwarded-Proto"], ",")
	if port != "" || scheme != came && was != "" && was == own[came] {
		return bare
	}
	return c.req.Authority
}

func (c *Call) newPath(to *dataplane.Redirect) string {
	path := c.req.Path
	if to.Path != "" {
		if strings.Contains(to.Path, "?") {
			return to.Path
		}
		path = to.Path + path[len(pathOf(path)):]
	}
	if to.StripQuery {
		return pathOf(path)
	}
	return path
}
