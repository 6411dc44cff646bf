package xds

import (
	"fmt"
	"slices"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/breakwater-mesh/breakwater/pkg/view"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

func manyNames(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("shop/s%04d", i))
	}
	return names
}

func readWith(t *testing.T, shared *rosters, form form, b []byte) *incoming {
	t.Helper()
	in := &incoming{fields: form.fields, rosters: shared}
	if err := in.read(b); err != nil {
		t.Fatal(err)
	}
	return in
}

func TestAListThatManyProxiesSendIsReadOnce(t *testing.T) {
	shared := &rosters{after: func(time.Duration, func()) {}}
	names := manyNames(100)
	for _, tt := range []struct {
		form form
		b    []byte
		of   func(*incoming) []string
	}{
		{deltaForm, encode(&discoveryv3.DeltaDiscoveryRequest{Node: ordersNode(), TypeUrl: view.EDS.URL(), ResourceNamesSubscribe: names, ResponseNonce: "1"}), func(in *incoming) []string { return in.subscribe }},
		{worldForm, encode(&discoveryv3.DiscoveryRequest{Node: ordersNode(), TypeUrl: view.EDS.URL(), ResourceNames: names, ResponseNonce: "1"}), func(in *incoming) []string { return in.wanted }},
	} {
		first, second := readWith(t, shared, tt.form, tt.b), readWith(t, shared, tt.form, tt.b)
		for _, in := range []*incoming{first, second} {
			if got := tt.of(in); !slices.Equal(got, names) || in.nonce != "1" || in.typ != view.EDS || in.node.GetId() != ordersNode().GetId() {
				t.Errorf("%s: got %+v", tt.form.name(), in.request)
			}
		}
		if first.list == nil || first.list != second.list || &tt.of(first)[0] != &tt.of(second)[0] {
			t.Errorf("%s: the same list was read twice", tt.form.name())
		}
		if len(shared.now) != 1 {
			t.Errorf("%d lists are kept, want the one", len(shared.now)) // both dialects have names in field 3
		}
		if got := tt.of(first); cap(got) != len(got) {
			t.Errorf("%s: what one stream appends the others get too", tt.form.name())
		}
	}
}

// Names that stand apart from the list belong to the request all the same, and not to the list.
func TestNamesApartFromAListAreOfItsRequestAlone(t *testing.T) {
	shared := &rosters{after: func(time.Duration, func()) {}}
	url := encode(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: view.EDS.URL()})
	list := encode(&discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: manyNames(100)})
	more := repeat(3, "shop/more", 1)
	b := slices.Concat(list, url, more)
	for range 2 {
		in := readWith(t, shared, deltaForm, b)
		if want := append(manyNames(100), "shop/more"); !slices.Equal(in.subscribe, want) || in.list != nil {
			t.Errorf("got %d names, list %v, want %d and no list that stands for them", len(in.subscribe), in.list, len(want))
		}
	}
	if in := readWith(t, shared, deltaForm, slices.Concat(url, list)); len(in.subscribe) != 100 || in.list == nil {
		t.Errorf("the list has %d names afterwards, want 100", len(in.subscribe))
	}
}

func TestAListWithABadNameIsNotKept(t *testing.T) {
	shared := &rosters{after: func(time.Duration, func()) {}}
	b := slices.Concat(repeat(3, "shop/good", 200), repeat(3, "\xff", 1))
	for range 2 {
		in := &incoming{fields: deltaFields, rosters: shared}
		if err := in.read(b); status.Code(err) != codes.InvalidArgument || len(shared.now) != 0 {
			t.Errorf("%v, %d lists kept, want InvalidArgument and none", err, len(shared.now))
		}
	}
}

