package envoy

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// Line is one place at which two versions of a resource differ.
type Line struct {
	Path     string // such as outlier_detection.interval; items of a list as routes[0]
	Old, Now string // as JSON; empty where there is nothing
}

// Difference lists the places at which two versions of a resource differ, by path. Either may be nil: then there is one line without a
// path.
func Difference(old, now *view.Resource) ([]Line, error) {
	if old == nil || now == nil {
		return []Line{{Old: presence(old), Now: presence(now)}}, nil
	}
	a, err := leavesOf(old)
	if err != nil {
		return nil, err
	}
	b, err := leavesOf(now)
	if err != nil {
		return nil, err
	}
	var lines []Line
	for _, path := range slices.Sorted(maps.Keys(a)) {
		if a[path] != b[path] {
			lines = append(lines, Line{path, a[path], b[path]})
		}
	}
	for path, text := range b {
		if _, there := a[path]; !there {
			lines = append(lines, Line{Path: path, Now: text})
		}
	}
	slices.SortFunc(lines, func(x, y Line) int { return strings.Compare(x.Path, y.Path) })
	return lines, nil
}

func presence(r *view.Resource) string {
	if r == nil {
		return ""
	}
	return "the whole resource"
}

// leavesOf are the scalars of a resource by path.
func leavesOf(r *view.Resource) (map[string]string, error) {
	a := new(anypb.Any)
	if err := proto.Unmarshal(r.Any(), a); err != nil {
		return nil, fmt.Errorf("read %s: %w", r.ID(), err)
	}
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(a)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", r.ID(), err)
	}
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		return nil, fmt.Errorf("read %s: %w", r.ID(), err)
	}
	leaves := make(map[string]string)
	collect(leaves, "", v)
	delete(leaves, "@type")
	return leaves, nil
}

func collect(into map[string]string, path string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for name, inner := range v {
			at := name
			if path != "" {
				at = path + "." + name
			}
			collect(into, at, inner)
		}
	case []any:
		for i, inner := range v {
			collect(into, fmt.Sprintf("%s[%d]", path, i), inner)
		}
	default:
		text, _ := json.Marshal(v) // a scalar always can
		into[path] = string(text)
	}
}
