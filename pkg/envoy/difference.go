package envoy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/breakwater-mesh/breakwater/pkg/view"

	// Runtime layers are written by their bytes alone; who reads one needs its type.
	_ "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"
)

// Line is one place at which two versions of a resource differ.
type Line struct {
	Path     string // such as outlier_detection.interval; items of a list as http_filters[NAME], or routes[0] where they have no names
	Old, Now string // as JSON; empty where there is nothing
}

// Difference lists the places at which two versions of a resource differ, by path. Either may be nil: then there is one line without a
// path. Items that have names are compared by them: one that comes or goes is one line, and that they change places another, with the
// path of their list.
func Difference(old, now *view.Resource) ([]Line, error) {
	if old == nil || now == nil {
		return []Line{{Old: presence(old), Now: presence(now)}}, nil
	}
	a, err := contentOf(old)
	if err != nil {
		return nil, err
	}
	b, err := contentOf(now)
	if err != nil {
		return nil, err
	}
	lines := moved(a.names, b.names)
	gone, come := a.without(b), b.without(a)
	for path, old := range a.leaves {
		if old != b.leaves[path] {
			lines = append(lines, Line{path, old, b.leaves[path]})
		}
	}
	for path, now := range b.leaves {
		if _, there := a.leaves[path]; !there {
			lines = append(lines, Line{Path: path, Now: now})
		}
	}
	lines = slices.DeleteFunc(lines, func(l Line) bool { return inside(l.Path, gone) || inside(l.Path, come) })
	for _, path := range gone {
		lines = append(lines, Line{Path: path, Old: text(a.items[path])})
	}
	for _, path := range come {
		lines = append(lines, Line{Path: path, Now: text(b.items[path])})
	}
	slices.SortFunc(lines, func(x, y Line) int { return strings.Compare(x.Path, y.Path) })
	return lines, nil
}

// moved has a line for each list of which items have changed places: the names of those that are in both versions.
func moved(old, now map[string][]string) []Line {
	var lines []Line
	for path, before := range old {
		after := now[path]
		x, y := shared(before, after), shared(after, before)
		if !slices.Equal(x, y) {
			lines = append(lines, Line{path, text(x), text(y)})
		}
	}
	return lines
}

func shared(list, other []string) []string {
	var both []string
	for _, name := range list {
		if slices.Contains(other, name) {
			both = append(both, name)
		}
	}
	return both
}

func presence(r *view.Resource) string {
	if r == nil {
		return ""
	}
	return "the whole resource"
}

// content is what stands in a resource.
type content struct {
	own    string              // the resource's name
	leaves map[string]string   // the scalars as JSON, by path
	names  map[string][]string // of the items of each list that has names, in their order, by path
	items  map[string]any      // those with names, by path
}

// without are the paths of the named items of c that other has not, but for those inside of one.
func (c *content) without(other *content) []string {
	var paths []string
	for _, path := range slices.Sorted(maps.Keys(c.items)) {
		if _, there := other.items[path]; !there && !inside(path, paths) {
			paths = append(paths, path)
		}
	}
	return paths
}

// inside reports whether path lies in one of the items.
func inside(path string, items []string) bool {
	return slices.ContainsFunc(items, func(item string) bool { return strings.HasPrefix(path, item+".") })
}

func contentOf(r *view.Resource) (*content, error) {
	a := new(anypb.Any)
	if err := proto.Unmarshal(r.Any(), a); err != nil {
		return nil, fmt.Errorf("read %s: %w", r.ID(), err)
	}
	asJSON, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(a)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", r.ID(), err)
	}
	var v any
	if err := json.Unmarshal(asJSON, &v); err != nil {
		return nil, fmt.Errorf("read %s: %w", r.ID(), err)
	}
	c := &content{r.Name, make(map[string]string), make(map[string][]string), make(map[string]any)}
	c.collect("", v)
	delete(c.leaves, "@type")
	return c, nil
}

func (c *content) collect(path string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for name, inner := range v {
			at := name
			if path != "" {
				at = path + "." + name
			}
			c.collect(at, inner)
		}
	case []any:
		names := namesOf(v)
		if names != nil {
			c.names[path] = names
		}
		for i, inner := range v {
			if names != nil && names[i] != c.own { // what is named after its resource must not tell the same change of two apart
				at := path + "[" + names[i] + "]"
				c.items[at] = inner
				c.collect(at, inner)
			} else {
				c.collect(fmt.Sprintf("%s[%d]", path, i), inner)
			}
		}
	default:
		c.leaves[path] = text(v)
	}
}

// namesOf are the names of the items of a list, where each has one; one that is there already is counted on. Else nil.
func namesOf(list []any) []string {
	var names []string
	count := make(map[string]int)
	for _, item := range list {
		object, _ := item.(map[string]any)
		name, _ := object["name"].(string)
		if name == "" {
			return nil
		}
		if count[name]++; count[name] > 1 {
			name = fmt.Sprintf("%s#%d", name, count[name])
		}
		names = append(names, name)
	}
	return names
}

// text is JSON, of what was JSON or of names: these can always be written.
func text(v any) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v)
	return strings.TrimSuffix(b.String(), "\n")
}
