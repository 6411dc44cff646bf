package resilience

import "testing"

func TestPredicates(t *testing.T) {
	get := func(name string) []string { return map[string][]string{":status": {"503"}, "x-kind": {"soft"}}[name] }
	status := &Predicate{Headers: []HeaderMatch{{Name: ":status", Kind: Exact, Value: "503"}}}
	soft := &Predicate{Headers: []HeaderMatch{{Name: "x-kind", Kind: Exact, Value: "soft"}}}
	hard := &Predicate{Headers: []HeaderMatch{{Name: "x-kind", Kind: Exact, Value: "hard"}}}
	both := &Predicate{Headers: append(append([]HeaderMatch{}, status.Headers...), hard.Headers...)}
	for name, tt := range map[string]struct {
		p    *Predicate
		want bool
	}{
		"any": {&Predicate{Any: true}, true}, "headers": {status, true}, "one header of two": {both, false},
		"not": {&Predicate{Not: status}, false}, "not other": {&Predicate{Not: hard}, true},
		"and": {&Predicate{And: []*Predicate{status, soft}}, true}, "and one": {&Predicate{And: []*Predicate{status, hard}}, false},
		"or": {&Predicate{Or: []*Predicate{hard, soft}}, true}, "or none": {&Predicate{Or: []*Predicate{hard, hard}}, false},
	} {
		if got := tt.p.Matches(get); got != tt.want {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
	for _, tt := range []struct {
		status  Outcome
		isError bool
		want    Outcome
	}{{503, true, 503}, {429, true, 500}, {200, true, 500}, {503, false, 200}, {200, false, 200}} {
		if got := MatchedOutcome(tt.status, tt.isError); got != tt.want {
			t.Errorf("MatchedOutcome(%d, %v) = %d, want %d", tt.status, tt.isError, got, tt.want)
		}
	}
}
