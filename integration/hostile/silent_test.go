package hostile

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/mem"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// bytesCodec sends bytes as they are.
type bytesCodec struct{}

func (bytesCodec) Name() string { return "proto" }

func (bytesCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (bytesCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

// each opens n connections by hand, has f do something with each, and holds them until the time is over.
func each(ctx context.Context, a *attacker, n int, settings []http2.Setting, f func(i int, r *raw) error) error {
	for i := range n {
		r, err := a.raw(ctx, settings...)
		if err == nil {
			err = f(i, r)
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}

// noWindow has the server send nothing.
var noWindow = []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 0}}

func askAll(a *attacker, i int, r *raw) error {
	if err := r.open(1); err != nil {
		return err
	}
	for _, q := range everything(serviceNames(services)) {
		q.Node = nodeOf(fmt.Sprint(a.id, "-", i), "orders.shop")
		if err := r.say(1, 0, encode(q)); err != nil {
			return err
		}
	}
	return nil
}

func readsNothing(ctx context.Context, a *attacker) error {
	return each(ctx, a, 20, noWindow, func(i int, r *raw) error { return askAll(a, i, r) })
}

func answersBlindly(ctx context.Context, a *attacker) error {
	return each(ctx, a, 5, noWindow, func(i int, r *raw) error {
		if err := askAll(a, i, r); err != nil {
			return err
		}
		for n := range 100 {
			for t := range view.NumTypes {
				if err := r.say(1, 0, encode(&deltaAsk{TypeUrl: t.URL(), ResponseNonce: fmt.Sprint(n)})); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func answersNothing(ctx context.Context, a *attacker) error {
	return a.stream(ctx, func(s deltaStream) error {
		for _, q := range everything(serviceNames(services)) {
			q.Node = a.node()
			if err := s.Send(q); err != nil {
				return err
			}
		}
		for n := 1; ; n++ {
			if _, err := s.Recv(); err != nil {
				return nil // the time is over, or it is closed
			}
			if n > 13 {
				return fmt.Errorf("%d responses and no answer", n)
			}
		}
	})
}

func rejectsAll(ctx context.Context, a *attacker) error {
	text := strings.Repeat("no ", 1<<20/3)
	return a.stream(ctx, func(s deltaStream) error {
		for _, q := range everything(serviceNames(services)) {
			q.Node = a.node()
			if err := s.Send(q); err != nil {
				return err
			}
		}
		sent := map[string]int{} // times a version came
		for {
			m, err := s.Recv()
			if err != nil {
				return nil
			}
			for _, r := range m.Resources {
				key := m.TypeUrl + r.Name + r.Version
				if sent[key]++; sent[key] > 3*services { // each of a batch is blamed in turn
					return fmt.Errorf("version %s of %s comes the %dth time", r.Version, r.Name, sent[key])
				}
			}
			if err := s.Send(&deltaAsk{TypeUrl: m.TypeUrl, ResponseNonce: m.Nonce, ErrorDetail: &rpcstatus.Status{Code: 3, Message: text}}); err != nil {
				return nil
			}
		}
	})
}

func staleNonces(ctx context.Context, a *attacker) error {
	return a.stream(ctx, func(s deltaStream) error {
		if err := s.Send(&deltaAsk{Node: a.node(), TypeUrl: view.LDS.URL()}); err != nil {
			return err
		}
		first, err := s.Recv()
		if err != nil {
			return err
		}
		return again(ctx, 2*time.Millisecond, func(int) error {
			return s.Send(&deltaAsk{TypeUrl: first.TypeUrl, ResponseNonce: first.Nonce, ErrorDetail: &rpcstatus.Status{Message: "no"}})
		})
	})
}

func silentStreams(ctx context.Context, a *attacker) error {
	return each(ctx, a, 3, nil, func(_ int, r *raw) error {
		for i := range uint32(100) {
			if err := r.open(2*i + 1); err != nil {
				return err
			}
		}
		return nil
	})
}

// halfOpen reads and writes no more, as a host that has lost its power.
func halfOpen(ctx context.Context, a *attacker) error {
	return each(ctx, a, 20, nil, func(i int, r *raw) error { return askAll(a, i, r) })
}

func halfMessages(ctx context.Context, a *attacker) error {
	return each(ctx, a, 20, nil, func(i int, r *raw) error {
		err := r.open(1)
		return errors.Join(err, r.WriteData(1, false, append([]byte{0, 1, 0, 0, 0}, make([]byte, 16<<10-5)...)), r.WriteData(1, false, make([]byte, 16<<10)))
	})
}

func silentConnections(ctx context.Context, a *attacker) error {
	for range 100 {
		conn, err := a.dial(ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
	}
	<-ctx.Done()
	return nil
}

func noHTTP2(ctx context.Context, a *attacker) error {
	return again(ctx, 20*time.Millisecond, func(i int) error {
		conn, err := a.dial(ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, []string{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", strings.Repeat("\x00", 64), http2.ClientPreface + strings.Repeat("\xff", 64)}[i%4])
		return closed(ctx, conn)
	})
}

// closed waits for the server to close conn.
func closed(ctx context.Context, conn net.Conn) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	_, _ = io.Copy(io.Discard, conn)
	return errRefused
}

func unreadable(ctx context.Context, a *attacker) error {
	return again(ctx, 50*time.Millisecond, func(int) error {
		r, err := a.raw(ctx)
		if err != nil {
			return err
		}
		defer r.Close()
		if err := errors.Join(r.open(1, hpack.HeaderField{Name: "grpc-encoding", Value: "zip-of-death"}), r.say(1, 1, []byte("x"))); err != nil {
			return err
		}
		return r.ended()
	})
}

// bomb is 20 MiB of a nonce, compressed.
var bomb = sync.OnceValue(func() []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write(encode(&deltaAsk{ResponseNonce: strings.Repeat("0", 20<<20)}))
	if err := errors.Join(err, z.Close()); err != nil {
		panic(err) // a bytes.Buffer takes everything
	}
	return b.Bytes()
})

func bombs(ctx context.Context, a *attacker) error {
	return again(ctx, 200*time.Millisecond, func(int) error {
		r, err := a.raw(ctx)
		if err != nil {
			return err
		}
		defer r.Close()
		_ = errors.Join(r.open(1, hpack.HeaderField{Name: "grpc-encoding", Value: "gzip"}), r.say(1, 1, bomb()))
		return r.ended()
	})
}

// ended waits until the server has ended the stream or the connection.
func (r *raw) ended() error {
	_ = r.hear(func(f http2.Frame) bool {
		return f.Header().Flags.Has(http2.FlagHeadersEndStream) && f.Header().Type == http2.FrameHeaders || f.Header().Type == http2.FrameRSTStream || f.Header().Type == http2.FrameGoAway
	})
	return errRefused
}

func hugeHeaders(ctx context.Context, a *attacker) error {
	return again(ctx, 50*time.Millisecond, func(int) error {
		r, err := a.raw(ctx)
		if err != nil {
			return err
		}
		defer r.Close()
		var block bytes.Buffer
		_ = hpack.NewEncoder(&block).WriteField(hpack.HeaderField{Name: "x", Value: strings.Repeat("\xff", 1<<20)})
		return errors.Join(r.headers(block.Bytes()), r.ended())
	})
}

// headers sends a block in as many frames as it takes; where the server has had enough, the rest is not sent.
func (r *raw) headers(block []byte) error {
	if err := r.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:16<<10]}); err != nil {
		return err
	}
	for block = block[16<<10:]; len(block) > 0; {
		n := min(len(block), 16<<10)
		if r.WriteContinuation(1, n == len(block), block[:n]) != nil {
			return nil
		}
		block = block[n:]
	}
	return nil
}

func endlessHeaders(ctx context.Context, a *attacker) error {
	return again(ctx, 50*time.Millisecond, func(int) error {
		r, err := a.raw(ctx)
		if err != nil {
			return err
		}
		defer r.Close()
		var block bytes.Buffer
		_ = hpack.NewEncoder(&block).WriteField(hpack.HeaderField{Name: "x", Value: "y"})
		if err := r.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes()}); err != nil {
			return err
		}
		for r.WriteContinuation(1, false, block.Bytes()) == nil {
		}
		return errRefused
	})
}

func rapidReset(ctx context.Context, a *attacker) error {
	r, err := a.raw(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	go func() { _ = r.hear(func(http2.Frame) bool { return false }) }()
	for i := uint32(1); ctx.Err() == nil; i += 2 {
		if r.open(i) != nil || r.WriteRSTStream(i, http2.ErrCodeCancel) != nil {
			return nil
		}
		if i%200 == 1 {
			pause(ctx, 10*time.Millisecond)
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func pings(ctx context.Context, a *attacker) error {
	return again(ctx, 50*time.Millisecond, func(int) error {
		r, err := a.raw(ctx)
		if err != nil {
			return err
		}
		defer r.Close()
		for i := range 10 {
			_ = r.WritePing(false, [8]byte{byte(i)})
		}
		tooMany := false
		_ = r.hear(func(f http2.Frame) bool {
			g, ok := f.(*http2.GoAwayFrame)
			tooMany = ok && string(g.DebugData()) == "too_many_pings"
			return ok
		})
		if !tooMany && ctx.Err() == nil {
			return errors.New("no GOAWAY of too_many_pings")
		}
		return errRefused
	})
}

func manySettings(ctx context.Context, a *attacker) error {
	r, err := a.raw(ctx)
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		for range 100 {
			if r.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 16}) != nil {
				return nil // it reads none of the answers, and the server reads no more
			}
		}
		pause(ctx, 10*time.Millisecond)
	}
	return nil
}
