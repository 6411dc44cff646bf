package dataplane_test

import (
	"maps"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	compositev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/composite/v3"
	filterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	earlyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/envoy"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// filler fills messages by chance: any field, any value, known messages packed in Anys.
type filler struct{ *rand.Rand }

func (f filler) fill(m protoreflect.Message, depth int) {
	switch v := m.Interface().(type) {
	case *anypb.Any:
		f.pack(v, depth)
		return
	case *durationpb.Duration:
		v.Seconds, v.Nanos = f.Int64N(100)-3, int32(f.IntN(1e9))
		return
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		d := fields.Get(i)
		if f.IntN(3+2*depth) > 1 || d.Message() != nil && depth > 5 {
			continue
		}
		switch {
		case d.IsMap():
			f.mapEntry(m, d, depth)
		case d.IsList():
			list := m.Mutable(d).List()
			for range 1 + f.IntN(2) {
				if d.Message() != nil {
					f.fill(list.AppendMutable().Message(), depth+1)
				} else {
					list.Append(f.scalar(d))
				}
			}
		case d.Message() != nil:
			f.fill(m.Mutable(d).Message(), depth+1)
		default:
			m.Set(d, f.scalar(d))
		}
	}
}

func (f filler) mapEntry(m protoreflect.Message, d protoreflect.FieldDescriptor, depth int) {
	if d.MapKey().Kind() != protoreflect.StringKind || d.MapValue().Message() == nil {
		return
	}
	key := []string{"x", "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"}[f.IntN(2)]
	f.fill(m.Mutable(d).Map().Mutable(protoreflect.ValueOfString(key).MapKey()).Message(), depth+1)
}

func (f filler) pack(a *anypb.Any, depth int) {
	known := []proto.Message{
		&hcmv3.HttpConnectionManager{}, &tcpv3.TcpProxy{}, &routerv3.Router{}, &filterv3.HeaderMutation{}, &earlyv3.HeaderMutation{},
		&httpv3.HttpProtocolOptions{}, &compositev3.ClusterConfig{}, &durationpb.Duration{},
	}
	inner := known[f.IntN(len(known))]
	f.fill(inner.ProtoReflect(), depth+1)
	_ = anypb.MarshalFrom(a, inner, proto.MarshalOptions{Deterministic: true})
	if f.IntN(20) == 0 {
		a.Value = append(a.Value, 0xff)
	}
}

func (f filler) scalar(d protoreflect.FieldDescriptor) protoreflect.Value {
	small := uint32(f.IntN(4))
	switch d.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(f.IntN(2) == 0)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(f.IntN(9)) - 1)
	case protoreflect.StringKind:
		return protoreflect.ValueOfString([]string{"x", "", "*", "127.0.0.1", "x-envoy-", ":authority", "%REQ(x)%", "(", "upstream.maintenance_mode.x"}[f.IntN(9)])
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte("x"))
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32([]uint32{small, math.MaxUint32, 8080, 128}[f.IntN(4)])
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64([]uint64{uint64(small), math.MaxUint64}[f.IntN(2)])
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(int32(small) - 1)
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return protoreflect.ValueOfInt64([]int64{int64(small), math.MinInt64}[f.IntN(2)])
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(float32(small))
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64([]float64{float64(small), math.NaN(), math.Inf(1), 1e300}[f.IntN(4)])
	}
	return d.Default()
}

// tryOne decodes and compiles one random resource, twice. It reports whether it was accepted.
func tryOne(t *testing.T, seed uint64) bool {
	t.Helper()
	f := filler{rand.New(rand.NewPCG(seed, 1))}
	typ := view.Type(seed % uint64(view.NumTypes))
	m := message(typ)
	f.fill(m.ProtoReflect(), int(seed%5))
	for _, name := range []protoreflect.Name{"name", "cluster_name"} {
		if d := m.ProtoReflect().Descriptor().Fields().ByName(name); d != nil {
			m.ProtoReflect().Set(d, protoreflect.ValueOfString("x"))
		}
	}
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return false
	}
	return try(t, view.ID{Type: typ, Name: "x"}, body)
}

