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

// refusal is the answer to a request that no route is looked up for; status 0 where it is sound.
func refusal(r *http.Request, config *dataplane.HTTP) (status int, body string) {
	one := r.ProtoMajor == 1
	upgrade := upgradeOf(r)
	switch {
	case one && (r.ProtoMinor > 1 || r.ProtoMinor == 0 && !config.AcceptHTTP10):
		return http.StatusUpgradeRequired, "Upgrade Required"
	case one && !knownMethod(r.Method), !soundTarget(r, one), strings.ContainsAny(r.Host, " \t\r\n/"):
		return http.StatusBadRequest, badRequest
	case config.MaxHeaders > 0 && headerLines(r) > int(config.MaxHeaders):
		return http.StatusRequestHeaderFieldsTooLarge, "Request Header Fields Too Large"
	case r.Host == "" && (!one || r.ProtoMinor == 0), strings.Contains(r.RequestURI, "#"):
		return http.StatusBadRequest, ""
	case r.Method == http.MethodConnect:
		return http.StatusNotFound, "" // no route takes it
	case upgrade != "" && !strings.EqualFold(upgrade, "h2c") && !(config.Websocket && strings.EqualFold(upgrade, "websocket")):
		return http.StatusForbidden, ""
	}
	return 0, ""
}

// refuse answers so, and ends the connection, as what follows can't be told.
func refuse(w http.ResponseWriter, r *http.Request, config *dataplane.HTTP, status int, body string) {
	h := w.Header()
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	h["Content-Type"] = nil
	if body != "" {
		h["Content-Type"] = []string{"text/plain"}
	}
	if config.ServerHeader != "" {
		h["Server"] = []string{config.ServerHeader}
	}
	if r.ProtoMajor == 1 {
		h["Connection"] = []string{"close"}
	}
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = io.WriteString(w, body)
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
