package proxy

import (
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/engine"
)

// badRequest is what Envoy's parser says.
const badRequest = "Bad Request"

// malformed answers a request of which the body can't be read.
var malformed = &engine.LocalReply{Status: http.StatusBadRequest, Body: badRequest, Header: http.Header{
	"Content-Length": {strconv.Itoa(len(badRequest))}, "Content-Type": {"text/plain"},
}}

// refusal is why a request is not looked at any further, and what it gets; status 0 is not at all.
type refusal struct {
	status        int
	body, details string
}

// refuse looks at what no route is looked up for.
func refuse(r *http.Request, config *dataplane.HTTP) refusal {
	one := r.ProtoMajor == 1
	switch {
	case one && (r.ProtoMinor > 1 || r.ProtoMinor == 0 && !config.AcceptHTTP10):
		return refusal{status: http.StatusUpgradeRequired, body: "Upgrade Required"}
	case one && !knownMethod(r.Method), !soundTarget(r, one), strings.ContainsAny(r.Host, " \t\r\n/"):
		return refusal{status: http.StatusBadRequest, body: badRequest}
	case config.MaxHeaders > 0 && headerLines(r) > int(config.MaxHeaders):
		return tooLarge(r, "too_many_headers")
	case config.MaxHeadersKiB > 0 && size(r) > int(config.MaxHeadersKiB)<<10:
		return tooLarge(r, "headers_too_large")
	case r.Host == "" && (!one || r.ProtoMinor == 0), strings.Contains(r.RequestURI, "#"):
		return refusal{status: http.StatusBadRequest}
	case r.Method == http.MethodConnect:
		return refusal{status: http.StatusNotFound} // no route takes it
	}
	return refusal{}
}

func tooLarge(r *http.Request, why string) refusal {
	return refusal{http.StatusRequestHeaderFieldsTooLarge, "Request Header Fields Too Large", "http" + strconv.Itoa(r.ProtoMajor) + "." + why}
}

// size is how long the headers of r are, without what separates them.
func size(r *http.Request) int {
	n := len(r.RequestURI) + len(r.Host)
	for name, values := range r.Header {
		for _, value := range values {
			n += len(name) + len(value)
		}
	}
	return n
}

// answer sends it, and ends the connection, as what follows can't be told.
func (no refusal) answer(w http.ResponseWriter, r *http.Request, config *dataplane.HTTP) {
	h := w.Header()
	h["Content-Length"] = []string{strconv.Itoa(len(no.body))}
	h["Content-Type"] = nil
	if no.body != "" {
		h["Content-Type"] = []string{"text/plain"}
	}
	if config.ServerHeader != "" {
		h["Server"] = []string{config.ServerHeader}
	}
	switch {
	case r.ProtoMajor == 1:
		h["Connection"] = []string{"close"}
	case no.body == "":
		h["Content-Length"] = nil
	}
	w.WriteHeader(no.status)
	if r.Method != http.MethodHead {
		_, _ = io.WriteString(w, no.body)
	}
}

// knownMethod reports whether Envoy's parser of HTTP/1 knows m.
func knownMethod(m string) bool {
	switch m {
	case "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "TRACE",
		"ACL", "BIND", "CHECKOUT", "COPY", "LINK", "LOCK", "MERGE", "MKACTIVITY", "MKCALENDAR", "MKCOL", "MOVE", "M-SEARCH", "NOTIFY",
		"PROPFIND", "PROPPATCH", "PURGE", "REBIND", "REPORT", "SEARCH", "SOURCE", "SUBSCRIBE", "UNBIND", "UNLINK", "UNLOCK", "UNSUBSCRIBE":
		return true
	}
	return false
}

// soundTarget refuses what could be read differently by the next hop.
func soundTarget(r *http.Request, one bool) bool {
	for i := 0; i < len(r.RequestURI); i++ {
		if c := r.RequestURI[i]; c <= ' ' || c == 0x7f || one && c > 0x7f {
			return false
		}
	}
	return r.RequestURI != "*" || r.Method == http.MethodOptions
}

// headerLines is how many headers r came with.
func headerLines(r *http.Request) int {
	n := lines(r.Header) + len(r.TransferEncoding)
	if r.Host != "" {
		n++
	}
	return n
}

func lines(h http.Header) int {
	n := 0
	for _, values := range h {
		n += len(values)
	}
	return n
}