func TestListsThatAreOfNoUseAreForgotten(t *testing.T) {
	var turn func()
	shared := &rosters{after: func(_ time.Duration, f func()) { turn = f }}
	raw := []byte("list")
	l := shared.add(raw, []string{"a"})
	for range 3 {
		turn()
		if shared.find(raw) != l {
			t.Fatal("a list was forgotten that is of use")
		}
	}
	turn()
	turn()
	if shared.find(raw) != nil {
		t.Error("a list is kept that was of no use")
	}
	for i := range 3 * mostRosters / longest {
		shared.add(slices.Concat(make([]byte, longest-8), fmt.Appendf(nil, "%08d", i)), nil)
		if shared.bytes > mostRosters {
			t.Fatalf("%d bytes of lists are kept, want at most %d", shared.bytes, mostRosters)
		}
	}
}

// A proxy in the state of the world says all its names with every answer: the same list again is no change, another one is.
func TestTheSameListAgainChangesNothing(t *testing.T) {
	head, names := fleetHead(100)
	shared := &rosters{after: func(time.Duration, func()) {}}
	s := newState(testLimits, false, time.Unix(1000, 0))
	s.world = true
	ask := func(names []string, nonce string) {
		t.Helper()
		b := encode(&discoveryv3.DiscoveryRequest{TypeUrl: view.EDS.URL(), ResourceNames: names, ResponseNonce: nonce})
		must(t, s.request(readWith(t, shared, worldForm, b).request, head, time.Unix(1000, 0)))
	}
	sub := &s.subs[view.EDS]
	hear := func() (n int) {
		for r := s.next(head, time.Unix(1000, 0)); r != nil; r = s.next(head, time.Unix(1000, 0)) {
			n += len(r.set)
			ask(names, r.nonce)
		}
		return n
	}
	ask(names, "")
	if n := hear(); n != 100 || sub.said == nil {
		t.Fatalf("%d assignments were said, want 100", n)
	}
	names = names[:99]
	ask(names, "")
	if sub.names.Len() != 99 || sub.has("shop/s0099") {
		t.Errorf("%d names, want the 99 that are wanted now", sub.names.Len())
	}
	names = append(slices.Clone(names), "shop/s0099")
	ask(names, "")
	if n := hear(); sub.names.Len() != 100 || n != 1 {
		t.Errorf("%d names, %d assignments said, want 100 and the new one", sub.names.Len(), n)
	}
}

// What a list was found to be of one head it need not be of another.
func TestAListIsComparedWithEachHead(t *testing.T) {
	before, names := fleetHead(100)
	after, _ := fleetHead(101)
	shared := &rosters{after: func(time.Duration, func()) {}}
	for _, head := range []*world.Head{before, after, before} {
		s := newState(testLimits, false, time.Unix(1000, 0))
		b := encode(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: view.EDS.URL(), ResourceNamesSubscribe: names})
		must(t, s.request(readWith(t, shared, deltaForm, b).request, head, time.Unix(1000, 0)))
		if sub := &s.subs[view.EDS]; sub.names.Len() != 100 || sub.has("shop/s0100") {
			t.Errorf("%d names are subscribed to, want the 100 that were asked for", sub.names.Len())
		}
	}
}

// Each name of a list counts once, and the one that stands for everything as what it is.
func TestAFirstListIsTakenAsItIs(t *testing.T) {
	head, names := fleetHead(100)
	for _, tt := range []struct {
		more  string
		names int
		wild  bool
	}{{"shop/s0000", 100, false}, {"*", 100, true}, {"shop/other", 101, false}} {
		s := newState(testLimits, false, time.Unix(1000, 0))
		s.world = true
		b := encode(&discoveryv3.DiscoveryRequest{TypeUrl: view.CDS.URL(), ResourceNames: append(slices.Clone(names), tt.more)})
		must(t, s.request(readWith(t, &rosters{after: func(time.Duration, func()) {}}, worldForm, b).request, head, time.Unix(1000, 0)))
		if sub := &s.subs[view.CDS]; sub.names.Len() != tt.names || sub.wild != tt.wild {
			t.Errorf("with %s: %d names, all %v, want %d and %v", tt.more, sub.names.Len(), sub.wild, tt.names, tt.wild)
		}
	}
}
