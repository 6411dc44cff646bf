package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/proxy"
)

// BenchmarkGET compares one connection's GETs through the proxy with the same through net/http's ReverseProxy.
func BenchmarkGET(b *testing.B) {
	host := echoHost(b)
	b.Run("proxy", func(b *testing.B) {
		f := newFixture(b, nil, host)
		getMany(b, f.address())
	})
	b.Run("ReverseProxy", func(b *testing.B) {
		target := &url.URL{Scheme: "http", Host: host}
		s := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }})
		defer s.Close()
		getMany(b, s.Listener.Addr().String())
	})
}

// echoHost answers each request with 64 bytes, as cheaply as can be.
func echoHost(b *testing.B) string {
	l, err := proxyListen()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	answer := []byte(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 64\r\n\r\n%064d", 0))
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				in := bufio.NewReader(c)
				for {
					if !skipHead(in) {
						return
					}
					if _, err := c.Write(answer); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

func skipHead(in *bufio.Reader) bool {
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return false
		}
		if len(line) == 2 {
			return true
		}
	}
}

func proxyListen() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") }

func getMany(b *testing.B, address string) {
	c, err := proxy.TCP(b.Context(), address)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	in := bufio.NewReader(c)
	request := []byte("GET / HTTP/1.1\r\nHost: payments.shop\r\n\r\n")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(request); err != nil {
			b.Fatal(err)
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil || resp.StatusCode != 200 {
			b.Fatal(resp, err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
	}
}
