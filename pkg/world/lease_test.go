package world

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/internal/testkit/race"
	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// fleet is a world that is changed endpoint by endpoint.
type fleet struct {
	*World
	t *testing.T
}

// newFleet has services, by name, with that many leased endpoints, all heard.
func newFleet(t *testing.T, sizes map[string]int) *fleet {
	var services []*catalog.Service
	for name := range sizes {
		services = append(services, service(key("shop", name)))
	}
	w, _ := newWorld(services...)
	f := &fleet{w, t}
	for name, n := range sizes {
		for i := range n {
			f.register(name, i)
		}
	}
	return f
}

func leasedKey(name string, i int) EndpointKey {
	return EndpointKey{key("shop", name), fmt.Sprintf("e%02d", i)}
}

func leasedEndpoint(k EndpointKey, i int) *catalog.Endpoint {
	return &catalog.Endpoint{Service: k.Service, ID: k.ID, Lease: time.Minute, Spec: catalog.EndpointSpec{Address: fmt.Sprintf("10.0.0.%d", i+1), Port: ptr(uint32(80))}}
}

func (f *fleet) register(name string, i int) {
	k := leasedKey(name, i)
	f.World = f.With(f.Rev+1, Changes{
		Endpoints: map[EndpointKey]*catalog.Endpoint{k: leasedEndpoint(k, i)},
		Lives:     map[EndpointKey]*Life{k: {Lease: int64(i + 1)}},
	})
}

func (f *fleet) remove(name string, i int) {
	k := leasedKey(name, i)
	f.World = f.With(f.Rev+1, Changes{Endpoints: map[EndpointKey]*catalog.Endpoint{k: nil}, Lives: map[EndpointKey]*Life{k: nil}})
}

func (f *fleet) live(name string, i int, life *Life) {
	f.World = f.With(f.Rev, Changes{Lives: map[EndpointKey]*Life{leasedKey(name, i): life}})
}

// silence marks endpoints as of one moment.
func (f *fleet) silence(name string, at time.Time, ids ...int) {
	for _, i := range ids {
		mark := f.MarkOf(leasedKey(name, i), at)
		f.live(name, i, &Life{Mark: &mark})
	}
}

// standing is what every endpoint of a service is, one letter each: live, unheard, protected, stale.
func (f *fleet) standing(name string) string {
	var b strings.Builder
	for _, e := range f.Endpoints(key("shop", name)) {
		absence, _ := f.Absence(e)
		b.WriteByte(absence[0])
	}
	return b.String()
}

func (f *fleet) want(name, standing string) {
	f.t.Helper()
	if got := f.standing(name); got != standing {
		f.t.Errorf("%s: %s, want %s", name, got, standing)
	}
	if got, want := len(f.Serving(key("shop", name))), len(standing)-strings.Count(standing, "s"); got != want {
		f.t.Errorf("%s: %d endpoints are served, want %d", name, got, want)
	}
}

// wantUnheard compares those that are told to be unheard with all that are.
func (f *fleet) wantUnheard() {
	f.t.Helper()
	told := map[EndpointKey]bool{}
	for e := range f.Unheard {
		told[EndpointKey{e.Service, e.ID}] = true
	}
	for e := range f.Leased {
		absence, _ := f.Absence(e)
		if key := (EndpointKey{e.Service, e.ID}); told[key] != (absence == Unheard) {
			f.t.Errorf("%v is %s, told to be unheard: %v", key, absence, told[key])
		}
		delete(told, EndpointKey{e.Service, e.ID})
	}
	if len(told) > 0 {
		f.t.Errorf("unheard, though they do not exist: %v", told)
	}
}

func TestASilentEndpointStaysUntilItIsMarked(t *testing.T) {
	f := newFleet(t, map[string]int{"payments": 4, "orders": 4})
	f.want("payments", "llll")
	f.live("payments", 1, nil) // its lease ran out
	f.want("payments", "lull")
	f.silence("payments", noon, 1)
	f.want("payments", "lsll")
	if e, _ := f.Endpoint(leasedKey("payments", 1)); e.ID == "" {
		t.Fatal("the endpoint is gone, want it stale")
	} else if _, since := f.Absence(e); !since.Equal(noon) {
		t.Errorf("stale since %v, want %v", since, noon)
	}
	f.live("payments", 1, &Life{Lease: 77})
	f.want("payments", "llll")
}

