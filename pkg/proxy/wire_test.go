package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// echoLines answers with what it got, line by line in order, or as the path says.
func echoLines(t *testing.T) string {
	return script(t, func(c net.Conn) {
		in := bufio.NewReader(c)
		for {
			head := ""
			for !strings.HasSuffix(head, "\r\n\r\n") {
				line, err := in.ReadString('\n')
				if err != nil {
					return
				}
				head += line
			}
			body := ""
			if strings.Contains(head, "Encoding: chunked") {
				for !strings.HasSuffix(body, "\r\n\r\n") {
					line, err := in.ReadString('\n')
					if err != nil {
						return
					}
					body += line
				}
			}
			if answer := answers[strings.Fields(head)[1]]; answer != "" {
				_, _ = io.WriteString(c, answer)
				continue
			}
			got := strings.Split(strings.ToLower(strings.TrimSpace(strings.ReplaceAll(head+body, "\r\n", "\n"))), "\n")
			slices.Sort(got[1:])
			text := strings.Join(got, "|")
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
		}
	})
}

// answers are what the host says of a path.
var answers = map[string]string{
	"/chunked": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-t\r\n\r\n2\r\nhi\r\n0\r\nx-t: v\r\n\r\n",
	"/hints":   "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
	"/two":     "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
	"/twice":   "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
	"/named":   "HTTP/1.1 200 OK\r\nConnection: x-a\r\nX-A: 1\r\nKeep-Alive: 3\r\nContent-Length: 0\r\n\r\n",
	"/many":    "HTTP/1.1 200 OK\r\n" + strings.Repeat("X-H: v\r\n", 101) + "Content-Length: 0\r\n\r\n",
}

// protocolFailure is what an answer that can't be read becomes.
const protocolFailure = "502 [Content-Length: 87|Content-Type: text/plain|Server: envoy] upstream connect error or disconnect/reset before headers. reset reason: protocol error"

// TestTheWireIsEnvoys sends requests by hand to a listener with Envoy's defaults. The answers are those of an Envoy 1.40 to the same.
func TestTheWireIsEnvoys(t *testing.T) {
	many := func(n int) string { return strings.Repeat("X-H: v\r\n", n) }
	const bad, tooMany = "400 [Connection: close|Content-Length: 11|Content-Type: text/plain|Server: envoy] Bad Request",
		"431 [Connection: close|Content-Length: 31|Content-Type: text/plain|Server: envoy] Request Header Fields Too Large"
	const upgrade = "426 [Connection: close|Content-Length: 16|Content-Type: text/plain|Server: envoy] Upgrade Required"
	for _, tt := range []struct{ name, raw, want string }{
		{"trailers are dropped, but for their announcement", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: x-t\r\n\r\n2\r\nhi\r\n0\r\nx-t: v\r\n\r\n",
			"200 post / http/1.1||0|2|hi|host: x|trailer: x-t|transfer-encoding: chunked"},
		{"trailers of a response are dropped", "GET /chunked HTTP/1.1\r\nHost: x\r\n\r\n", "200 [Server: envoy] hi"},
		{"early hints are dropped", "GET /hints HTTP/1.1\r\nHost: x\r\n\r\n", "200 [Content-Length: 2|Server: envoy] hi"},
		{"an expectation is met at once", "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
			"100 [] 200 post / http/1.1||0|host: x|transfer-encoding: chunked"},
		{"an empty host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", "200 get / http/1.1|host:"},
		{"HTTP/1.0", "GET / HTTP/1.0\r\nHost: x\r\n\r\n", upgrade},
		{"HTTP/1.2", "GET / HTTP/1.2\r\nHost: x\r\n\r\n", upgrade},
		{"a method that is not known", "FOO / HTTP/1.1\r\nHost: x\r\n\r\n", bad},
		{"a method in lower case", "get / HTTP/1.1\r\nHost: x\r\n\r\n", bad},
		{"TRACE has no length", "TRACE / HTTP/1.1\r\nHost: x\r\n\r\n", "200 trace / http/1.1|host: x"},
		{"a star for another method than OPTIONS", "GET * HTTP/1.1\r\nHost: x\r\n\r\n", bad},
		{"bytes beyond ASCII", "GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n", bad},
		{"a fragment", "GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n", "400 [Connection: close|Content-Length: 0|Server: envoy] "},
		{"CONNECT", "CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n", "404 [Connection: close|Content-Length: 0|Server: envoy] "},
		{"as many headers as may be, the host's among them", "GET /hints HTTP/1.1\r\nHost: x\r\n" + many(99) + "\r\n", "200 [Content-Length: 2|Server: envoy] hi"},
		{"one header too many", "GET / HTTP/1.1\r\nHost: x\r\n" + many(100) + "\r\n", tooMany},
		{"TE: trailers stays though Connection names it", "GET / HTTP/1.1\r\nHost: x\r\nTE: trailers\r\nConnection: te\r\n\r\n", "200 get / http/1.1|host: x|te: trailers"},
		{"an offer of h2c is not taken", "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", "200 get / http/1.1|host: x"},
		{"a websocket where none is on", "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "403 [Connection: close|Content-Length: 0|Server: envoy] "},
		{"a malformed chunk", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", bad},
		{"two lengths of a response", "GET /two HTTP/1.1\r\nHost: x\r\n\r\n", protocolFailure},
		{"a length of a response twice", "GET /twice HTTP/1.1\r\nHost: x\r\n\r\n", protocolFailure},
		{"too many headers of a response", "GET /many HTTP/1.1\r\nHost: x\r\n\r\n", protocolFailure},
		{"what Connection of a response names", "GET /named HTTP/1.1\r\nHost: x\r\n\r\n", "200 [Content-Length: 0|Server: envoy|X-A: 1] "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, func(f *fixture) {
				f.http.AcceptHTTP10, f.http.Trailers, f.http.Proxy100, f.http.Websocket, f.cluster.Trailers = false, false, false, false, false
				f.http.MaxHeaders, f.cluster.MaxHeaders, f.http.ServerHeader = 100, 100, "envoy"
			}, echoLines(t))
			if got := speak(t, f.address(), tt.raw); got != tt.want {
				t.Errorf("\n got %s\nwant %s", got, tt.want)
			}
		})
	}
}

// speak sends raw and returns the answers. What the host echoes stands for its head.
func speak(t *testing.T, address, raw string) string {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	fmt.Fprint(c, raw)
	in, said := bufio.NewReader(c), ""
	for {
		method, _, _ := strings.Cut(raw, " ")
		resp, err := http.ReadResponse(in, &http.Request{Method: strings.Replace(method, "CONNECT", "GET", 1)})
		if err != nil {
			t.Fatalf("after %q: %v", said, err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		var head []string
		for name, values := range resp.Header {
			if name != "Date" {
				head = append(head, name+": "+strings.Join(values, ","))
			}
		}
		if resp.Close {
			head = append(head, "Connection: close")
		}
		slices.Sort(head)
		for name, values := range resp.Trailer {
			if len(values) > 0 {
				head = append(head, "trailer "+name)
			}
		}
		if strings.Contains(string(body), "http/1.1|") {
			return said + fmt.Sprint(resp.StatusCode, " ", string(body))
		}
		said += fmt.Sprint(resp.StatusCode, " [", strings.Join(slices.Compact(head), "|"), "] ")
		if resp.StatusCode >= 200 {
			return said + string(body)
		}
	}
}