func try(t *testing.T, id view.ID, body []byte) bool {
	t.Helper()
	res, faults := dataplane.Decode(id, "1", body)
	if (res == nil) != (len(faults) > 0) {
		t.Fatalf("%s: resource %v, faults %v", id, res, faults)
	}
	again, faultsAgain := dataplane.Decode(id, "1", body)
	if d := cmp.Diff(dataplane.Text(faults), dataplane.Text(faultsAgain)); d != "" {
		t.Fatalf("%s: other faults the second time:\n%s", id, d)
	}
	if res == nil {
		return false
	}
	table, _ := dataplane.Compile(holds(res), nil)
	twin, _ := dataplane.Compile(holds(again), nil)
	if table != nil && text(table) != text(twin) {
		t.Fatalf("%s: another table the second time", id)
	}
	return true
}

func TestRandomResources(t *testing.T) {
	accepted := 0
	for seed := range uint64(3_000) {
		if tryOne(t, seed) {
			accepted++
		}
	}
	if accepted < 300 {
		t.Errorf("%d of 3,000 were accepted: they say little of Compile", accepted)
	}
}

// TestWhatChangesNothing sets one field after another, to many values, in what our compiler emits. The golden lists the fields that
// were accepted and never showed in the table: these alone are dropped in silence.
func TestWhatChangesNothing(t *testing.T) {
	shown := make(map[string]bool)
	for _, e := range emitted(t) {
		id, m := e.id, e.message
		base := textOf(t, id, m)
		if base == "" {
			t.Fatalf("%s is not accepted", id)
		}
		tries := uint64(1000)
		if id.Type == view.LDS {
			tries = 5000 // most of its fields lie deep
		}
		for seed := range tries {
			changed := proto.Clone(m)
			f := filler{rand.New(rand.NewPCG(seed, 2))}
			field := f.poke(changed.ProtoReflect())
			if field == "" || proto.Equal(changed, m) {
				continue
			}
			if got := textOf(t, id, changed); got != "" {
				shown[field] = shown[field] || got != base
			}
		}
	}
	var b strings.Builder
	for _, field := range slices.Sorted(maps.Keys(shown)) {
		if !shown[field] {
			b.WriteString(field + "\n")
		}
	}
	const golden = "testdata/harmless.list"
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), b.String()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if n := len(shown); n < 120 {
		t.Errorf("only %d fields were accepted at all", n)
	}
}

type emission struct {
	id      view.ID
	message proto.Message
}

// emitted is one of each resource that our compiler emits, with as many fields as it can have.
func emitted(t *testing.T) []emission {
	t.Helper()
	var all []emission
	add := func(typ view.Type, name, text string) {
		m := message(typ)
		if err := protojson.Unmarshal([]byte(text), m); err != nil {
			t.Fatal(err)
		}
		all = append(all, emission{view.ID{Type: typ, Name: name}, m})
	}
	for _, name := range []string{"retry-full", "outlier-full", "timeout-stream", "dns"} {
		archive, err := txtar.ParseFile("../envoy/testdata/" + name + ".txtar")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range archive.Files {
			switch file.Name {
			case "cluster.json":
				add(view.CDS, nameOf(t, file.Data, "name"), string(file.Data))
			case "route.json":
				if name != "outlier-full" && name != "dns" {
					add(view.RDS, nameOf(t, file.Data, "name"), string(file.Data))
				}
			}
		}
	}
	add(view.EDS, "x", `{"cluster_name": "x", "endpoints": [{"locality": {"zone": "z"}, "lb_endpoints": [
		{"endpoint": {"address": {"socket_address": {"address": "10.0.0.1", "port_value": 1}}}, "health_status": "HEALTHY", "load_balancing_weight": 2}]}]}`)
	add(view.CDS, "y", `{"name": "y", "type": "STRICT_DNS", "load_assignment": {"cluster_name": "y", "endpoints": [{"lb_endpoints": [
		{"endpoint": {"address": {"socket_address": {"address": "y.example.com", "port_value": 1}}}}]}]}}`)
	add(view.SRDS, "x", `{"name": "x", "route_configuration_name": "r", "key": {"fragments": [{"string_key": "k"}]}}`)
	listener, err := envoy.Listener(envoy.Target{Profile: envoy.Agent}, "127.0.0.1:15001")
	if err != nil {
		t.Fatal(err)
	}
	res := ofCompiler(t, listener)
	m := new(listenerv3.Listener)
	if err := proto.Unmarshal(res.Body, m); err != nil {
		t.Fatal(err)
	}
	return append(all, emission{res.ID, m})
}

