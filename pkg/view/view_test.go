package view

import (
	"maps"
	"strconv"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"
)

func TestTypeURLsRoundTrip(t *testing.T) {
	for typ := range NumTypes {
		got, ok := FromURL(typ.URL())
		if !ok || got != typ {
			t.Errorf("FromURL(%q) = %v, %v, want %v", typ.URL(), got, ok, typ)
		}
	}
	if got, ok := FromURL("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"); ok {
		t.Errorf("FromURL(Secret) = %v, want none", got)
	}
	if got := NumTypes.URL(); got != "" {
		t.Errorf("NumTypes.URL() = %q, want none", got)
	}
	if got := (ID{SRDS, "payments.shop"}).String(); got != "SRDS payments.shop" {
		t.Errorf("ID.String() = %q", got)
	}
}

// The bytes of a Resource must be what the generated code reads, in both dialects.
func TestResourceWireIsReadByTheGeneratedCode(t *testing.T) {
	want := &clusterv3.Cluster{Name: "shop/payments", AltStatName: "x"}
	message, err := proto.MarshalOptions{Deterministic: true}.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	r := New(CDS, "shop/payments", message, nil)

	var delta discoveryv3.DeltaDiscoveryResponse
	if err := proto.Unmarshal(r.Wire, &delta); err != nil || len(delta.Resources) != 1 {
		t.Fatalf("delta: %v, %d resources, want 1", err, len(delta.Resources))
	}
	got := delta.Resources[0]
	if got.Name != "shop/payments" || got.Version != r.Version || got.Resource.TypeUrl != CDS.URL() {
		t.Errorf("delta: %v", got)
	}
	var sotw discoveryv3.DiscoveryResponse
	if err := proto.Unmarshal(r.Sotw, &sotw); err != nil || len(sotw.Resources) != 1 {
		t.Fatalf("sotw: %v, %d resources, want 1", err, len(sotw.Resources))
	}
	if !proto.Equal(sotw.Resources[0], got.Resource) {
		t.Errorf("sotw carries %v, delta %v", sotw.Resources[0], got.Resource)
	}
	var inner clusterv3.Cluster
	if err := got.Resource.UnmarshalTo(&inner); err != nil || !proto.Equal(&inner, want) {
		t.Errorf("inner: %v, got %v want %v", err, &inner, want)
	}
	if body, _ := (proto.MarshalOptions{Deterministic: true}).Marshal(got.Resource); string(body) != string(r.Any()) {
		t.Errorf("Any() = %x, want %x", r.Any(), body)
	}
}

func TestVersionIsOfTheContentAlone(t *testing.T) {
	a, b := New(CDS, "a", []byte("x"), nil), New(CDS, "b", []byte("x"), []ID{{EDS, "b"}})
	if a.Version != b.Version || len(a.Version) != 16 {
		t.Errorf("versions %q and %q, want equal and 16 digits", a.Version, b.Version)
	}
	if c := New(CDS, "a", []byte("y"), nil); c.Version == a.Version {
		t.Errorf("another content has the same version %q", c.Version)
	}
	if c := New(EDS, "a", []byte("x"), nil); c.Version == a.Version {
		t.Errorf("another type has the same version %q", c.Version)
	}
}

func TestAnEditSharesTheOtherBuckets(t *testing.T) {
	var v *View
	for i := range 1000 {
		v = v.With([]Change{Put(New(CDS, strconv.Itoa(i), nil, nil))})
	}
	w := v.With([]Change{Put(New(CDS, "7", []byte("x"), nil))})
	copied := 0
	for h := range numBuckets {
		if v.b[h] != w.b[h] {
			copied++
		}
	}
	if copied != 1 {
		t.Errorf("an edit of one name copied %d buckets, want 1", copied)
	}
	back := w.With([]Change{{Name: "7"}, Put(New(CDS, "7", nil, nil)), Put(New(CDS, "8", nil, nil))})
	if got := back.Get("8"); got != v.Get("8") {
		t.Errorf("an unchanged resource got another pointer")
	}
	if x := w.With([]Change{{Name: "7"}, Put(w.Get("7"))}); x.b[hash("7")] != w.b[hash("7")] {
		t.Errorf("changes that cancel each other out copied the bucket")
	}
}

// A view that becomes another in steps shares with it what has become the same, and a Diff that may end does.
func TestAViewTowardAnotherEndsAsThatOne(t *testing.T) {
	var all []*Resource
	for i := range 500 {
		all = append(all, New(CDS, strconv.Itoa(i), []byte("now"), nil))
	}
	head := Of(all...)
	v := Of(New(CDS, "7", []byte("before"), nil), New(CDS, "gone", nil, nil))
	for steps := 0; v != head && steps < 20; steps++ {
		var changes []Change
		Until(v, head, func(old, now *Resource) bool {
			if now == nil {
				changes = append(changes, Change{Name: old.Name})
			} else {
				changes = append(changes, Put(now))
			}
			return len(changes) < 50
		})
		if len(changes) == 0 {
			break
		}
		if len(changes) > 50 {
			t.Fatalf("Until went on: %d changes", len(changes))
		}
		v = v.Toward(head, changes)
	}
	if v != head {
		t.Errorf("a view of %d resources, want the very one of %d", v.Len(), head.Len())
	}
}

