package xds

import (
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// frame is a message whose bytes are ready: the buffers of its resources are shared by every stream that sends them.
type frame struct{ buffers mem.BufferSlice }

// codec hands out the bytes of a frame as they are, has an incoming read what comes, and is the protobuf codec for every other message. It is given to one gRPC
// server, never registered: that would be process-wide, and others share the process.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(proto.Name)} }

// Marshal returns the buffers of a frame, or marshals v. Shared buffers are not counted, so that freeing them is harmless.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if f, ok := v.(*frame); ok {
		return f.buffers, nil
	}
	return c.CodecV2.Marshal(v)
}

// Unmarshal has an incoming read data, or unmarshals into v.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	in, ok := v.(*incoming)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	buffer := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer buffer.Free()
	in.err = in.read(buffer.ReadOnlyData())
	return nil
}
