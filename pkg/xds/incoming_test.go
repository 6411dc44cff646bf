package xds

import (
	"bytes"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

func encode(m proto.Message) []byte {
	b, err := proto.Marshal(m)
	if err != nil {
		panic(err)
	}
	return b
}

// deltaRequest is a request with everything in it that is looked at, and some that is not.
func deltaRequest() *discoveryv3.DeltaDiscoveryRequest {
	return &discoveryv3.DeltaDiscoveryRequest{
		Node: ordersNode(), TypeUrl: view.EDS.URL(), ResourceNamesSubscribe: []string{"a", "b"}, ResourceNamesUnsubscribe: []string{"c"},
		ResourceLocatorsSubscribe: []*discoveryv3.ResourceLocator{{Name: "x"}},
		InitialResourceVersions:   map[string]string{"a": "1", "b": ""}, ResponseNonce: "7",
		ErrorDetail: &rpcstatus.Status{Code: 3, Message: "no"},
	}
}

func worldRequest() *discoveryv3.DiscoveryRequest {
	return &discoveryv3.DiscoveryRequest{
		Node: ordersNode(), TypeUrl: view.EDS.URL(), ResourceNames: []string{"a", "b"}, VersionInfo: "6", ResponseNonce: "7",
		ErrorDetail: &rpcstatus.Status{Code: 3, Message: "no"},
	}
}

// FuzzIncoming compares what is read with what the messages' own decoder reads.
func FuzzIncoming(f *testing.F) {
	f.Add(encode(deltaRequest()))
	f.Add(encode(worldRequest()))
	f.Add(protowire.AppendVarint(protowire.AppendTag(nil, 3, protowire.VarintType), 1))
	f.Add(append(repeat(3, strings.Repeat("a", 200), 10), encode(deltaRequest())...))
	f.Fuzz(func(t *testing.T, b []byte) {
		shared := &rosters{after: func(time.Duration, func()) {}}
		in := &incoming{fields: deltaFields, rosters: shared}
		err := in.read(b)
		m := new(discoveryv3.DeltaDiscoveryRequest)
		if proto.Unmarshal(b, m) == nil && err == nil {
			same(t, in, m.Node, m.TypeUrl, m.ResponseNonce, m.ErrorDetail)
			if !slices.Equal(in.subscribe, m.ResourceNamesSubscribe) || !slices.Equal(in.unsubscribe, m.ResourceNamesUnsubscribe) || !maps.Equal(in.known, m.InitialResourceVersions) {
				t.Errorf("got %+v of %v", in.request, m)
			}
		}
		in = &incoming{fields: worldFields, rosters: shared}
		err = in.read(b)
		w := new(discoveryv3.DiscoveryRequest)
		if proto.Unmarshal(b, w) == nil && err == nil {
			same(t, in, w.Node, w.TypeUrl, w.ResponseNonce, w.ErrorDetail)
			if !slices.Equal(in.wanted, w.ResourceNames) {
				t.Errorf("got %+v of %v", in.request, w)
			}
		}
	})
}

func same(t *testing.T, in *incoming, node *corev3.Node, url, nonce string, detail *rpcstatus.Status) {
	t.Helper()
	if in.typ.URL() != url || in.nonce != nonce && len(nonce) <= maxNameBytes || in.rejected != (detail != nil) {
		t.Errorf("got %+v, want %s, nonce %q, rejected %v", in.request, url, nonce, detail != nil)
	}
	if text := detail.GetMessage(); in.text != text && len(text) <= maxTextBytes {
		t.Errorf("text %q, want %q", in.text, text)
	}
	if (in.node == nil) != (node == nil) || in.node.GetId() != node.GetId() {
		t.Errorf("node %v, want %v", in.node, node)
	}
}

func TestARequestIsReadAsItsOwnDecoderReadsIt(t *testing.T) {
	in := &incoming{fields: deltaFields}
	if err := in.read(encode(deltaRequest())); err != nil {
		t.Fatal(err)
	}
	want := request{typ: view.EDS, subscribe: []string{"a", "b"}, unsubscribe: []string{"c"}, known: map[string]string{"a": "1", "b": ""}, nonce: "7", rejected: true, text: "no"}
	if in.typ != want.typ || !slices.Equal(in.subscribe, want.subscribe) || !slices.Equal(in.unsubscribe, want.unsubscribe) || !maps.Equal(in.known, want.known) ||
		in.nonce != want.nonce || !in.rejected || in.text != want.text || !proto.Equal(in.node, ordersNode()) {
		t.Errorf("got %+v of %v, want %+v of the node", in.request, in.node, want)
	}
	in = &incoming{fields: worldFields}
	if err := in.read(encode(worldRequest())); err != nil || !slices.Equal(in.wanted, []string{"a", "b"}) || in.nonce != "7" || in.text != "no" || in.typ != view.EDS {
		t.Errorf("got %+v, %v", in.request, err)
	}
	in = &incoming{fields: deltaFields}
	if err := in.read(encode(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: view.EDS.URL(), ErrorDetail: &rpcstatus.Status{}})); err != nil || !in.rejected {
		t.Errorf("an empty error is one: rejected %v, %v", in.rejected, err)
	}
}

