package apiserver

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"path"
	"runtime/debug"
	"slices"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/admin"
	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// exchange is the one HTTP request that a handler works on.
type exchange struct {
	id      string
	request *http.Request
	writer  http.ResponseWriter
}

type exchangeKey struct{}

func exchangeOf(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	return x
}

// statusWriter remembers the status for the access log.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// guard is what every request passes: an id, a log line, a net under panics, and the doors that keep foreign web pages out.
func (s *server) guard(mux *http.ServeMux) http.Handler {
	origins := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		x := &exchange{id: rand.Text()[:16]}
		w := &statusWriter{ResponseWriter: rw}
		r = r.Clone(context.WithValue(r.Context(), exchangeKey{}, x))
		if accept := r.Header.Values("Accept"); len(accept) > 0 {
			r.Header.Set("Accept", accepted(accept))
		}
		x.request, x.writer = r, w
		w.Header().Set("X-Request-Id", x.id)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		start := s.Now()
		defer s.finish(w, r, x, start)

		if !admin.HostAllowed(r, s.Hosts) {
			writeProblem(w, r, forbidden(fmt.Sprintf("host %q is not allowed here; ask for localhost or an IP address, or allow the name on the server", r.Host)))
			return
		}
		if err := origins.Check(r); err != nil {
			writeProblem(w, r, forbidden("a web page of another origin may not write here"))
			return
		}
		route(mux, w, r)
	})
}

// finish logs the request and turns a panic into an answer.
func (s *server) finish(w *statusWriter, r *http.Request, x *exchange, start time.Time) {
	if v := recover(); v != nil {
		s.Log.Error("panic while answering", "request", x.id, "method", r.Method, "path", r.URL.Path, "panic", v, "stack", string(debug.Stack()))
		if w.status == 0 {
			writeProblem(w, r, internal("the server failed; its log has the details"))
		}
	}
	s.Log.Debug("request", "request", x.id, "method", r.Method, "path", r.URL.Path, "status", w.status, "took", s.Now().Sub(start), "remote", r.RemoteAddr)
}

// route serves r, with problems of ours where the mux would answer in plain text or redirect.
func route(mux *http.ServeMux, w http.ResponseWriter, r *http.Request) {
	if p := r.URL.Path; path.Clean(p) != p {
		writeProblem(w, r, notFound(fmt.Sprintf("there is nothing at %q", p)))
		return
	}
	handler, pattern := mux.Handler(r)
	if pattern != "" {
		if p := checkQuery(r.URL.RawQuery); p != nil {
			writeProblem(w, r, p)
			return
		}
		mux.ServeHTTP(w, r)
		return
	}
	refusal := refusal{header: http.Header{}}
	handler.ServeHTTP(&refusal, r)
	if refusal.status == http.StatusMethodNotAllowed {
		allow := refusal.header.Get("Allow")
		w.Header().Set("Allow", allow)
		writeProblem(w, r, &api.Problem{
			Type: api.MethodNotAllowed, Title: "Method not allowed", Status: http.StatusMethodNotAllowed,
			Detail: fmt.Sprintf("%s is not possible here; possible are %s", r.Method, allow),
		})
		return
	}
	writeProblem(w, r, notFound(fmt.Sprintf("there is nothing at %q", r.URL.Path)))
}

// checkQuery refuses a query of which a part would be passed over silently.
func checkQuery(raw string) *api.Problem {
	query, err := url.ParseQuery(raw)
	if err != nil {
		return invalidField("query", "can't be read: "+err.Error())
	}
	var faults []manifest.FieldError
	for _, name := range slices.Sorted(maps.Keys(query)) {
		if n := len(query[name]); n > 1 && name != "delete" && name != "dialect" {
			faults = append(faults, manifest.FieldError{Field: "query." + name, Message: fmt.Sprintf("is there %d times", n)})
		}
	}
	if len(faults) == 0 {
		return nil
	}
	return invalid(faults...)
}

// refusal takes what the mux says to a request that no pattern matches.
type refusal struct {
	header http.Header
	status int
}

func (r *refusal) Header() http.Header         { return r.header }
func (r *refusal) Write(b []byte) (int, error) { return len(b), nil }
func (r *refusal) WriteHeader(status int)      { r.status = status }

// writeProblem answers with p outside of a handler.
func writeProblem(w http.ResponseWriter, r *http.Request, p *api.Problem) {
	if x := exchangeOf(r.Context()); x != nil {
		p.RequestID = x.id
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_ = writeJSON(w, p) // the client is gone if this fails
}
