package resilience

import (
	"regexp"
	"testing"
)

func headers(h map[string][]string) Headers { return func(name string) []string { return h[name] } }

func TestHeaderMatch(t *testing.T) {
	digits := regexp.MustCompile(`^(?:[0-9]+)$`).MatchString
	one, two, none, empty := []string{"Abc"}, []string{"Abc", "def"}, []string(nil), []string{""}
	for _, tt := range []struct {
		name   string
		match  HeaderMatch
		values []string
		want   bool
	}{
		{"exact", HeaderMatch{Value: "Abc"}, one, true},
		{"exact, other case", HeaderMatch{Value: "abc"}, one, false},
		{"exact, ignoring case", HeaderMatch{Value: "aBC", IgnoreCase: true}, one, true},
		{"exact, longer", HeaderMatch{Value: "Abcd"}, one, false},
		{"exact, shorter", HeaderMatch{Value: "Ab"}, one, false},
		{"exact, longer, ignoring case", HeaderMatch{Value: "ab", IgnoreCase: true}, one, false},
		{"exact, inverted", HeaderMatch{Value: "Abc", Invert: true}, one, false},
		{"exact, inverted, other", HeaderMatch{Value: "x", Invert: true}, one, true},
		{"exact, absent", HeaderMatch{Value: "Abc"}, none, false},
		{"exact, absent, inverted", HeaderMatch{Value: "Abc", Invert: true}, none, false},
		{"exact, absent as empty", HeaderMatch{Value: "", TreatMissingAsEmpty: true}, none, true},
		{"exact, absent as empty, inverted", HeaderMatch{Value: "Abc", TreatMissingAsEmpty: true, Invert: true}, none, true},
		{"exact, empty", HeaderMatch{Value: ""}, empty, true},
		{"case folds in ASCII only", HeaderMatch{Value: "\u212A", IgnoreCase: true}, []string{"kxx"}, false},
		{"brackets are no letters", HeaderMatch{Value: "[", IgnoreCase: true}, []string{"{"}, false},
		{"two values are joined", HeaderMatch{Value: "Abc,def"}, two, true},
		{"one of two is not enough", HeaderMatch{Value: "def"}, two, false},
		{"prefix of the first", HeaderMatch{Kind: Prefix, Value: "Ab"}, two, true},
		{"prefix", HeaderMatch{Kind: Prefix, Value: "bc"}, one, false},
		{"prefix, ignoring case", HeaderMatch{Kind: Prefix, Value: "AB", IgnoreCase: true}, one, true},
		{"suffix of the last", HeaderMatch{Kind: Suffix, Value: "ef"}, two, true},
		{"suffix", HeaderMatch{Kind: Suffix, Value: "Ab"}, one, false},
		{"suffix, longer", HeaderMatch{Kind: Suffix, Value: "xAbc"}, one, false},
		{"contains", HeaderMatch{Kind: Contains, Value: "c,d"}, two, true},
		{"contains at the end, ignoring case", HeaderMatch{Kind: Contains, Value: "C", IgnoreCase: true}, one, true},
		{"contains not", HeaderMatch{Kind: Contains, Value: "x"}, one, false},
		{"contains, inverted", HeaderMatch{Kind: Contains, Value: "x", Invert: true}, one, true},
		{"regex", HeaderMatch{Kind: Regex, Match: digits}, []string{"12"}, true},
		{"regex not", HeaderMatch{Kind: Regex, Match: digits}, []string{"12a"}, false},
		{"regex on joined values", HeaderMatch{Kind: Regex, Match: digits}, []string{"12", "13"}, false},
		{"regex, absent, inverted", HeaderMatch{Kind: Regex, Match: digits, Invert: true}, none, false},
		{"present", HeaderMatch{Kind: Present}, empty, true},
		{"present, absent", HeaderMatch{Kind: Present}, none, false},
		{"present, inverted, absent", HeaderMatch{Kind: Present, Invert: true}, none, true},
		{"present, inverted", HeaderMatch{Kind: Present, Invert: true}, one, false},
		{"absent", HeaderMatch{Kind: Absent}, none, true},
		{"absent, present", HeaderMatch{Kind: Absent}, one, false},
		{"absent, inverted", HeaderMatch{Kind: Absent, Invert: true}, one, true},
	} {
		tt.match.Name = "h"
		if got := tt.match.Matches(headers(map[string][]string{"h": tt.values, "other": {"Abc"}})); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestRetriableHeadersMatchEachValue(t *testing.T) {
	for _, tt := range []struct {
		match  HeaderMatch
		values []string
		want   bool
	}{
		{HeaderMatch{Value: "b"}, []string{"a", "b"}, true},
		{HeaderMatch{Value: "a,b"}, []string{"a", "b"}, false},
		{HeaderMatch{Value: "b", Invert: true}, []string{"a", "b"}, false},
		{HeaderMatch{Value: "c", Invert: true}, []string{"a", "b"}, true},
		{HeaderMatch{Kind: Present}, []string{"a", "b"}, true},
		{HeaderMatch{Value: "a"}, []string{"a"}, true},
		{HeaderMatch{Value: "a"}, nil, false},
	} {
		tt.match.Name = "h"
		if got := tt.match.matchesEach(headers(map[string][]string{"h": tt.values})); got != tt.want {
			t.Errorf("%+v on %q: %v, want %v", tt.match, tt.values, got, tt.want)
		}
	}
}

func TestMatchAllocatesNothing(t *testing.T) {
	get := headers(map[string][]string{"h": {"value"}})
	m := &HeaderMatch{Name: "h", Kind: Contains, Value: "LU", IgnoreCase: true}
	if n := testing.AllocsPerRun(100, func() { m.Matches(get) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
