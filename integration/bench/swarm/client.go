package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

const dialTimeout = 20 * time.Second

// readBuffer is small: there are thousands. Larger reads go past it, into the message.
const readBuffer = 4 << 10

// client is one proxy of the swarm: it subscribes as an Envoy does, one type after the other, and accepts whatever comes.
type client struct {
	swarm  *swarm
	number int
	conn   net.Conn
	in     *bufio.Reader

	open   [view.NumTypes]bool
	counts [view.NumTypes]atomic.Int64 // resources that came
	room   int                         // bytes of messages that the server still lets us send
	window int                         // its room at the start
	done   bool                        // configured
	heads  [][]byte                    // header blocks, for the message of an error
	bytes  []byte                      // of messages that are not complete; nil: none
}

// dial connects and says what an Envoy says first.
func (s *swarm) dial(number int) (*client, error) {
	conn, err := net.DialTimeout("tcp", s.address, dialTimeout)
	if err != nil {
		return nil, err
	}
	c := &client{swarm: s, number: number, conn: conn, in: bufio.NewReaderSize(conn, readBuffer), room: firstWindow, window: firstWindow}
	node := s.dialect.identify(fmt.Sprintf("client-%d", s.first+number), s.callers[number%len(s.callers)])
	if err := c.hello(node); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return c, nil
}

// close ends the connection, at once or after what is under way.
func (c *client) close(reset bool) {
	if t, ok := c.conn.(*net.TCPConn); ok && reset {
		_ = t.SetLinger(0)
	}
	_ = c.conn.Close()
}

// hello opens the connection and its one stream, and asks for runtime layers and clusters.
func (c *client) hello(node []byte) error {
	s := c.swarm
	b := slices.Concat([]byte(http2.ClientPreface),
		appendFrame(nil, frameSettings, 0, 0, binary.BigEndian.AppendUint32([]byte{0, settingInitialWindow}, maxWindow)),
		appendFrame(nil, frameWindow, 0, 0, binary.BigEndian.AppendUint32(nil, maxWindow-firstWindow)),
		appendFrame(nil, frameHeaders, flagEndHeaders, 1, s.head))
	c.open[view.RTDS], c.open[view.CDS] = true, true
	b = c.appendMessage(b, node, s.subscriptions[view.RTDS])
	return c.send(c.appendMessage(b, s.subscriptions[view.CDS]))
}

// head is the header block that opens the stream.
func (d *dialect) head() []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for _, f := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", d.path}, {":authority", "xds"}, {"content-type", "application/grpc"}, {"te", "trailers"}} {
		if err := e.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
			panic(err) // a bytes.Buffer takes everything
		}
	}
	return b.Bytes()
}

// appendMessage is the frames of one message, which take from the server's window. What is under way at once fits into that, as each
// response is answered once.
func (c *client) appendMessage(b []byte, parts ...[]byte) []byte {
	c.room -= prefix
	for _, p := range parts {
		c.room -= len(p)
	}
	return appendMessage(b, parts...)
}

// send writes frames.
func (c *client) send(frames []byte) error {
	if c.room < 0 {
		return fmt.Errorf("client %d has more to say than the server's window takes", c.number)
	}
	_, err := c.conn.Write(frames)
	return err
}

// work reads until the connection ends.
func (c *client) work() error {
	var head [frameHead]byte
	for {
		if _, err := io.ReadFull(c.in, head[:]); err != nil {
			return err
		}
		size := int(head[0])<<16 | int(head[1])<<8 | int(head[2])
		c.swarm.bytes.Add(int64(frameHead + size))
		if err := c.frame(head[3], head[4], binary.BigEndian.Uint32(head[5:]), size); err != nil {
			return err
		}
	}
}

func (c *client) frame(kind, flags byte, stream uint32, size int) error {
	if kind == frameData {
		return c.data(size)
	}
	payload := make([]byte, size)
	if _, err := io.ReadFull(c.in, payload); err != nil {
		return err
	}
	switch {
	case kind == frameHeaders:
		c.heads = append(c.heads, payload)
		if flags&flagEndStream != 0 {
			return fmt.Errorf("the server ended the stream: %v", readHeads(c.heads))
		}
	case kind == frameSettings && flags&flagAck == 0:
		c.resize(payload)
		return c.send(appendFrame(nil, frameSettings, flagAck, 0, nil))
	case kind == framePing && flags&flagAck == 0:
		return c.send(appendFrame(nil, framePing, flagAck, 0, payload))
	case kind == frameWindow && stream == 1:
		c.room += int(binary.BigEndian.Uint32(payload))
	case kind == frameReset || kind == frameGoAway:
		return fmt.Errorf("the server sent frame %d: %q", kind, payload)
	}
	return nil
}

// resize moves the window of the stream as the server's settings say.
func (c *client) resize(settings []byte) {
	for ; len(settings) >= 6; settings = settings[6:] {
		if binary.BigEndian.Uint16(settings) == settingInitialWindow {
			now := int(binary.BigEndian.Uint32(settings[2:]))
			c.room, c.window = c.room+now-c.window, now
		}
	}
}

func readHeads(blocks [][]byte) []hpack.HeaderField {
	var all []hpack.HeaderField
	d := hpack.NewDecoder(4096, func(f hpack.HeaderField) { all = append(all, f) })
	for _, b := range blocks {
		if _, err := d.Write(b); err != nil {
			break
		}
	}
	return all
}

// data takes the payload of a data frame, and every message that it completes.
func (c *client) data(size int) error {
	have := len(c.bytes)
	if c.bytes == nil {
		c.bytes = c.swarm.buffer()
	}
	c.bytes = slices.Grow(c.bytes, size)[:have+size]
	if _, err := io.ReadFull(c.in, c.bytes[have:]); err != nil {
		return err
	}
	rest := c.bytes
	for len(rest) >= prefix {
		end := prefix + int(binary.BigEndian.Uint32(rest[1:prefix]))
		if len(rest) < end {
			break
		}
		if err := c.take(rest[prefix:end]); err != nil {
			return err
		}
		rest = rest[end:]
	}
	if c.bytes = append(c.bytes[:0], rest...); len(rest) == 0 {
		c.swarm.free(c.bytes)
		c.bytes = nil
	}
	return nil
}

// take accepts one response, and asks for the next type once all of the present one is there.
func (c *client) take(b []byte) error {
	r, err := readResponse(b)
	if err != nil {
		return err
	}
	s := c.swarm
	n := c.counts[r.typ].Add(int64(r.resources))
	if s.record != nil {
		s.record(r, b)
	}
	if churn := s.churn.Load(); churn != nil && r.typ == view.EDS {
		churn.saw(b)
	}
	var again []byte // a request of SotW says every time all that it asks for
	if s.dialect.version != 0 {
		again = s.subscriptions[r.typ]
	} else {
		again = s.urls[r.typ]
	}
	out := c.appendMessage(nil, again, s.dialect.answer(nil, r))
	if next, ok := follows(r.typ); ok && n >= s.expected[r.typ] && !c.open[next] {
		c.open[next] = true
		out = c.appendMessage(out, s.subscriptions[next])
	}
	s.arrived(c, r.typ, int64(r.resources), n)
	return c.send(out)
}

// follows is the type that an Envoy asks for once it has all of t.
func follows(t view.Type) (view.Type, bool) {
	switch t {
	case view.CDS:
		return view.EDS, true
	case view.EDS:
		return view.LDS, true
	case view.LDS:
		return view.SRDS, true
	case view.SRDS:
		return view.RDS, true
	}
	return 0, false
}
