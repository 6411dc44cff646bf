package differential_test

import (
	"bytes"
	"io"
	"net"
	"sync"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// frame is what a hand-written HTTP/2 host does with a stream; the zero one answers 200.
type frame struct {
	reset  http2.ErrCode // of the stream, where resets is set
	resets bool
	after  bool // the reset comes after the head of the answer
	goaway bool // the connection says that it does not look at the stream
	ending bool // the connection says that it will end, and ends
	drop   bool // the connection ends without a word
	junk   bool // something that is no HTTP/2
}

// framed are hosts that speak HTTP/2 by hand: what they do goes by the number of the request of a side. The last repeats.
type framed struct {
	script []frame

	mu    sync.Mutex
	count map[string]int
}

// serve speaks to one proxy until it goes.
func (f *framed) serve(c net.Conn) {
	defer c.Close()
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(c, preface); err != nil {
		return
	}
	fr := http2.NewFramer(c, c)
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	_ = fr.WriteSettings()
	for {
		in, err := fr.ReadFrame()
		if err != nil {
			return
		}
		switch in := in.(type) {
		case *http2.SettingsFrame:
			if !in.IsAck() {
				_ = fr.WriteSettingsAck()
			}
		case *http2.MetaHeadersFrame:
			side := ""
			for _, field := range in.Fields {
				if field.Name == sideHeader {
					side = field.Value
				}
			}
			if !f.answer(c, fr, in.StreamID, f.next(side)) {
				return
			}
		}
	}
}

func (f *framed) next(side string) frame {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.count == nil {
		f.count = map[string]int{}
	}
	n := f.count[side]
	f.count[side]++
	return f.script[min(n, len(f.script)-1)]
}

// answer reports whether the connection goes on.
func (f *framed) answer(c net.Conn, fr *http2.Framer, stream uint32, do frame) bool {
	switch {
	case do.goaway:
		_ = fr.WriteGoAway(stream-1, http2.ErrCodeNo, nil)
		return true
	case do.ending:
		_ = fr.WriteGoAway(stream, http2.ErrCodeNo, nil)
		return false
	case do.drop:
		return false
	case do.junk:
		_, _ = c.Write(bytes.Repeat([]byte{0xff}, 64))
		return true
	case do.resets && !do.after:
		_ = fr.WriteRSTStream(stream, do.reset)
		return true
	}
	var head bytes.Buffer
	enc := hpack.NewEncoder(&head)
	_ = enc.WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
	_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: head.Bytes(), EndHeaders: true, EndStream: !do.after})
	if do.after {
		_ = fr.WriteData(stream, false, []byte("half"))
		_ = fr.WriteRSTStream(stream, do.reset)
	}
	return true
}

// listen opens a host for f, which is closed with the test program.
func (f *framed) listen() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go f.serve(c)
		}
	}()
	return l.Addr().String(), nil
}

// rawFrames are what only HTTP/2 hosts can do.
func rawFrames() []*scenario {
	const options = `{explicit_http_config: {http_protocol_options: null, http2_protocol_options: {}}}`
	refuse := frame{resets: true, reset: http2.ErrCodeRefusedStream}
	of := func(name, on string, script ...frame) *scenario {
		r := resources{options: options}
		if on != "" {
			r.action = again("num_retries: 1, retry_on: " + on)
		}
		return &scenario{name: "raw-frame-" + name, raw: &r, frames: &framed{script: script}, traffic: mixed(request{http2: true})}
	}
	return []*scenario{
		of("plain", "", frame{}), of("refused", "", refuse), of("refused-retried", "refused-stream", refuse, frame{}), of("refused-reset", "reset", refuse, frame{}), of("refused-5xx", "5xx", refuse, frame{}),
		of("refused-connect-failure", "connect-failure", refuse, frame{}), of("refused-again", "refused-stream", refuse),
		of("goaway", "", frame{goaway: true}), of("goaway-retried", "refused-stream", frame{goaway: true}, frame{}), of("goaway-reset", "reset", frame{goaway: true}, frame{}),
		of("ending", "", frame{ending: true}), of("ending-retried", "refused-stream", frame{ending: true}, frame{}), of("ending-reset", "reset", frame{ending: true}, frame{}),
		of("drop", "", frame{drop: true}), of("drop-retried", "reset", frame{drop: true}, frame{}), of("drop-not-retried", "refused-stream", frame{drop: true}),
		of("cancel", "", frame{resets: true, reset: http2.ErrCodeCancel}), of("internal", "", frame{resets: true, reset: http2.ErrCodeInternal}), of("none", "", frame{resets: true, reset: http2.ErrCodeNo}),
		of("none-retried", "reset", frame{resets: true, reset: http2.ErrCodeNo}, frame{}), of("protocol", "", frame{resets: true, reset: http2.ErrCodeProtocol}),
		of("calm", "", frame{resets: true, reset: http2.ErrCodeEnhanceYourCalm}), of("junk", "", frame{junk: true}), of("junk-retried", "reset", frame{junk: true}, frame{}),
		of("late", "", frame{resets: true, after: true, reset: http2.ErrCodeInternal}), of("late-refused", "refused-stream", frame{resets: true, after: true, reset: http2.ErrCodeRefusedStream}),
		of("late-cancel", "", frame{resets: true, after: true, reset: http2.ErrCodeCancel}),
	}
}
