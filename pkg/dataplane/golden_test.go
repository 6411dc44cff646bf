package dataplane_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/envoy"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

var update = flag.Bool("update", false, "write the goldens anew")

// ofCompiler is a resource of our compiler as the agent gets it.
func ofCompiler(t *testing.T, r *view.Resource) *dataplane.Resource {
	t.Helper()
	a := new(anypb.Any)
	if err := proto.Unmarshal(r.Any(), a); err != nil {
		t.Fatal(err)
	}
	return decode(t, r.ID(), r.Version, a.GetValue())
}

func decode(t *testing.T, id view.ID, version string, body []byte) *dataplane.Resource {
	t.Helper()
	res, faults := dataplane.Decode(id, version, body)
	for _, f := range faults {
		t.Errorf("fault: %v", f)
	}
	if res == nil {
		t.FailNow()
	}
	return res
}

func fromJSON(t *testing.T, id view.ID, text []byte, m proto.Message) *dataplane.Resource {
	t.Helper()
	if err := protojson.Unmarshal(text, m); err != nil {
		t.Fatal(err)
	}
	body, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, id, "1", body)
}

func holds(list ...*dataplane.Resource) dataplane.Resources {
	in := dataplane.Resources{Layers: envoy.LayerNames()}
	var changes []dataplane.Change
	for _, r := range list {
		changes = append(changes, dataplane.Change{ID: r.ID, Now: r})
	}
	return in.With(changes)
}

func compile(t *testing.T, in dataplane.Resources) *dataplane.Table {
	t.Helper()
	table, faults := dataplane.Compile(in, nil)
	for _, f := range faults {
		t.Errorf("fault: %v", f)
	}
	if table == nil {
		t.FailNow()
	}
	return table
}

// TestWhatTheCompilerEmits compiles every golden of our compiler, together with the listener, a scope and the limits, to a table.
func TestWhatTheCompilerEmits(t *testing.T) {
	files, err := filepath.Glob("../envoy/testdata/*.txtar")
	if err != nil || len(files) < 20 {
		t.Fatalf("goldens of the compiler: %d, %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txtar")
		t.Run(name, func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			table := compile(t, ofGolden(t, archive))
			if name != "transparent" {
				table.Listeners = nil // it is the same for all
			}
			got := text(table)
			path := filepath.Join("testdata", name+".txt")
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func ofGolden(t *testing.T, a *txtar.Archive) dataplane.Resources {
	t.Helper()
	var list []*dataplane.Resource
	var service string
	for _, f := range a.Files {
		switch f.Name {
		case "cluster.json":
			m := new(clusterv3.Cluster)
			list = append(list, fromJSON(t, view.ID{Type: view.CDS, Name: nameOf(t, f.Data, "name")}, f.Data, m))
			service = m.GetName()
		case "route.json":
			list = append(list, fromJSON(t, view.ID{Type: view.RDS, Name: nameOf(t, f.Data, "name")}, f.Data, new(routev3.RouteConfiguration)))
		case "listener.json":
			list = append(list, fromJSON(t, view.ID{Type: view.LDS, Name: nameOf(t, f.Data, "name")}, f.Data, new(listenerv3.Listener)))
		case "assignment.json":
			list = append(list, fromJSON(t, view.ID{Type: view.EDS, Name: nameOf(t, f.Data, "cluster_name")}, f.Data, new(endpointv3.ClusterLoadAssignment)))
		case "limits":
			list = append(list, layerOf(t, string(f.Data)))
		}
		switch {
		case strings.HasSuffix(f.Name, "-CDS.json"): // of a subset
			list = append(list, fromJSON(t, view.ID{Type: view.CDS, Name: nameOf(t, f.Data, "name")}, f.Data, new(clusterv3.Cluster)))
		case strings.HasSuffix(f.Name, "-LDS.json"): // of a fault
			list = append(list, fromJSON(t, view.ID{Type: view.LDS, Name: nameOf(t, f.Data, "name")}, f.Data, new(listenerv3.Listener)))
		case strings.HasSuffix(f.Name, "-RDS.json"):
			list = append(list, fromJSON(t, view.ID{Type: view.RDS, Name: nameOf(t, f.Data, "name")}, f.Data, new(routev3.RouteConfiguration)))
		case strings.HasSuffix(f.Name, "-EDS.json"):
			list = append(list, fromJSON(t, view.ID{Type: view.EDS, Name: nameOf(t, f.Data, "cluster_name")}, f.Data, new(endpointv3.ClusterLoadAssignment)))
		}
	}
	listener, err := envoy.Listener(envoy.Target{Profile: envoy.Agent}, "127.0.0.1:15001")
	if err != nil {
		t.Fatal(err)
	}
	ns, short, _ := strings.Cut(service, "/")
	scope := envoy.Scope(short+"."+ns, manifest.Key{Namespace: ns, Name: short})
	return holds(append(list, ofCompiler(t, listener), ofCompiler(t, scope))...)
}

func nameOf(t *testing.T, text []byte, field string) string {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	return m[field].(string)
}

// layerOf reads the limits section of a golden.
func layerOf(t *testing.T, text string) *dataplane.Resource {
	t.Helper()
	var keys []envoy.RuntimeKey
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " = ")
		var n uint32
		if err := json.Unmarshal([]byte(value), &n); err != nil {
			t.Fatal(err)
		}
		keys = append(keys, envoy.RuntimeKey{Key: key, Value: n})
	}
	r, err := envoy.Layer(3, keys)
	if err != nil {
		t.Fatal(err)
	}
	return ofCompiler(t, r)
}

// text is a table as an indented outline, without what is zero.
func text(table *dataplane.Table) string {
	var b strings.Builder
	outline(&b, "", reflect.ValueOf(table).Elem())
	return b.String()
}

func outline(b *strings.Builder, indent string, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		outline(b, indent, v.Elem())
	case reflect.Interface:
		b.WriteString(" " + v.Elem().Type().String())
		outline(b, indent, v.Elem())
	case reflect.Struct:
		if s, ok := v.Interface().(fmt.Stringer); ok {
			fmt.Fprintf(b, " %s\n", s)
			return
		}
		b.WriteByte('\n')
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() && !v.Field(i).IsZero() {
				b.WriteString(indent + f.Name + ":")
				outline(b, indent+"  ", v.Field(i))
			}
		}
	case reflect.Map:
		b.WriteByte('\n')
		keys := v.MapKeys()
		slices.SortFunc(keys, func(x, y reflect.Value) int { return strings.Compare(fmt.Sprint(x), fmt.Sprint(y)) })
		for _, k := range keys {
			fmt.Fprintf(b, "%s%q:", indent, fmt.Sprint(k))
			outline(b, indent+"  ", v.MapIndex(k))
		}
	case reflect.Slice, reflect.Array:
		b.WriteByte('\n')
		for i := range v.Len() {
			b.WriteString(indent + "-")
			outline(b, indent+"  ", v.Index(i))
		}
	case reflect.Func:
		b.WriteString(" func\n")
	default:
		if s, ok := v.Interface().(fmt.Stringer); ok {
			fmt.Fprintf(b, " %s\n", s)
			return
		}
		fmt.Fprintf(b, " %v\n", v.Interface())
	}
}