// repeat is so many times a field.
func repeat(number protowire.Number, value string, n int) []byte {
	return bytes.Repeat(protowire.AppendString(protowire.AppendTag(nil, number, protowire.BytesType), value), n)
}

// Whatever a request of 16 MiB holds, reading it takes a small part of that.
func TestWhatIsTooMuchIsNotDecoded(t *testing.T) {
	url := encode(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: view.EDS.URL()})
	node := string(repeat(13, "\x0a\x00", 3<<20)) // extensions of a node, 4 bytes each
	for name, tt := range map[string]struct {
		bytes []byte
		code  codes.Code
		want  string
	}{
		"names":               {repeat(3, "", 7<<20), codes.ResourceExhausted, "more than 40000 names"},
		"names, both ways":    {append(repeat(3, "a", 30_000), repeat(4, "a", 30_000)...), codes.ResourceExhausted, "more than 40000 names"},
		"a long name":         {repeat(3, strings.Repeat("x", 15<<20), 1), codes.InvalidArgument, "the name of a resource has 15728640 bytes"},
		"no text":             {repeat(3, "\xff", 1), codes.InvalidArgument, "no text"},
		"versions":            {repeat(5, "\x0a\x00", 3<<20), codes.OK, ""},
		"many versions":       {versions(maxKnown + 1), codes.ResourceExhausted, "more than 100000 resources"},
		"a long version":      {repeat(5, string(repeat(2, strings.Repeat("x", 1<<20), 1)), 1), codes.InvalidArgument, "the version of a resource has 1048576 bytes"},
		"a node":              {repeat(1, node, 1), codes.InvalidArgument, "at most 262144 are allowed"},
		"half a node":         {repeat(1, "\x0a", 1), codes.InvalidArgument, "node is no message"},
		"a rejection":         {repeat(7, string(repeat(2, strings.Repeat("x", 15<<20), 1)), 1), codes.OK, ""},
		"details":             {repeat(7, string(repeat(3, "", 7<<20)), 1), codes.OK, ""},
		"a nonce":             {repeat(6, strings.Repeat("x", 15<<20), 1), codes.OK, ""},
		"what nobody knows":   {repeat(99, strings.Repeat("x", 15<<20), 1), codes.OK, ""},
		"half a field":        {[]byte{0x1a, 0x05, 'a'}, codes.InvalidArgument, "no message of its kind"},
		"a group without end": {bytes.Repeat([]byte{0x9b, 0x06}, 1<<20), codes.InvalidArgument, "no message of its kind"},
		"another type":        {repeat(2, strings.Repeat("y", 15<<20), 1), codes.InvalidArgument, "is not served"},
	} {
		b := append(bytes.Clone(url), tt.bytes...)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		in := &incoming{fields: deltaFields}
		err := in.read(b)
		runtime.ReadMemStats(&after)
		if status.Code(err) != tt.code || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %v and %q", name, err, tt.code, tt.want)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 16<<20 {
			t.Errorf("%s: %d bytes were allocated for a request of %d", name, n, len(b))
		}
	}
}

func versions(n int) []byte {
	m := &discoveryv3.DeltaDiscoveryRequest{InitialResourceVersions: map[string]string{}}
	for i := range n {
		m.InitialResourceVersions[fmt.Sprint(i)] = ""
	}
	return encode(m)
}
