package world

import (
	"fmt"
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// stored is a world that was first read at revision 10, with one service s.
func stored() *World {
	s := service(key("shop", "s"))
	return (&World{}).With(10, Changes{Services: map[manifest.Key]*catalog.Service{s.Key(): s}})
}

// wentSince are the removals after rev as text; "forgotten" where they are not remembered.
func wentSince(w *World, rev int64) string {
	list, ok := w.RemovedSince(rev)
	if !ok {
		return "forgotten"
	}
	text := ""
	for _, r := range list {
		text += fmt.Sprintf("%s %s at %d;", r.Kind, r.Key, r.Rev)
	}
	return text
}

func TestAWorldRemembersWhatWent(t *testing.T) {
	w := stored()
	none := Changes{Services: map[manifest.Key]*catalog.Service{key("shop", "s"): nil}}
	later := w.With(12, none)
	for _, tt := range []struct {
		name  string
		world *World
		rev   int64
		want  string
	}{
		{"before the first list", later, 9, "forgotten"},
		{"from the first list on", later, 10, "Service shop/s at 12;"},
		{"since then", later, 12, ""},
		{"the world before", w, 10, ""},
		{"what never was", later.With(13, none), 12, ""},
		{"endpoints alone", later.With(13, Changes{Endpoints: map[EndpointKey]*catalog.Endpoint{}}), 10, "Service shop/s at 12;"},
	} {
		if got := wentSince(tt.world, tt.rev); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	// Two worlds that follow on one, as a write that is checked and another that comes: neither writes into the other.
	one := later.With(14, Changes{Policies: map[manifest.Key]*policy.Compiled{key("shop", "p"): nil}})
	s := service(key("shop", "t"))
	back := later.With(14, Changes{Services: map[manifest.Key]*catalog.Service{s.Key(): s}})
	first, second := back.With(15, Changes{Services: map[manifest.Key]*catalog.Service{s.Key(): nil}}), back.With(16, Changes{Services: map[manifest.Key]*catalog.Service{s.Key(): nil}})
	if wentSince(one, 12) != "" || wentSince(first, 12) != "Service shop/t at 15;" || wentSince(second, 12) != "Service shop/t at 16;" {
		t.Errorf("%q, %q, %q", wentSince(one, 12), wentSince(first, 12), wentSince(second, 12))
	}
}

func TestAWorldForgetsTheOldestThatWent(t *testing.T) {
	w := stored()
	s := w.Services()[0]
	for rev := int64(11); rev < 11+2*(mostRemoved+5); rev += 2 {
		w = w.With(rev, Changes{Services: map[manifest.Key]*catalog.Service{s.Key(): nil}})
		w = w.With(rev+1, Changes{Services: map[manifest.Key]*catalog.Service{s.Key(): s}})
	}
	if got := wentSince(w, 18); got != "forgotten" {
		t.Errorf("since 18: %.40q, want it forgotten", got)
	}
	if list, ok := w.RemovedSince(19); !ok || len(list) != mostRemoved || list[0].Rev != 21 {
		t.Errorf("since 19: %d from %d, %v; want %d from 21", len(list), list[0].Rev, ok, mostRemoved)
	}
}

func TestAWorldOfAnotherHistoryKnowsNothingOfTheOldOne(t *testing.T) {
	old := stored().With(100, Changes{})
	w := old.With(50, Changes{}).Restarted(old.Rev)
	if w.Follows(old) || !w.Follows(w) || w.With(51, Changes{}).Follows(old) || !w.With(51, Changes{}).Follows(w) {
		t.Error("it follows the old one, or not itself")
	}
	for rev, want := range map[int64]bool{50: false, 100: false, 101: true, 120: true, 121: false} {
		if got := w.With(120, Changes{}).Recalls(rev); got != want {
			t.Errorf("at 120 it recalls %d: %v, want %v", rev, got, want)
		}
	}
	if got := wentSince(w.With(51, Changes{Services: map[manifest.Key]*catalog.Service{key("shop", "s"): nil}}), 50); got != "Service shop/s at 51;" {
		t.Errorf("who reads along is told %q", got)
	}
}
