package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Sizes of bodies.
const (
	small = 64
	large = 64 << 10
)

// serveUpstream answers HTTP/1.1 on one port and gRPC on another as cheaply as can be, until ctx ends. It says the ports on stdout.
func serveUpstream(ctx context.Context) error {
	return serve(ctx, answerHTTP, answerGRPC)
}

// serve accepts on a port of its own for each of handle, and says their addresses in one line.
func serve(ctx context.Context, handle ...func(net.Conn)) error {
	for _, h := range handle {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer l.Close()
		go accept(l, h)
		fmt.Print(l.Addr(), " ")
	}
	fmt.Println()
	<-ctx.Done()
	return nil
}

func accept(l net.Listener, handle func(net.Conn)) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			handle(c)
		}()
	}
}

// answerHTTP answers every request with 200 and as many bytes as its path asks for.
func answerHTTP(c net.Conn) {
	answers := map[bool][]byte{false: httpAnswer(small), true: httpAnswer(large)}
	in := bufio.NewReaderSize(c, 16<<10)
	for {
		first, length, err := readHead(in)
		if err != nil {
			return
		}
		if _, err := in.Discard(length); err != nil {
			return
		}
		if _, err := c.Write(answers[first == "GET /large HTTP/1.1"]); err != nil {
			return
		}
	}
}

func httpAnswer(size int) []byte {
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n", size)
	return append([]byte(head), bytes.Repeat([]byte("x"), size)...)
}

// readHead reads the head of a message: its first line and the length of the body that follows.
func readHead(in *bufio.Reader) (first string, length int, err error) {
	for n := 0; ; n++ {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return "", 0, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if n == 0 {
			first = string(line)
		}
		if len(line) == 0 {
			return first, length, nil
		}
		const name = "content-length:"
		if len(line) > len(name) && bytes.EqualFold(line[:len(name)], []byte(name)) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(line[len(name):]))); err != nil {
				return "", 0, err
			}
		}
	}
}

// message is a gRPC message of 64 bytes with its prefix.
var message = append([]byte{0, 0, 0, 0, small}, bytes.Repeat([]byte("x"), small)...)

// wide is a window that no connection of the bench uses up.
const wide = 1 << 30

// framed is an HTTP/2 connection that sends what it has when nothing more has come.
type framed struct {
	*http2.Framer
	in     *bufio.Reader
	out    *bufio.Writer
	block  bytes.Buffer
	fields *hpack.Encoder
}

func newFramed(c net.Conn) *framed {
	f := &framed{in: bufio.NewReaderSize(c, 16<<10), out: bufio.NewWriterSize(c, 16<<10)}
	f.Framer = http2.NewFramer(f.out, f.in)
	f.SetReuseFrames()
	f.fields = hpack.NewEncoder(&f.block)
	return f
}

// open sends what each side begins with.
func (f *framed) open() error {
	if err := f.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1 << 20}); err != nil {
		return err
	}
	return f.WriteWindowUpdate(0, wide)
}

// headers sends a block of names and values, alternating.
func (f *framed) headers(stream uint32, end bool, pairs ...string) error {
	f.block.Reset()
	for i := 0; i < len(pairs); i += 2 {
		if err := f.fields.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]}); err != nil {
			return err
		}
	}
	return f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: f.block.Bytes(), EndHeaders: true, EndStream: end})
}

// next is the next frame, after what is to be sent is sent. It answers what concerns the connection alone.
func (f *framed) next() (http2.Frame, error) {
	for {
		if f.in.Buffered() == 0 {
			if err := f.out.Flush(); err != nil {
				return nil, err
			}
		}
		frame, err := f.ReadFrame()
		if err != nil {
			return nil, err
		}
		switch t := frame.(type) {
		case *http2.SettingsFrame:
			if !t.IsAck() {
				err = f.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !t.IsAck() {
				err = f.WritePing(true, t.Data)
			}
		case *http2.WindowUpdateFrame:
		default:
			return frame, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// answerGRPC answers every call with a message of 64 bytes.
func answerGRPC(c net.Conn) {
	f := newFramed(c)
	if _, err := io.CopyN(io.Discard, f.in, int64(len(http2.ClientPreface))); err != nil || f.open() != nil {
		return
	}
	for {
		frame, err := f.next()
		if err != nil {
			return
		}
		if frame.Header().Flags.Has(http2.FlagDataEndStream) && f.answer(frame.Header().StreamID) != nil {
			return
		}
	}
}

func (f *framed) answer(stream uint32) error {
	if err := f.headers(stream, false, ":status", "200", "content-type", "application/grpc"); err != nil {
		return err
	}
	if err := f.WriteData(stream, false, message); err != nil {
		return err
	}
	return f.headers(stream, true, "grpc-status", "0")
}
