package main

import (
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// floor is the least that pushing over grpc-go can cost: streams on which the bytes that the control plane sent are sent again. It
// decides nothing and reads of a request only the type.
type floor struct {
	mu      sync.Mutex
	first   [view.NumTypes][]mem.BufferSlice
	edits   []mem.BufferSlice
	streams map[chan struct{}]struct{} // by what wakes them
}

func newFloor() *floor { return &floor{streams: make(map[chan struct{}]struct{})} }

// options are small buffers, as a server of many streams has them, and no bound on what it is sent.
func (f *floor) options() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ForceServerCodecV2(rawCodec{}), grpc.ReadBufferSize(4 << 10), grpc.WriteBufferSize(16 << 10), grpc.MaxRecvMsgSize(16 << 20),
	}
}

func (f *floor) register(g *grpc.Server) {
	g.RegisterService(&grpc.ServiceDesc{
		ServiceName: "envoy.service.discovery.v3.AggregatedDiscoveryService",
		Streams: []grpc.StreamDesc{
			{StreamName: "DeltaAggregatedResources", ServerStreams: true, ClientStreams: true, Handler: func(_ any, g grpc.ServerStream) error { return f.serve(dialects["delta"], g) }},
			{StreamName: "StreamAggregatedResources", ServerStreams: true, ClientStreams: true, Handler: func(_ any, g grpc.ServerStream) error { return f.serve(dialects["sotw"], g) }},
		},
	}, nil)
}

func (f *floor) load(all []said) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range all {
		f.first[m.Type] = append(f.first[m.Type], mem.BufferSlice{mem.SliceBuffer(m.Bytes)})
	}
	return nil
}

func (f *floor) edit(all []said) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range all {
		f.edits = append(f.edits, mem.BufferSlice{mem.SliceBuffer(m.Bytes)})
	}
	for wake := range f.streams {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
	return nil
}

// since are the edits from the n-th on.
func (f *floor) since(n int) []mem.BufferSlice {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.edits[n:]
}

func (f *floor) serve(d *dialect, g grpc.ServerStream) error {
	wake, opened, ended := make(chan struct{}, 1), make(chan view.Type, view.NumTypes), make(chan error, 1)
	f.mu.Lock()
	f.streams[wake] = struct{}{}
	known := len(f.edits)
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.streams, wake)
	}()
	go func() { ended <- readTypes(d, g, opened) }()
	for {
		var messages []mem.BufferSlice
		select {
		case err := <-ended:
			return err
		case t := <-opened:
			messages = f.first[t]
		case <-wake:
			messages = f.since(known)
			known += len(messages)
		}
		for _, m := range messages {
			if err := g.SendMsg(m); err != nil {
				return err
			}
		}
	}
}

// readTypes hands each type on at its first request.
func readTypes(d *dialect, g grpc.ServerStream, opened chan<- view.Type) error {
	var open [view.NumTypes]bool
	for {
		var request mem.Buffer
		if err := g.RecvMsg(&request); err != nil {
			return err
		}
		var t view.Type
		err := fields(request.ReadOnlyData(), func(n protowire.Number, value []byte) {
			if n == d.url {
				t, _ = view.FromURL(string(value))
			}
		})
		request.Free()
		if err != nil {
			return err
		}
		if !open[t] {
			open[t] = true
			opened <- t
		}
	}
}

// rawCodec passes bytes on as they are.
type rawCodec struct{}

// Marshal returns the bytes that v is.
func (rawCodec) Marshal(v any) (mem.BufferSlice, error) { return v.(mem.BufferSlice), nil }

// Unmarshal puts the bytes into v, which frees them.
func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*mem.Buffer) = data.MaterializeToBuffer(mem.DefaultBufferPool())
	return nil
}

// Name is that of the codec whose content type is used.
func (rawCodec) Name() string { return "proto" }
