package differential_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// frames is what a host sends in answer to the stream id, frame by frame.
type frames func(p *peer, id uint32)

func after(all ...frames) frames {
	return func(p *peer, id uint32) {
		for _, f := range all {
			f(p, id)
		}
	}
}

// head is the head of a response: "200", or with more fields "200|name|value".
func head(text string, end bool) frames {
	return func(p *peer, id uint32) { p.headers(id, end, ":status|"+text) }
}

func content(text string, end bool) frames {
	return func(p *peer, id uint32) { p.locked(func() error { return p.WriteData(id, end, []byte(text)) }) }
}

func rst(code http2.ErrCode) frames {
	return func(p *peer, id uint32) { p.locked(func() error { return p.WriteRSTStream(id, code) }) }
}

// goaway names as the last stream the one of the request, and as many before or after it.
func goaway(more int, code http2.ErrCode) frames {
	return func(p *peer, id uint32) {
		p.locked(func() error { return p.WriteGoAway(uint32(max(0, int(id)+2*more)), code, nil) })
	}
}

// later does the rest in a moment.
func later(d time.Duration, f frames) frames {
	return func(p *peer, id uint32) { time.AfterFunc(d, func() { f(p, id) }) }
}

func hangUp(p *peer, _ uint32) { _ = p.conn.Close() }

// peer is one end of a connection of HTTP/2 that is spoken frame by frame.
type peer struct {
	*http2.Framer
	conn net.Conn
	mu   sync.Mutex // for writing
	text bytes.Buffer
	enc  *hpack.Encoder
}

func newPeer(c net.Conn) *peer {
	p := &peer{Framer: http2.NewFramer(c, c), conn: c}
	p.ReadMetaHeaders, p.MaxHeaderListSize = hpack.NewDecoder(4096, nil), 1<<20
	p.AllowIllegalWrites = true
	p.enc = hpack.NewEncoder(&p.text)
	return p
}

// locked writes. An error is for the reader to find.
func (p *peer) locked(write func() error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = write()
}

// headers sends fields, written as name|value|name|value, in frames of at most 16 KiB.
func (p *peer) headers(id uint32, end bool, fields string) {
	p.locked(func() error {
		p.text.Reset()
		parts := strings.Split(fields, "|")
		for i := 0; i+1 < len(parts); i += 2 {
			if err := p.enc.WriteField(hpack.HeaderField{Name: parts[i], Value: parts[i+1]}); err != nil {
				return err
			}
		}
		block := p.text.Bytes()
		first := block[:min(len(block), 16<<10)]
		block = block[len(first):]
		err := p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: first, EndStream: end, EndHeaders: len(block) == 0})
		for len(block) > 0 && err == nil {
			next := block[:min(len(block), 16<<10)]
			block = block[len(next):]
			err = p.WriteContinuation(id, len(block) == 0, next)
		}
		return err
	})
}

// grant gives back the window of n bytes.
func (p *peer) grant(id uint32, n int) {
	if n == 0 {
		return
	}
	p.locked(func() error {
		if err := p.WriteWindowUpdate(0, uint32(n)); err != nil {
			return err
		}
		return p.WriteWindowUpdate(id, uint32(n))
	})
}

// framedStream is a request as it comes.
type framedStream struct {
	seen
	side *arrivals
	at   int // in the log; -1: it has not arrived
}

func (u *upstream) acceptFramed(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go u.serveFramed(c) // ends with the proxy's connection
	}
}

// serveFramed is a host that answers frame by frame. A request arrives once it is complete, or with its head.
func (u *upstream) serveFramed(c net.Conn) {
	defer c.Close()
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(c, preface); err != nil {
		return
	}
	p := newPeer(c)
	p.locked(func() error { return p.WriteSettings(u.framed.settings...) })
	streams := map[uint32]*framedStream{}
	conn := 0
	for {
		frame, err := p.ReadFrame()
		if err != nil {
			return
		}
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				p.locked(p.WriteSettingsAck)
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				p.locked(func() error { return p.WritePing(true, f.Data) })
			}
		case *http2.MetaHeadersFrame:
			s := streams[f.StreamID]
			if s == nil {
				s = u.begin(f, &conn)
				streams[f.StreamID] = s
			}
			if s.side != nil && s.at < 0 && (f.StreamEnded() || u.framed.atHead) {
				u.arriveFramed(p, f.StreamID, s)
			}
		case *http2.DataFrame:
			s := streams[f.StreamID]
			p.grant(f.StreamID, len(f.Data()))
			if s == nil || s.side == nil {
				continue
			}
			u.mu.Lock()
			s.body += string(f.Data())
			u.mu.Unlock()
			if f.StreamEnded() && s.at < 0 {
				u.arriveFramed(p, f.StreamID, s)
			}
		case *http2.RSTStreamFrame:
			if s := streams[f.StreamID]; s != nil && s.at >= 0 && u.framed.resets {
				u.mu.Lock()
				s.side.log[s.at].body += " reset"
				if u.framed.codes {
					s.side.log[s.at].body += " as " + f.ErrCode.String()
				}
				u.mu.Unlock()
			}
		}
	}
}