func TestByHandIsNeverStale(t *testing.T) {
	f := newFleet(t, map[string]int{"payments": 4})
	k := leasedKey("payments", 9)
	e := leasedEndpoint(k, 9)
	e.Lease = 0
	f.World = f.With(f.Rev+1, Changes{Endpoints: map[EndpointKey]*catalog.Endpoint{k: e}})
	f.silence("payments", noon, 9)
	f.want("payments", "lllll")
}

func TestTooManyAtOnceStay(t *testing.T) {
	ids := func(n int) (list []int) {
		for i := range n {
			list = append(list, i)
		}
		return list
	}
	for _, test := range []struct {
		of, silent int
		leave      bool
	}{
		{1, 1, false}, {2, 1, true}, {2, 2, false}, {3, 1, true}, {3, 2, false}, {6, 1, true}, {6, 2, false}, {7, 2, true},
		{10, 3, true}, {10, 4, false}, {10, 10, false}, {20, 6, true}, {20, 7, false},
	} {
		f := newFleet(t, map[string]int{"payments": test.of, "many": 80})
		f.silence("payments", noon, ids(test.silent)...)
		letter := map[bool]string{true: "s", false: "p"}[test.leave]
		f.want("payments", strings.Repeat(letter, test.silent)+strings.Repeat("l", test.of-test.silent))
	}
}

func TestWhatFollowsTooSoonHoldsTheEarlierBack(t *testing.T) {
	f := newFleet(t, map[string]int{"payments": 10, "many": 80})
	for i := range 3 {
		f.silence("payments", noon.Add(time.Duration(i)*5*time.Second), i)
	}
	f.want("payments", "sssl"+"llllll")
	f.silence("payments", noon.Add(20*time.Second), 3)
	f.want("payments", "pppp"+"llllll")
	f.live("payments", 0, &Life{Lease: 5})
	f.want("payments", "lsss"+"llllll")
}

func TestWhatLeftLongBeforeStaysAway(t *testing.T) {
	f := newFleet(t, map[string]int{"payments": 10, "many": 80})
	f.silence("payments", noon, 0, 1)
	f.silence("payments", noon.Add(time.Hour), 2, 3)
	f.want("payments", "sspp"+"llllll")
	// Those that left do not come back because others were taken away in order.
	for i := 4; i < 9; i++ {
		f.remove("payments", i)
	}
	f.want("payments", "sspp"+"l")
	f.remove("payments", 2)
	f.remove("payments", 3)
	f.remove("payments", 9)
	f.want("payments", "pp") // nobody else is left
}

func TestTooManyOfAllServicesStay(t *testing.T) {
	f := newFleet(t, map[string]int{"a": 4, "b": 4, "c": 4, "d": 4})
	for _, name := range []string{"a", "b", "c", "d"} {
		f.silence(name, noon, 0)
		f.want(name, "slll")
	}
	f = newFleet(t, map[string]int{"a": 3, "b": 3, "c": 3, "d": 3})
	for _, name := range []string{"a", "b", "c", "d"} {
		f.silence(name, noon, 0) // 4 of 12
	}
	f.want("a", "pll")
	f.want("d", "pll")
	f.live("b", 0, &Life{Lease: 9})
	f.want("a", "sll")
}

func TestStaticEndpointsCount(t *testing.T) {
	f := newFleet(t, map[string]int{"payments": 2, "many": 80})
	f.World = f.With(f.Rev+1, Changes{Services: map[manifest.Key]*catalog.Service{key("shop", "payments"): service(key("shop", "payments"), func(s *catalog.Service) {
		for i := range 5 {
			s.Spec.Endpoints = append(s.Spec.Endpoints, catalog.EndpointSpec{Address: fmt.Sprintf("10.1.0.%d", i+1), Port: ptr(uint32(80))})
		}
	})}})
	f.silence("payments", noon, 0, 1) // 2 of 7
	f.want("payments", "ss")
}

