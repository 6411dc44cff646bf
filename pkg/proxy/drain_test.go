package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestADrainingServerEndsConnectionsWithTheirNextAnswer keeps accepting, and tells both protocols.
func TestADrainingServerEndsConnectionsWithTheirNextAnswer(t *testing.T) {
	f := newFixture(t, nil, upstream(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }))
	if resp, _ := f.get("GET", "/", nil); resp.Close {
		t.Error("a connection ends before the drain")
	}
	f.server.Drain()
	if resp, body := f.get("GET", "/", nil); !resp.Close || body != "hello" {
		t.Errorf("on an open connection: close %v, %q; want the answer and the end", resp.Close, body)
	}
	if resp, body := f.get("GET", "/", nil); !resp.Close || body != "hello" {
		t.Errorf("on a new connection: close %v, %q; want the answer and the end", resp.Close, body)
	}

	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	h2 := &http.Transport{Protocols: protocols}
	f.client.Transport = h2
	for range 3 {
		if resp, body := f.get("GET", "/", nil); resp.ProtoMajor != 2 || body != "hello" {
			t.Errorf("HTTP/2: %s %q", resp.Proto, body)
		}
	}
	total := int64(0)
	eventually(t, "each HTTP/2 connection was told to go after one answer", func() bool {
		f.server.Stats(func(name string, value int64) {
			if name == "http.outbound.downstream_cx_total" {
				total = value
			}
		})
		return total == 5
	})
}

// TestAnIdleConnectionIsAnsweredOnceMoreAtTheEnd has an application that sends its next request when nothing is accepted any more.
func TestAnIdleConnectionIsAnsweredOnceMoreAtTheEnd(t *testing.T) {
	f := newFixture(t, nil, upstream(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }))
	url := "http://" + f.address()
	f.get("GET", "/", nil)
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		f.server.Close(context.Background())
	}()
	eventually(t, "nothing is accepted any more", func() bool {
		c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	resp, err := f.client.Post(url, "text/plain", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if !resp.Close {
		t.Error("the answer does not end the connection")
	}
	<-closed
}

// TestNoRequestIsLostAtTheEnd has applications that send one request after the other on connections that they keep.
func TestNoRequestIsLostAtTheEnd(t *testing.T) {
	f := newFixture(t, nil, upstream(t, func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(time.Millisecond)
		fmt.Fprint(w, "hello")
	}))
	errs, url := make(chan error), "http://"+f.address()
	var connected sync.WaitGroup
	connected.Add(8)
	for range 8 {
		go func() {
			first := sync.OnceFunc(connected.Done)
			defer first()
			client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}}
			defer client.CloseIdleConnections()
			for {
				resp, err := client.Post(url, "text/plain", nil) // a POST is not sent again by the client
				if err != nil {
					errs <- fmt.Errorf("%w, though the connection was open", err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body) // else the client ends the connection
				resp.Body.Close()
				first()
				if resp.Close {
					errs <- nil
					return
				}
			}
		}()
	}
	connected.Wait() // who comes later is refused
	eventually(t, "requests are under way", func() bool { return f.stat("upstream_rq_total") > 50 })
	begun := time.Now()
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		f.server.Close(context.Background())
	}()
	for range 8 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	<-closed
	if took := time.Since(begun); took > patience {
		t.Errorf("the end took %v", took)
	}
}
