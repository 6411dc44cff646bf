package integration_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/breakwater-mesh/breakwater/integration/harness"
	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/envoy"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// The tests below show on a real Envoy what the compiler's comments claim of it.

func service(name string, protocol catalog.Protocol) *catalog.Service {
	s := &catalog.Service{Metadata: manifest.Meta{Namespace: "shop", Name: name}}
	s.Spec.Protocol = protocol
	return s
}

// compiled are all resources of a service whose endpoints are hosts, under some sections.
func compiled(t *testing.T, s *catalog.Service, sections policy.Sections, hosts ...string) []*view.Resource {
	t.Helper()
	c, err := envoy.Service(envoy.Target{Profile: "sidecar", Version: "1.40", Runtime: true}, s, &policy.Effective{Sections: sections})
	if err != nil {
		t.Fatal(err)
	}
	var endpoints []catalog.Endpoint
	for i, h := range hosts {
		a := netip.MustParseAddrPort(h)
		port := uint32(a.Port())
		endpoints = append(endpoints, catalog.Endpoint{ID: fmt.Sprint(i), Spec: catalog.EndpointSpec{Address: a.Addr().String(), Port: &port}})
	}
	resources := []*view.Resource{
		c.Cluster, c.Route, must(envoy.Assignment(s, endpoints))(t), envoy.Scope(s.Metadata.Name+".shop", s.Key()),
	}
	if len(c.Limits) > 0 {
		resources = append(resources, must(envoy.Layer(envoy.LayerOf(s.Key().String()), c.Limits))(t))
	}
	return resources
}