// TestNoServiceIsEmptiedBySilence marks, renews, registers and removes at random: never is more than the share of a service gone, of
// those there were, and never all of it.
func TestNoServiceIsEmptiedBySilence(t *testing.T) {
	for seed := range uint64(race.Rounds(40)) {
		rng := rand.New(rand.NewPCG(seed, 3))
		names := []string{"a", "b", "c"}
		f := newFleet(t, map[string]int{"a": 1 + rng.IntN(20), "b": 1 + rng.IntN(20), "c": 1 + rng.IntN(3)})
		largest := map[string]int{}
		now := noon
		for step := range 300 {
			name, i := names[rng.IntN(len(names))], rng.IntN(20)
			_, exists := f.Endpoint(leasedKey(name, i))
			switch act := rng.IntN(8); {
			case !exists && act < 3:
				f.register(name, i)
			case !exists:
			case act < 4:
				f.silence(name, now, i)
			case act < 5:
				f.live(name, i, &Life{Lease: int64(i + 1)})
			case act < 6:
				f.live(name, i, nil)
			case act < 7 && step%5 == 0:
				f.remove(name, i)
			}
			now = now.Add(time.Duration(rng.IntN(90)) * time.Second)
			f.wantUnheard()
			for _, name := range names {
				standing := f.standing(name)
				largest[name] = max(largest[name], len(standing))
				gone := strings.Count(standing, "s")
				if gone > mayLeave(largest[name]) || gone > 0 && gone == len(standing) {
					t.Fatalf("seed %d, step %d: %s is %s, of at most %d", seed, step, name, standing, largest[name])
				}
			}
		}
	}
}

func TestSilenceChangesTheAssignmentAlone(t *testing.T) {
	f := newFleet(t, map[string]int{"orders": 4, "payments": 4})
	b := NewBuilder()
	b.Update(f.World, all(f.World))
	class := b.Join(orders())
	step := func(i int, life *Life) []string {
		before := class.Head()
		c := Changes{Lives: map[EndpointKey]*Life{leasedKey("payments", i): life}}
		b.Update(b.World().With(b.World().Rev, c), c)
		var changed []string
		for typ := range view.NumTypes {
			view.Diff(before.Views[typ], class.Head().Views[typ], func(_, now *view.Resource) { changed = append(changed, fmt.Sprintf("%v %s", typ, now.Name)) })
		}
		return changed
	}
	want := []string{"EDS shop/payments"}
	for _, test := range []struct {
		what string
		life *Life
		want []string
	}{
		{"a lease that ran out", nil, nil},
		{"a mark", &Life{Mark: &Mark{Since: noon, Of: 4, Fleet: 8}}, want},
		{"the mark again", &Life{Mark: &Mark{Since: noon, Of: 4, Fleet: 8}}, nil},
		{"the agent's return", &Life{Lease: 9}, want},
		{"another lease", &Life{Lease: 10}, nil},
	} {
		if got := step(2, test.life); !slices.Equal(got, test.want) {
			t.Errorf("%s changed %q, want %q", test.what, got, test.want)
		}
	}
	if b.World().Rev != f.Rev {
		t.Errorf("signs of life moved the world from revision %d to %d", f.Rev, b.World().Rev)
	}
}

func TestMarksAndLeasesAreStoredAndRead(t *testing.T) {
	mark := Mark{Since: noon, Of: 7, Fleet: 40, Revision: 12}
	value, err := EncodeMark(mark)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := DecodeMark(value, 12); err != nil || *got != mark {
		t.Errorf("%s is read as %+v, %v; want %+v", value, got, err, mark)
	}
	for _, bad := range []string{"", "{", "{}", `{"schema":1}`, `{"schema":1,"since":"soon"}`} {
		if m, err := DecodeMark([]byte(bad), 1); err == nil {
			t.Errorf("%q is read as %+v, want an error", bad, m)
		}
	}
	k := leasedKey("payments", 1)
	e := leasedEndpoint(k, 1)
	if value, err = EncodeEndpoint(e); err != nil {
		t.Fatal(err)
	}
	if got, err := DecodeEndpoint(k, value); err != nil || got.Lease != time.Minute {
		t.Errorf("%s is read as %+v, %v; want a lease of a minute", value, got, err)
	}
	if got, err := DecodeEndpoint(k, []byte(`{"schema":1,"spec":{"address":"10.0.0.1"},"lease":"none"}`)); err == nil {
		t.Errorf("a lease of no end is read as %+v, want an error", got)
	}
}
