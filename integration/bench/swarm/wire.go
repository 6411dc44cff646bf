package main

import (
	"encoding/binary"
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// dialect is where the two kinds of requests have their fields. Those of the responses are the same in both.
type dialect struct {
	path                   string // of the gRPC method
	node, url, nonce, name protowire.Number
	version                protowire.Number // of the last response, which SotW repeats; 0: none
}

const service = "/envoy.service.discovery.v3.AggregatedDiscoveryService/"

var dialects = map[string]*dialect{
	"delta": {path: service + "DeltaAggregatedResources", node: 1, url: 2, name: 3, nonce: 6},
	"sotw":  {path: service + "StreamAggregatedResources", node: 2, url: 4, name: 3, nonce: 5, version: 1},
}

// Fields of the responses of both dialects.
const (
	fieldVersion   = 1
	fieldResources = 2
	fieldURL       = 4
	fieldNonce     = 5
)

// node is the field of a request that says who the client is: an Envoy with our runtime layers.
func (d *dialect) identify(id, caller string) []byte {
	b, err := proto.Marshal(&corev3.Node{
		Id: id, Cluster: caller, UserAgentName: "envoy",
		UserAgentVersionType: &corev3.Node_UserAgentBuildVersion{UserAgentBuildVersion: &corev3.BuildVersion{Version: &typev3.SemanticVersion{MajorNumber: 1, MinorNumber: 40}}},
		Metadata:             &structpb.Struct{Fields: map[string]*structpb.Value{"breakwater.runtime": structpb.NewStringValue("8")}},
	})
	if err != nil {
		panic(err) // a message of ours
	}
	return protowire.AppendBytes(protowire.AppendTag(nil, d.node, protowire.BytesType), b)
}

// subscription is the part of a request that names a type and what of it is wanted; no names: everything.
func (d *dialect) subscription(t view.Type, names []string) []byte {
	b := protowire.AppendString(protowire.AppendTag(nil, d.url, protowire.BytesType), t.URL())
	for _, name := range names {
		b = protowire.AppendString(protowire.AppendTag(b, d.name, protowire.BytesType), name)
	}
	return b
}

// answer appends the fields by which a request accepts r.
func (d *dialect) answer(b []byte, r response) []byte {
	b = protowire.AppendBytes(protowire.AppendTag(b, d.nonce, protowire.BytesType), r.nonce)
	if d.version != 0 {
		b = protowire.AppendBytes(protowire.AppendTag(b, d.version, protowire.BytesType), r.version)
	}
	return b
}

// response is what a light client reads of a response: nothing inside its resources.
type response struct {
	typ            view.Type
	resources      int
	version, nonce []byte
}

func readResponse(b []byte) (r response, err error) {
	known := false
	err = fields(b, func(n protowire.Number, value []byte) {
		switch n {
		case fieldResources:
			r.resources++
		case fieldVersion:
			r.version = value
		case fieldNonce:
			r.nonce = value
		case fieldURL:
			r.typ, known = view.FromURL(string(value))
		}
	})
	if err == nil && !known {
		err = fmt.Errorf("a response of %d bytes names no type that was asked for", len(b))
	}
	return r, err
}

// fields calls f with every field of a message that has bytes.
func fields(b []byte, f func(protowire.Number, []byte)) error {
	for len(b) > 0 {
		n, kind, size := protowire.ConsumeTag(b)
		if size < 0 {
			return protowire.ParseError(size)
		}
		b = b[size:]
		var value []byte
		if kind == protowire.BytesType {
			value, size = protowire.ConsumeBytes(b)
		} else {
			size = protowire.ConsumeFieldValue(n, kind, b)
		}
		if size < 0 {
			return protowire.ParseError(size)
		}
		if kind == protowire.BytesType {
			f(n, value)
		}
		b = b[size:]
	}
	return nil
}

// Frames of HTTP/2, as far as a client with one stream needs them.
const (
	frameData     = 0
	frameHeaders  = 1
	frameReset    = 3
	frameSettings = 4
	framePing     = 6
	frameGoAway   = 7
	frameWindow   = 8

	flagAck        = 1 // of settings and pings
	flagEndStream  = 1 // of data and headers
	flagEndHeaders = 4

	settingInitialWindow = 4
	maxWindow            = 1<<31 - 1 // more than any client of the bench is ever sent
	firstWindow          = 1<<16 - 1
	maxFrame             = 16 << 10
	frameHead            = 9
	prefix               = 5 // of a gRPC message
)

func appendFrame(b []byte, kind, flags byte, stream uint32, payload []byte) []byte {
	b = append(b, byte(len(payload)>>16), byte(len(payload)>>8), byte(len(payload)), kind, flags)
	b = binary.BigEndian.AppendUint32(b, stream)
	return append(b, payload...)
}

// appendMessage appends the frames of one gRPC message on stream 1, whose bytes are the parts one after the other.
func appendMessage(b []byte, parts ...[]byte) []byte {
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	message := make([]byte, 0, prefix+size)
	message = binary.BigEndian.AppendUint32(append(message, 0), uint32(size))
	for _, p := range parts {
		message = append(message, p...)
	}
	for len(message) > maxFrame {
		b, message = appendFrame(b, frameData, 0, 1, message[:maxFrame]), message[maxFrame:]
	}
	return appendFrame(b, frameData, 0, 1, message)
}
