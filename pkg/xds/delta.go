package xds

import (
	"strconv"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
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

// fromDelta reads a request in the delta dialect.
func fromDelta(m *discoveryv3.DeltaDiscoveryRequest) (request, error) {
	t, ok := view.FromURL(m.GetTypeUrl())
	if !ok {
		return request{}, invalid("type_url %q is not served", clip(m.GetTypeUrl()))
	}
	return request{
		typ:         t,
		subscribe:   m.GetResourceNamesSubscribe(),
		unsubscribe: m.GetResourceNamesUnsubscribe(),
		known:       m.GetInitialResourceVersions(),
		nonce:       m.GetResponseNonce(),
		rejected:    m.GetErrorDetail() != nil,
		text:        m.GetErrorDetail().GetMessage(),
	}, nil
}

// toDelta writes a response in the delta dialect: the resources' own shared bytes, and one buffer with what is the stream's.
func toDelta(r *response) *frame {
	buffers := make(mem.BufferSlice, 0, len(r.set)+1)
	for _, res := range r.set {
		buffers = append(buffers, mem.SliceBuffer(res.Wire))
	}
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