// framedHost is how hosts behave that speak frame by frame.
type framedHost struct {
	settings []http2.Setting
	atHead   bool // a request arrives with its head
	conns    bool // it is noted by which connection one came
	resets   bool // it is noted that one was reset by the proxy
	codes    bool // and with which code
}

// begin notes a request, and which of its side's connections it has come by.
func (u *upstream) begin(f *http2.MetaHeadersFrame, conn *int) *framedStream {
	s := &framedStream{at: -1}
	s.header = map[string][]string{}
	for _, field := range f.Fields {
		if field.Name == sideHeader {
			s.side = u.sides[field.Value]
		}
	}
	if s.side == nil {
		return s
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if *conn == 0 {
		s.side.conns++
		*conn = s.side.conns
	}
	s.method, s.path = f.PseudoValue("method"), f.PseudoValue("path")
	if u.framed.conns {
		s.body = fmt.Sprintf("connection %d: ", *conn)
	}
	return s
}

func (u *upstream) arriveFramed(p *peer, id uint32, s *framedStream) {
	u.mu.Lock()
	s.at = len(s.side.log)
	u.mu.Unlock()
	b, release := u.arrive(s.side, 0, s.seen)
	u.leave(s.side)
	answer := b.frames
	if answer == nil {
		answer = after(head("200", false), content("ok", true))
	}
	if b.hold {
		go func() {
			<-release
			answer(p, id)
		}()
		return
	}
	answer(p, id)
}

// caller is an application that speaks frame by frame. It notes what comes, by stream; under 0 what belongs to none.
type caller struct {
	*peer
	mu    sync.Mutex
	notes map[uint32]string
	ended map[uint32]bool // stream; 0 is the connection
}

// frames calls the proxy frame by frame.
func (s *side) frames(talk func(c *caller)) {
	conn, err := net.Dial("tcp", s.proxy.outbound)
	if err != nil {
		s.t.Error(err)
		return
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	c := &caller{peer: newPeer(conn), notes: map[uint32]string{}, ended: map[uint32]bool{}}
	c.locked(func() error {
		if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
			return err
		}
		return c.WriteSettings()
	})
	done := make(chan struct{})
	go func() { // ends with the connection
		defer close(done)
		c.listen()
	}()
	talk(c)
	_ = conn.Close()
	<-done
}

func (c *caller) listen() {
	for {
		frame, err := c.ReadFrame()
		if err != nil {
			c.note(0, "end", true)
			return
		}
		id := frame.Header().StreamID
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				c.locked(c.WriteSettingsAck)
			}
		case *http2.PingFrame:
			if f.IsAck() {
				c.note(0, "pong|", false)
			}
		case *http2.MetaHeadersFrame:
			text := "head " + f.PseudoValue("status")
			for _, name := range []string{"content-length", "content-type", "grpc-status", "grpc-message", "x-envoy-overloaded"} {
				for _, field := range f.RegularFields() {
					if field.Name == name {
						text += " " + name + "=" + field.Value
					}
				}
			}
			c.note(id, text+"|", f.StreamEnded())
		case *http2.DataFrame:
			c.grant(id, len(f.Data()))
			c.note(id, string(f.Data()), f.StreamEnded())
		case *http2.RSTStreamFrame:
			c.note(id, f.ErrCode.String(), true)
		case *http2.GoAwayFrame:
			c.note(0, "goaway "+f.ErrCode.String()+"|", false)
		}
	}
}

func (c *caller) note(id uint32, what string, end bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended[id] {
		what = "afterwards " + what
	} else if end && id > 0 {
		what += "|END"
	}
	c.notes[id] += what
	c.ended[id] = c.ended[id] || end
}

// over reports whether a stream has ended, or the connection.
func (c *caller) over(id uint32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended[id] || c.ended[0]
}

func (c *caller) noted(id uint32) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.notes[id]
}

// open begins a stream to the service with further fields; ":method" and ":path" are among them or GET and /.
func (c *caller) open(s *side, id uint32, end bool, fields string) {
	base := ""
	for name, value := range map[string]string{":method": "GET", ":path": "/", ":scheme": "http", ":authority": s.service} {
		if !strings.Contains("|"+fields, "|"+name+"|") {
			base += name + "|" + value + "|"
		}
	}
	if fields != "" {
		fields += "|"
	}
	c.headers(id, end, base+fields+sideHeader+"|"+s.name)
}

// hears waits for the end of streams and has what came of them as answers.
func (c *caller) hears(s *side, begun time.Time, ids ...uint32) {
	for _, id := range ids {
		s.until(fmt.Sprintf("stream %d ends", id), func() bool { return c.over(id) })
		text := c.noted(id)
		if c.over(0) {
			text += " connection: " + c.noted(0)
		}
		s.answers = append(s.answers, answer{body: text, elapsed: time.Since(begun)})
	}
}
