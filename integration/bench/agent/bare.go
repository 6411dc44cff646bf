package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
)

// serveBare is net/http's ReverseProxy, as fast as its settings make it: HTTP/1.1 to web on one port, HTTP/2 to rpc on another.
func serveBare(ctx context.Context, web, rpc string) error {
	for _, to := range []struct {
		address string
		http2   bool
	}{{web, false}, {rpc, true}} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer l.Close()
		server := bare(to.address, to.http2)
		go func() { _ = server.Serve(l) }() // ends with the process
		fmt.Print(l.Addr(), " ")
	}
	fmt.Println()
	<-ctx.Done()
	return nil
}

func bare(address string, http2 bool) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!http2)
	protocols.SetUnencryptedHTTP2(http2)
	target := &url.URL{Scheme: "http", Host: address}
	proxy := &httputil.ReverseProxy{
		Rewrite:    func(r *httputil.ProxyRequest) { r.SetURL(target) },
		BufferPool: new(pool),
		ErrorLog:   log.New(io.Discard, "", 0),
		Transport: &http.Transport{
			MaxIdleConns: 4096, MaxIdleConnsPerHost: 4096, DisableCompression: true, Protocols: protocols,
		},
	}
	return &http.Server{Handler: proxy, Protocols: protocols, HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 1 << 20}}
}

// pool keeps the buffers of bodies.
type pool struct{ buffers sync.Pool }

// Get implements httputil.BufferPool.
func (p *pool) Get() []byte {
	if b, ok := p.buffers.Get().(*[]byte); ok {
		return *b
	}
	return make([]byte, 32<<10)
}

// Put implements httputil.BufferPool.
func (p *pool) Put(b []byte) { p.buffers.Put(&b) }