func TestGoneIsWhatTheOtherHasNot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		changes := rapid.SliceOfN(rapid.Custom(drawChange), 0, 60)
		a := (*View)(nil).With(changes.Draw(t, "a"))
		b := a.With(changes.Draw(t, "b"))
		want, got := map[string]bool{}, map[string]bool{}
		Diff(a, b, func(old, now *Resource) {
			if now == nil {
				want[old.Name] = true
			}
		})
		Gone(a, b, func(old *Resource) { got[old.Name] = true })
		if !maps.Equal(want, got) {
			t.Fatalf("Gone yields %v, want %v", got, want)
		}
	})
}

func TestWithIsTheSameViewWhenNothingDiffers(t *testing.T) {
	v := Of(New(CDS, "a", []byte("1"), nil), New(CDS, "b", nil, nil))
	if got := v.With([]Change{Put(New(CDS, "a", []byte("1"), nil)), {Name: "gone"}}); got != v {
		t.Errorf("With(nothing new) made another view")
	}
	if got := v.With([]Change{{Name: "a"}, {Name: "b"}}); got != nil {
		t.Errorf("an emptied view is %v, want nil", got)
	}
	if got := (*View)(nil).With(nil); got != nil {
		t.Errorf("nil.With(nil) = %v, want nil", got)
	}
}

// twin is View as anyone would write it.
type twin map[string]string

func (m twin) diff(o twin) map[string][2]string {
	d := map[string][2]string{}
	for n, v := range m {
		if o[n] != v {
			d[n] = [2]string{v, o[n]}
		}
	}
	for n, v := range o {
		if m[n] == "" {
			d[n] = [2]string{"", v}
		}
	}
	return d
}

// Views made by any edits hold, list and differ as plain maps do, and old views stay as they were.
func TestViewIsAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		views, twins := []*View{nil}, []twin{{}}
		for range rapid.IntRange(1, 12).Draw(t, "edits") {
			from := rapid.IntRange(0, len(views)-1).Draw(t, "from")
			changes := rapid.SliceOfN(rapid.Custom(drawChange), 0, 40).Draw(t, "changes")
			m := twin{}
			for n, v := range twins[from] {
				m[n] = v
			}
			for _, c := range changes {
				delete(m, c.Name)
				if c.Now != nil {
					m[c.Name] = c.Now.Version
				}
			}
			v := views[from].With(changes)
			if len(m.diff(twins[from])) == 0 && v != views[from] {
				t.Fatalf("nothing differs, but With made another view")
			}
			views, twins = append(views, v), append(twins, m)
		}
		for i, v := range views {
			checkSame(t, v, twins[i])
		}
		a := rapid.IntRange(0, len(views)-1).Draw(t, "a")
		b := rapid.IntRange(0, len(views)-1).Draw(t, "b")
		checkDiff(t, views[a], views[b], twins[a].diff(twins[b]))
	})
}

func drawChange(t *rapid.T) Change {
	name := strconv.Itoa(rapid.IntRange(0, 150).Draw(t, "name"))
	if rapid.IntRange(0, 3).Draw(t, "remove") == 0 {
		return Change{Name: name}
	}
	return Put(New(CDS, name, []byte{byte(rapid.IntRange(0, 2).Draw(t, "content"))}, nil))
}

func checkSame(t *rapid.T, v *View, m twin) {
	if v.Len() != len(m) {
		t.Fatalf("Len() = %d, want %d", v.Len(), len(m))
	}
	for n := range 151 {
		name, got := strconv.Itoa(n), ""
		if r := v.Get(name); r != nil {
			got = r.Version
		}
		if got != m[name] {
			t.Fatalf("Get(%s) = %q, want %q", name, got, m[name])
		}
	}
	last, n := "", 0
	for r := range v.All() {
		if r.Name <= last {
			t.Fatalf("All() yields %q after %q", r.Name, last)
		}
		last = r.Name
		n++
	}
	if n != len(m) {
		t.Fatalf("All() yields %d, want %d", n, len(m))
	}
}

func checkDiff(t *rapid.T, a, b *View, want map[string][2]string) {
	seen := map[string]bool{}
	Diff(a, b, func(old, now *Resource) {
		var got [2]string
		name := ""
		if old != nil {
			got[0], name = old.Version, old.Name
		}
		if now != nil {
			got[1], name = now.Version, now.Name
		}
		if seen[name] || want[name] != got {
			t.Fatalf("Diff yields %s %q, want %q once", name, got, want[name])
		}
		seen[name] = true
	})
	if len(seen) != len(want) {
		t.Fatalf("Diff yields %d names, want %d", len(seen), len(want))
	}
}

func BenchmarkDiffOfOneChange(b *testing.B) {
	var all []*Resource
	for i := range 1000 {
		all = append(all, New(CDS, strconv.Itoa(i), nil, nil))
	}
	v := Of(all...)
	w := v.With([]Change{Put(New(CDS, "7", []byte("x"), nil))})
	for b.Loop() {
		Diff(v, w, func(_, _ *Resource) {})
	}
}