func startHost(t *testing.T, handler http.Handler) *harness.Host {
	t.Helper()
	h, err := harness.StartHost(0, handler)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

// sight is what one end of a call saw of the other.
type sight struct {
	Line    string // the request line, or the status
	Host    string
	Header  http.Header
	Body    string
	Trailer http.Header
}

// witness answers every request with what it saw, and with headers of its own.
func witness(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	saw := sight{r.Method + " " + r.RequestURI, r.Host, r.Header, string(body), r.Trailer}
	h := w.Header()
	h.Set("Date", "Thu, 01 Jan 1970 00:00:00 GMT")
	h.Set("X-App", "kept")
	if r.Method != http.MethodHead {
		h.Set("Trailer", "X-Sum")
	}
	if n, err := strconv.Atoi(r.URL.Query().Get("headers")); err == nil {
		for i := range n {
			h.Set(fmt.Sprint("X-", i), strings.Repeat("v", 1000))
		}
	}
	if r.URL.Query().Has("server") {
		h.Set("Server", "mine/1.0")
	}
	if r.URL.Query().Has("echo-id") {
		h.Set("X-Request-Id", r.Header.Get("X-Request-Id"))
	}
	status := http.StatusOK
	fmt.Sscan(r.URL.Query().Get("status"), &status)
	w.WriteHeader(status)
	if status != http.StatusNoContent && status != http.StatusNotModified {
		_ = json.NewEncoder(w).Encode(saw)
	}
	h.Set("X-Sum", "42")
}

// exchange writes raw bytes to address and returns what the service saw and what the caller saw.
func exchange(t *testing.T, address, raw string) (request, response sight) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(conn, raw); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(raw, " ")
	br := bufio.NewReader(conn)
	resp, err := http.ReadResponse(br, &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode == http.StatusContinue {
		response.Line = resp.Status + ", "
		if resp, err = http.ReadResponse(br, &http.Request{Method: method}); err != nil {
			t.Fatal(err)
		}
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	resp.Header.Del("Content-Length") // of the body, which is compared
	resp.Header.Del("Connection")     // of this hop; Envoy says close to HTTP/1.0
	response = sight{response.Line + resp.Proto + " " + resp.Status, "", resp.Header, "", resp.Trailer}
	if len(body) > 0 {
		if err := json.Unmarshal(body, &request); err != nil {
			response.Body = string(body)
		}
	}
	if request.Header.Get("Content-Length") == "0" {
		request.Header.Del("Content-Length") // Envoy states the absence of a body for methods other than GET and HEAD
	}
	return request, response
}

// Without a policy, the service and the application see of each other what they see without a proxy.
func TestEnvoyTransparentHTTP1(t *testing.T) {
	t.Parallel()
	host := startHost(t, http.HandlerFunc(witness))
	p := startProxy(t, compiled(t, service("payments", catalog.HTTP), policy.Sections{}, host.Address)...)
	for name, raw := range map[string]string{
		"plain":             "GET /a?b=c HTTP/1.1\r\nHost: payments.shop\r\n\r\n",
		"with port":         "GET / HTTP/1.1\r\nHost: payments.shop:8080\r\nUser-Agent: app/1\r\n\r\n",
		"forwarded headers": "GET / HTTP/1.1\r\nHost: payments.shop\r\nX-Forwarded-For: 10.1.2.3\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: edge\r\nX-Forwarded-Port: 443\r\nForwarded: for=1.2.3.4\r\nVia: 1.1 edge\r\nX-Forwarded-Client-Cert: Hash=1\r\n\r\n",
		"loopback xff":      "GET / HTTP/1.1\r\nHost: payments.shop\r\nX-Forwarded-For: 127.0.0.1\r\n\r\n",
		"trace headers":     "GET /?echo-id HTTP/1.1\r\nHost: payments.shop\r\nX-Request-Id: mine\r\nTraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nX-B3-Traceid: 80f198ee56343ba8\r\n\r\n",
		"odd path":          "GET //a/./b/../c//%2F%2f;x=y/%41?q=a%20b&&=& HTTP/1.1\r\nHost: payments.shop\r\n\r\n",
		"server header":     "GET /?server HTTP/1.1\r\nHost: payments.shop\r\n\r\n",
		"cookies":           "GET / HTTP/1.1\r\nHost: payments.shop\r\nCookie: a=1; b=2\r\nReferer: http://a/b?c\r\nAuthorization: Basic x\r\n\r\n",
		"underscores":       "GET / HTTP/1.1\r\nHost: payments.shop\r\nx_under_score: 1\r\n\r\n",
		"body":              "POST / HTTP/1.1\r\nHost: payments.shop\r\nContent-Length: 5\r\n\r\nhello",
		"chunks, trailers":  "POST / HTTP/1.1\r\nHost: payments.shop\r\nTransfer-Encoding: chunked\r\nTrailer: X-Check\r\n\r\n5\r\nhello\r\n0\r\nX-Check: 7\r\n\r\n",
		"te":                "GET / HTTP/1.1\r\nHost: payments.shop\r\nTE: trailers\r\n\r\n",
		"head":              "HEAD / HTTP/1.1\r\nHost: payments.shop\r\n\r\n",
		"options":           "OPTIONS /x HTTP/1.1\r\nHost: payments.shop\r\nOrigin: http://a\r\nAccess-Control-Request-Method: PUT\r\n\r\n",
		"webdav":            "PROPFIND / HTTP/1.1\r\nHost: payments.shop\r\n\r\n",
		"no content":        "DELETE /?status=204 HTTP/1.1\r\nHost: payments.shop\r\n\r\n",
		"not modified":      "GET /?status=304 HTTP/1.1\r\nHost: payments.shop\r\n\r\n",
		"error":             "GET /?status=503 HTTP/1.1\r\nHost: payments.shop\r\n\r\n",
		"http/1.0":          "GET / HTTP/1.0\r\nHost: payments.shop\r\n\r\n",
		"expect":            "POST / HTTP/1.1\r\nHost: payments.shop\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
		"large answer":      "GET /?headers=300 HTTP/1.1\r\nHost: payments.shop\r\n\r\n",
		"many headers":      "GET / HTTP/1.1\r\nHost: payments.shop\r\n" + strings.Repeat("X-Many: 1\r\n", 300) + "\r\n",
		"long header":       "GET / HTTP/1.1\r\nHost: payments.shop\r\nX-Long: " + strings.Repeat("a", 70_000) + "\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			wantRequest, wantResponse := exchange(t, host.Address, raw)
			gotRequest, gotResponse := exchange(t, p.outbound, raw)
			if d := cmp.Diff(wantRequest, gotRequest); d != "" {
				t.Errorf("the service sees something else through Envoy (-without +with):\n%s", d)
			}
			if d := cmp.Diff(wantResponse, gotResponse); d != "" {
				t.Errorf("the application sees something else through Envoy (-without +with):\n%s", d)
			}
		})
	}
}
