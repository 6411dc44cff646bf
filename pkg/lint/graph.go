package lint

import (
	"slices"
	"strings"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// graph is who calls whom, and what holds for each call. It moves from one input to the next: see move.go.
type graph struct {
	entries map[name]*entry
	order   []*entry // least specific first
	nodes   []*node  // by key
	byKey   map[manifest.Key]*node
	merges  map[string]*merged // by protocol and set of policies: most services share theirs
	samples []policy.Caller    // a caller for each set of selectors in a from
	chained []*spot            // what is found along paths
	silent  map[string]int     // by namespace: services that do not say whom they call

	byTarget map[manifest.Key][]*entry       // policies that name one service
	bySpace  map[string][]*entry             // the others, by namespace of their targets
	users    map[manifest.Key]map[*made]bool // what was made of a service, whether that exists or not

	turn uint32 // counts the moves
	ids  uint32 // of entries, ever
}

// name is the name of a policy or of a guardrail.
type name struct {
	key       manifest.Key
	guardrail bool
}

// entry is a policy or a guardrail.
type entry struct {
	*policy.Compiled
	given  *policy.Compiled // the same in content, as the newest input has it
	id     uint32
	seen   uint32 // the last turn that had it
	covers int    // services

	live    map[*merged]bool // the results that it takes part in
	looked  bool             // since services changed, whether any caller that it covers may call one
	reaches bool
	found   []*spot
}

// node is a service.
type node struct {
	Service
	called   policy.Service
	seen     uint32
	matching []*entry // whose target covers it, least specific first
	callers  []*node  // services with calls that end here, by key
	out      made     // the calls it makes; only those that its dependsOn names
	in       made     // the different ones that it gets
	found    []*spot
}

// made is a list of calls, and what it was made of.
type made struct {
	of    *node
	calls []*call
	uses  []manifest.Key // services, whether they exist or not
	sets  []*merged
}

// call is what some callers get who call a service, by one of the ways that lead from there.
type call struct {
	from   string // one of the callers; empty: any other
	named  *node  // the service that is called
	route  string // of it; empty: all that nothing else is said of
	to     *node  // where it ends: named itself, another service behind the route, or the one that it falls back to
	subset string // of to; empty: all of it
	spare  bool   // it is the one that it falls back to
	reads  bool   // the route takes neither POST nor PATCH
	high   bool   // its calls are of high priority
	result
}

// result is what holds for a call.
type result struct {
	*side         // on the way: the fields of scope route
	cluster *side // for the hosts where it ends: the fields of scope cluster
}

// side is an effective policy of a service or of one of its parts.
type side struct {
	*policy.Effective
	protocol string
	ofRoute  bool // of a route that policies name
	fields   map[string]*policy.Field
}

func newGraph() *graph {
	return &graph{
		entries: make(map[name]*entry), byKey: make(map[manifest.Key]*node), merges: make(map[string]*merged),
		byTarget: make(map[manifest.Key][]*entry), bySpace: make(map[string][]*entry), users: make(map[manifest.Key]map[*made]bool),
		silent: make(map[string]int),
	}
}

func nameOf(p *policy.Compiled) name { return name{p.Policy.Key(), p.Guardrail != nil} }

func (n *node) asCaller() policy.Caller {
	return policy.Caller{Key: n.called.Key, Labels: n.called.Labels}
}

func key(n *node) string { return n.called.String() }

func nodesByKey(a, b *node) int { return a.called.Key.Compare(b.called.Key) }

func (g *graph) caller(key manifest.Key) policy.Caller {
	if n := g.byKey[key]; n != nil {
		return n.asCaller()
	}
	return policy.Caller{Key: key}
}

// accepts reports whether the author of an object has said that findings of this code are meant.
func (g *graph) accepts(kind string, key manifest.Key, code string) bool {
	if kind == policy.Kind {
		e := g.entries[name{key: key}]
		return e != nil && accepted(e.Policy.Metadata, code)
	}
	n := g.byKey[key]
	return n != nil && accepted(n.Metadata, code)
}

func accepted(m manifest.Meta, code string) bool {
	codes := strings.FieldsFunc(m.Annotations[Accept], func(r rune) bool { return r == ',' || r == ' ' || r == '\n' })
	return slices.Contains(codes, code)
}

// at is where one of these fields was written, the first that an author wrote; ok is false where all are defaults.
func (s *side) at(paths ...string) (key manifest.Key, path string, ok bool) {
	for _, p := range paths {
		if f := s.fields[p]; f != nil && f.Value != nil && !f.Origin.Default && f.Origin.Policy != (manifest.Key{}) {
			return f.Origin.Policy, "spec." + f.Origin.Path, true
		}
	}
	return manifest.Key{}, "", false
}

// hosts are those where the call ends, 0 where none is known.
func (c *call) hosts() int {
	if c.subset != "" {
		return c.to.Subsets[c.subset]
	}
	return c.to.Hosts
}

// end is where the call ends, as people say it.
func (c *call) end() string {
	if c.subset != "" {
		return "subset " + c.subset + " of " + key(c.to)
	}
	return key(c.to)
}

// String names the service that is called, and how the call goes on from there.
func (c *call) String() string {
	var how []string
	if c.route != "" {
		how = append(how, "route "+c.route)
	}
	switch {
	case c.spare:
		how = append(how, "fallback to "+key(c.to))
	case c.to != c.named:
		how = append(how, "to "+key(c.to))
	}
	if c.subset != "" {
		how = append(how, "subset "+c.subset)
	}
	if how == nil {
		return key(c.named)
	}
	return key(c.named) + " (" + strings.Join(how, ", ") + ")"
}

// hops names the two ends of the call.
func (c *call) hops() []string {
	if c.from == "" {
		return []string{"any other caller", c.String()}
	}
	return []string{c.from, c.String()}
}

// dependencies are the services that n says it calls, each once.
func (n *node) dependencies() (keys []manifest.Key, said bool) {
	keys, said = catalog.Dependencies(n.Service.Service)
	slices.SortFunc(keys, manifest.Key.Compare)
	return slices.Compact(keys), said
}
