package engine

import (
	"net/http"
	"slices"
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
)

func TestPathsThatMatch(t *testing.T) {
	for _, tt := range []struct {
		match dataplane.PathMatch
		path  string
		want  bool
	}{
		{dataplane.PathMatch{Segments: "/a"}, "/a", true},
		{dataplane.PathMatch{Segments: "/a"}, "/a/b", true},
		{dataplane.PathMatch{Segments: "/a"}, "/ab", false},
		{dataplane.PathMatch{Segments: "/a"}, "/A/b", false},
		{dataplane.PathMatch{Segments: "/a", IgnoreCase: true}, "/A/b", true},
		{dataplane.PathMatch{Prefix: "/a"}, "/A", false},
		{dataplane.PathMatch{Prefix: "/a", IgnoreCase: true}, "/Ab", true},
		{dataplane.PathMatch{Exact: "/a", IgnoreCase: true}, "/A", true},
		{dataplane.PathMatch{Exact: "/a"}, "/A", false},
	} {
		if got := matchesPath(&tt.match, tt.path); got != tt.want {
			t.Errorf("%+v of %s: got %v, want %v", tt.match, tt.path, got, tt.want)
		}
	}
}

func TestLocations(t *testing.T) {
	for _, tt := range []struct {
		to        *dataplane.Redirect
		authority string
		want      string
	}{
		{nil, "a:80", "http://a:80/x?y"},
		{&dataplane.Redirect{Scheme: "https"}, "a:80", "https://a/x?y"},
		{&dataplane.Redirect{Scheme: "https"}, "a:8080", "https://a:8080/x?y"},
		{&dataplane.Redirect{Scheme: "https", Port: "8443"}, "[::1]:1", "https://[::1]:8443/x?y"},
		{&dataplane.Redirect{Host: "b"}, "a:80", "http://b/x?y"},
		{&dataplane.Redirect{Path: "/new"}, "a", "http://a/new?y"},
		{&dataplane.Redirect{Path: "/new", StripQuery: true}, "a", "http://a/new"},
		{&dataplane.Redirect{Path: "/new?z", StripQuery: true}, "a", "http://a/new?z"},
	} {
		c := &Call{req: &Request{Authority: tt.authority, Path: "/x?y", Scheme: "http", Header: http.Header{"X-Forwarded-Proto": {"http"}}}}
		if got := c.location(tt.to); got != tt.want {
			t.Errorf("%+v of %s: got %s, want %s", tt.to, tt.authority, got, tt.want)
		}
	}
}

func TestHeadersAreEditedLevelByLevel(t *testing.T) {
	literal := func(s string) dataplane.Format { return dataplane.Format{Parts: []dataplane.FormatPart{{Text: s}}} }
	c := &Call{req: &Request{Header: http.Header{"X-A": {"app"}}}}
	c.editLevels(c.req.Header, [][]dataplane.HeaderEdit{
		{
			{Name: "X-A", Action: dataplane.RemoveHeader},
			{Name: "X-A", Value: literal("added")},
			{Name: "X-A", Value: literal("over"), Action: dataplane.Overwrite},
			{Name: "X-B", Value: literal("absent"), Action: dataplane.AddIfAbsent},
		},
		{{Name: "X-A", Value: literal("outer")}},
		{{Name: "X-B", Action: dataplane.RemoveHeader}},
	}, nil)
	if got, want := c.req.Header["X-A"], []string{"over", "added", "outer"}; !slices.Equal(got, want) || c.req.Header["X-B"] != nil {
		t.Errorf("got %v, want x-a %v", c.req.Header, want)
	}
}
