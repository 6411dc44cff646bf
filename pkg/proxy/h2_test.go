package proxy_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	x2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// TestAnAnswerThatComesBeforeTheUploadIsOver ends the request on both sides, whatever they speak.
func TestAnAnswerThatComesBeforeTheUploadIsOver(t *testing.T) {
	for _, tt := range []struct{ caller2, host2 bool }{{false, false}, {false, true}, {true, false}, {true, true}} {
		host := upstream(t, func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).EnableFullDuplex()
			_, _ = io.WriteString(w, "enough")
		})
		f := newFixture(t, func(f *fixture) { f.cluster.HTTP2 = tt.host2 }, host)
		protocols := new(http.Protocols)
		protocols.SetHTTP1(!tt.caller2)
		protocols.SetUnencryptedHTTP2(tt.caller2)
		f.client.Transport.(*http.Transport).Protocols = protocols
		body, upload := io.Pipe()
		go func() { _, _ = io.WriteString(upload, "half") }() // and nothing more
		begun := time.Now()
		if resp, answer := f.get("POST", "/", body); resp.StatusCode != 200 || answer != "enough" {
			t.Errorf("%+v: %d %q", tt, resp.StatusCode, answer)
		}
		if took := time.Since(begun); took > patience/2 {
			t.Errorf("%+v: it took %v", tt, took)
		}
		_ = body.Close()
		eventually(t, "the request is over", func() bool { return f.stat("upstream_rq_active") == 0 })
	}
}

// frames is a host of HTTP/2 that answers frame by frame: serve gets each request that is complete.
func frames(t *testing.T, serve func(c net.Conn, f *x2.Framer, stream uint32)) string {
	return script(t, func(c net.Conn) {
		if _, err := io.ReadFull(c, make([]byte, len(x2.ClientPreface))); err != nil {
			return
		}
		f := x2.NewFramer(c, c)
		_ = f.WriteSettings()
		for {
			frame, err := f.ReadFrame()
			if err != nil {
				return
			}
			switch frame := frame.(type) {
			case *x2.SettingsFrame:
				if !frame.IsAck() {
					_ = f.WriteSettingsAck()
				}
			case *x2.HeadersFrame:
				if frame.StreamEnded() {
					serve(c, f, frame.StreamID)
				}
			}
		}
	})
}

// respond sends the head of a response, of fields by pairs.
func respond(f *x2.Framer, stream uint32, end bool, fields ...string) {
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for i := 0; i < len(fields); i += 2 {
		_ = enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	_ = f.WriteHeaders(x2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndStream: end, EndHeaders: true})
}

// TestWhatAHostOfHTTP2SaysOfAnEnd is a failure of the kind that Envoy takes it for. What the host may have seen is not refused: it would
// be sent again.
func TestWhatAHostOfHTTP2SaysOfAnEnd(t *testing.T) {
	const before = "upstream connect error or disconnect/reset before headers. reset reason: "
	for _, tt := range []struct {
		name  string
		serve func(c net.Conn, f *x2.Framer, stream uint32)
		want  string
		sent  int64
	}{
		{"refused", func(_ net.Conn, f *x2.Framer, stream uint32) { _ = f.WriteRSTStream(stream, x2.ErrCodeRefusedStream) },
			"503 " + before + "remote refused stream reset", 2},
		{"not counted in GOAWAY", func(_ net.Conn, f *x2.Framer, stream uint32) { _ = f.WriteGoAway(stream-1, x2.ErrCodeNo, nil) },
			"503 " + before + "remote refused stream reset", 2},
		{"counted in GOAWAY, and closed", func(c net.Conn, f *x2.Framer, stream uint32) {
			_ = f.WriteGoAway(stream, x2.ErrCodeNo, nil)
			_ = c.Close()
		}, "503 " + before + "connection termination", 1},
		{"a fault of ours", func(_ net.Conn, f *x2.Framer, stream uint32) { _ = f.WriteRSTStream(stream, x2.ErrCodeProtocol) },
			"502 " + before + "protocol error", 1},
		{"anything else", func(_ net.Conn, f *x2.Framer, stream uint32) { _ = f.WriteRSTStream(stream, x2.ErrCodeEnhanceYourCalm) },
			"503 " + before + "remote reset", 1},
		{"a head without status", func(_ net.Conn, f *x2.Framer, stream uint32) { respond(f, stream, true, "x-a", "b") },
			"502 " + before + "protocol error", 1},
		{"a header of one connection", func(_ net.Conn, f *x2.Framer, stream uint32) {
			respond(f, stream, true, ":status", "200", "connection", "close")
		}, "502 " + before + "protocol error", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var sent atomic.Int64
			f := newFixture(t, func(f *fixture) {
				http2(f)
				f.route.Retry = &resilience.Retry{On: resilience.OnRefusedStream, NumRetries: 1}
			}, frames(t, func(c net.Conn, f *x2.Framer, stream uint32) {
				sent.Add(1)
				tt.serve(c, f, stream)
			}))
			resp, body := f.get("GET", "/", nil)
			got := fmt.Sprint(resp.StatusCode, " ", strings.Replace(body, "retried and the latest ", "", 1))
			if got != tt.want || sent.Load() != tt.sent {
				t.Errorf("%s after %d requests, want %s after %d", got, sent.Load(), tt.want, tt.sent)
			}
		})
	}
}
