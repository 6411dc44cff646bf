package xds

import (
	"strconv"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// Field numbers of DeltaDiscoveryResponse. Field 2, the resources, is view.Resource.Wire.
const (
	fieldSystemVersion = 1
	fieldTypeURL       = 4
	fieldNonce         = 5
	fieldRemoved       = 6
)

// deltaFields are those of DeltaDiscoveryRequest.
var deltaFields = fields{node: 1, url: 2, subscribe: 3, unsubscribe: 4, known: 5, nonce: 6, detail: 7}

// toDelta writes a response in the delta dialect: the resources' own shared bytes, and one buffer with what is the stream's.
func toDelta(r *response) *frame {
	buffers := r.resources(func(res *view.Resource) []byte { return res.Wire })
	size := 0
	for _, name := range r.gone {
		size += len(name) + 4
	}
	tail := r.tail(size)
	for _, name := range r.gone {
		tail = protowire.AppendTag(tail, fieldRemoved, protowire.BytesType)
		tail = protowire.AppendString(tail, name)
	}
	return &frame{buffers: append(buffers, mem.SliceBuffer(tail))}
}

// resources are the bytes of what the response sets, with room for one buffer more.
func (r *response) resources(part func(*view.Resource) []byte) mem.BufferSlice {
	if r.bytes != nil {
		return append(make(mem.BufferSlice, 0, 2), mem.SliceBuffer(r.bytes))
	}
	buffers := make(mem.BufferSlice, 0, len(r.set)+1)
	for _, res := range r.set {
		buffers = append(buffers, mem.SliceBuffer(part(res)))
	}
	return buffers
}

// tail is what the responses of both dialects hold beside resources, under the same field numbers; it has room for more bytes.
func (r *response) tail(more int) []byte {
	url := r.typ.URL()
	tail := make([]byte, 0, len(url)+len(r.nonce)+32+more)
	tail = protowire.AppendTag(tail, fieldSystemVersion, protowire.BytesType)
	tail = protowire.AppendString(tail, strconv.FormatInt(r.rev, 10))
	tail = protowire.AppendTag(tail, fieldTypeURL, protowire.BytesType)
	tail = protowire.AppendString(tail, url)
	tail = protowire.AppendTag(tail, fieldNonce, protowire.BytesType)
	return protowire.AppendString(tail, r.nonce)
}
