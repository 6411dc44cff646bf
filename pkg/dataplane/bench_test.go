package dataplane_test

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// BenchmarkDecode is one cluster with outlier detection.
func BenchmarkDecode(b *testing.B) {
	body := clusterBody(b, "x", "1s")
	b.ReportAllocs()
	for b.Loop() {
		if res, faults := dataplane.Decode(view.ID{Type: view.CDS, Name: "x"}, "1", body); res == nil {
			b.Fatal(faults)
		}
	}
}

// BenchmarkCompileOneChange is a change to one of 1,000 clusters.
func BenchmarkCompileOneChange(b *testing.B) {
	in := dataplane.Resources{}
	for i := range 1000 {
		in = in.With([]dataplane.Change{change(b, fmt.Sprint(i), "1s")})
	}
	table, _ := dataplane.Compile(in, nil)
	next := [2]dataplane.Resources{in.With([]dataplane.Change{change(b, "7", "2s")}), in.With([]dataplane.Change{change(b, "7", "3s")})}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		table, _ = dataplane.Compile(next[i%2], table)
	}
}

func change(b *testing.B, name, connect string) dataplane.Change {
	b.Helper()
	id := view.ID{Type: view.CDS, Name: name}
	res, faults := dataplane.Decode(id, connect, clusterBody(b, name, connect))
	if res == nil {
		b.Fatal(faults)
	}
	return dataplane.Change{ID: id, Now: res}
}

func clusterBody(b *testing.B, name, connect string) []byte {
	b.Helper()
	m := new(clusterv3.Cluster)
	text := `{"name": "` + name + `", "connect_timeout": "` + connect + `", "outlier_detection": {"interval": "1s"}, "typed_extension_protocol_options":
		{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {"@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
		"explicit_http_config": {"http_protocol_options": {}}}}}`
	if err := protojson.Unmarshal([]byte(text), m); err != nil {
		b.Fatal(err)
	}
	body, err := proto.Marshal(m)
	if err != nil {
		b.Fatal(err)
	}
	return body
}