// textOf is the table of one resource, "" where it is refused. Beside a scope are the routes that it may lead to.
func textOf(t *testing.T, id view.ID, m proto.Message) string {
	t.Helper()
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return ""
	}
	res, _ := dataplane.Decode(id, "1", body)
	if res == nil {
		return ""
	}
	list := []*dataplane.Resource{res}
	switch id.Type {
	case view.SRDS:
		list = append(list, fromJSON(t, view.ID{Type: view.RDS, Name: "r"}, []byte(`{"name": "r"}`), new(routev3.RouteConfiguration)))
	case view.EDS:
		list = append(list, mustResource(t, view.CDS, clusterWith("")))
	}
	in := holds(list...)
	table, _ := dataplane.Compile(in, nil)
	if table != nil && len(table.Lookups) > 0 { // so that its hosts show
		for _, l := range table.Lookups {
			in.DNS = in.DNS.With(l.Name, []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")})
		}
		table, _ = dataplane.Compile(in, nil)
	}
	if table == nil {
		return ""
	}
	return text(table)
}

// poke sets one field somewhere in m, also inside what is packed, and returns its name.
func (f filler) poke(m protoreflect.Message) string {
	if a, ok := m.Interface().(*anypb.Any); ok {
		inner, err := a.UnmarshalNew()
		if err != nil {
			return ""
		}
		field := f.poke(inner.ProtoReflect())
		_ = anypb.MarshalFrom(a, inner, proto.MarshalOptions{Deterministic: true})
		return field
	}
	var inner []protoreflect.Message
	for i := range m.Descriptor().Fields().Len() { // in an order that stays
		d := m.Descriptor().Fields().Get(i)
		if !m.Has(d) {
			continue
		}
		switch v := m.Get(d); {
		case d.Message() == nil:
		case d.IsMap():
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
				inner = append(inner, v.Message())
				return true
			})
		case d.IsList():
			for i := range v.List().Len() {
				inner = append(inner, v.List().Get(i).Message())
			}
		case !strings.HasPrefix(string(d.Message().FullName()), "google.protobuf.") || d.Message().Name() == "Any":
			inner = append(inner, v.Message())
		}
	}
	if len(inner) > 0 && f.IntN(4) > 0 {
		return f.poke(inner[f.IntN(len(inner))])
	}
	fields := m.Descriptor().Fields()
	if fields.Len() == 0 {
		return ""
	}
	d := fields.Get(f.IntN(fields.Len()))
	switch {
	case d.IsMap():
		f.mapEntry(m, d, 3)
	case d.IsList() && d.Message() != nil:
		f.fill(m.Mutable(d).List().AppendMutable().Message(), 1)
	case d.IsList():
		m.Mutable(d).List().Append(f.scalar(d))
	case d.Message() != nil:
		f.fill(m.Mutable(d).Message(), 1)
	default:
		m.Set(d, f.scalar(d))
	}
	return string(d.FullName())
}

func FuzzDecode(f *testing.F) {
	for seed := range uint64(view.NumTypes) {
		f.Add(seed, []byte(nil))
	}
	f.Fuzz(func(t *testing.T, seed uint64, body []byte) {
		tryOne(t, seed)
		try(t, view.ID{Type: view.Type(seed % uint64(view.NumTypes)), Name: "x"}, body)
	})
}
