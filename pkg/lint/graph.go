package lint

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// graph is who calls whom, and what holds for each call.
type graph struct {
	policies []*policy.Compiled // least specific first
	nodes    []*node            // by key
	byKey    map[manifest.Key]*node
	merges   map[string]*result // by protocol and set of policies: most services share theirs
	samples  []policy.Caller    // a caller for each set of selectors in a from

	indexOf  map[manifest.Key]int   // of the policies
	byTarget map[manifest.Key][]int // policies that name one service
	bySpace  map[string][]int       // the others, by namespace of their targets
	covers   []int                  // by policy: services
	heard    []bool                 // by policy: it holds for a call that dependsOn names
	open     []*node                // services without a dependsOn: their proxies receive all of their namespace
}

// node is a service.
type node struct {
	Service
	called   policy.Service
	matching []int   // policies whose target covers it
	calls    []*call // that it makes, by callee; only those that its dependsOn names
	callers  []*node // services whose dependsOn names it, by key
	results  []*call // the different ones that its callers get
}

// call is what some callers get who call a service.
type call struct {
	from string // one of the callers; empty: any other
	to   *node
	*result
}

// result is what holds for the calls to which one set of policies applies.
type result struct {
	*policy.Effective
	protocol string // of the called service
	applied  []int
	fields   map[string]*policy.Field
}

func newGraph(in Input) *graph {
	g := &graph{
		policies: slices.Clone(in.Policies), byKey: make(map[manifest.Key]*node), merges: make(map[string]*result),
		indexOf: make(map[manifest.Key]int, len(in.Policies)), byTarget: make(map[manifest.Key][]int), bySpace: make(map[string][]int), covers: make([]int, len(in.Policies)), heard: make([]bool, len(in.Policies)),
	}
	slices.SortFunc(g.policies, func(a, b *policy.Compiled) int {
		if a.Less(b) {
			return -1
		}
		return 1
	})
	g.index()
	for _, s := range in.Services {
		n := &node{Service: s, called: policy.Service{Key: s.Key(), Labels: s.Metadata.Labels, Protocol: string(catalog.ProtocolOf(s.Service))}}
		g.nodes, g.byKey[s.Key()] = append(g.nodes, n), n
	}
	slices.SortFunc(g.nodes, func(a, b *node) int {
		return cmp.Or(cmp.Compare(a.called.Namespace, b.called.Namespace), cmp.Compare(a.called.Name, b.called.Name))
	})
	g.sample()
	for _, n := range g.nodes {
		n.matching = g.matching(&n.called)
		for _, i := range n.matching {
			g.covers[i]++
		}
	}
	g.connect()
	for _, n := range g.nodes {
		g.resolve(n)
	}
	return g
}

// index sorts the policies by what they may cover, so that not every one is held against every service.
func (g *graph) index() {
	for i, p := range g.policies {
		if p.Guardrail == nil {
			g.indexOf[p.Policy.Key()] = i
		}
		namespace := cmp.Or(p.Policy.Spec.To.Namespace, p.Policy.Metadata.Namespace)
		if name := p.Policy.Spec.To.Service; name != "" && name != policy.Every {
			key := manifest.Key{Namespace: namespace, Name: name}
			g.byTarget[key] = append(g.byTarget[key], i)
		} else {
			g.bySpace[namespace] = append(g.bySpace[namespace], i)
		}
	}
}

func (g *graph) matching(svc *policy.Service) []int {
	var list []int
	for _, i := range slices.Concat(g.bySpace[policy.Every], g.bySpace[svc.Namespace], g.byTarget[svc.Key]) {
		if g.policies[i].Matches(*svc) {
			list = append(list, i)
		}
	}
	slices.Sort(list)
	return list
}

// sample picks one caller for each set of selectors that the sources of policies have: the others of the set get the same.
func (g *graph) sample() {
	seen := make(map[string]bool)
	var selecting []*policy.Compiled
	for _, p := range g.policies {
		if from := p.Policy.Spec.From; from != nil && from.Selector != nil {
			selecting = append(selecting, p)
		}
	}
	if len(selecting) == 0 {
		return
	}
	for _, n := range g.nodes {
		caller := n.asCaller()
		mask := []byte(caller.Namespace + " ")
		for _, p := range selecting {
			if p.Applies(n.called, caller) {
				mask = append(mask, 'x')
			} else {
				mask = append(mask, '-')
			}
		}
		if !seen[string(mask)] {
			seen[string(mask)] = true
			g.samples = append(g.samples, caller)
		}
	}
}

func (n *node) asCaller() policy.Caller {
	return policy.Caller{Key: n.called.Key, Labels: n.called.Labels}
}

// connect makes the calls that dependsOn names.
func (g *graph) connect() {
	for _, n := range g.nodes {
		keys, said := catalog.Dependencies(n.Service.Service)
		if !said {
			g.open = append(g.open, n)
		}
		slices.SortFunc(keys, byKey)
		for _, callee := range slices.Compact(keys) {
			if to := g.byKey[callee]; to != nil && to != n {
				c := &call{from: key(n), to: to, result: g.result(to, n.asCaller())}
				n.calls = append(n.calls, c)
				to.callers = append(to.callers, n)
				for _, i := range c.applied {
					g.heard[i] = true
				}
			}
		}
	}
}

func key(n *node) string { return n.called.String() }

func byKey(a, b manifest.Key) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

// resolve lists the different results that callers of n get: those that call it, those that its policies name or select, and any other
// of each namespace that plays a part.
func (g *graph) resolve(n *node) {
	if len(n.matching) == 0 {
		return
	}
	seen := make(map[*result]bool)
	for _, caller := range g.callersOf(n) {
		if r := g.result(n, caller); len(r.applied) > 0 && !seen[r] {
			seen[r] = true
			c := &call{to: n, result: r}
			if caller.Name != "" {
				c.from = caller.String()
			}
			n.results = append(n.results, c)
		}
	}
}

func (g *graph) callersOf(n *node) []policy.Caller {
	others := []string{n.called.Namespace}
	var named []policy.Caller
	for _, caller := range n.callers {
		named = append(named, caller.asCaller())
	}
	selects := false
	for _, i := range n.matching {
		p := g.policies[i].Policy
		others = append(others, p.Metadata.Namespace)
		from := p.Spec.From
		if from == nil {
			continue
		}
		selects = selects || from.Selector != nil
		if from.Service != "" && from.Namespace != policy.Every {
			named = append(named, g.caller(manifest.Key{Namespace: cmp.Or(from.Namespace, p.Metadata.Namespace), Name: from.Service}))
		}
	}
	if selects {
		named = append(named, g.samples...)
	}
	slices.Sort(others)
	for _, namespace := range slices.Compact(others) {
		named = append(named, policy.Caller{Key: manifest.Key{Namespace: namespace}})
	}
	return named
}

func (g *graph) caller(key manifest.Key) policy.Caller {
	if n := g.byKey[key]; n != nil {
		return n.asCaller()
	}
	return policy.Caller{Key: key}
}

// result merges what applies to the calls from caller to n, once for each set of policies.
func (g *graph) result(n *node, caller policy.Caller) *result {
	key := []byte(n.called.Protocol)
	var applied []int
	for _, i := range n.matching {
		if g.policies[i].Applies(n.called, caller) {
			applied = append(applied, i)
			key = binary.BigEndian.AppendUint32(key, uint32(i))
		}
	}
	if r, ok := g.merges[string(key)]; ok {
		return r
	}
	list := make([]*policy.Compiled, len(applied))
	for k, i := range applied {
		list[k] = g.policies[i]
	}
	effective, _ := policy.Merge(n.called, list)
	r := &result{Effective: effective, protocol: n.called.Protocol, applied: applied, fields: make(map[string]*policy.Field, len(effective.Fields))}
	for i := range effective.Fields {
		r.fields[effective.Fields[i].Path] = &effective.Fields[i]
	}
	g.merges[string(key)] = r
	return r
}

// accepts reports whether the author of an object has said that findings of this code are meant.
func (g *graph) accepts(kind string, key manifest.Key, code string) bool {
	if kind == policy.Kind {
		i, ok := g.indexOf[key]
		return ok && accepted(g.policies[i].Policy.Metadata, code)
	}
	n := g.byKey[key]
	return n != nil && accepted(n.Metadata, code)
}

func accepted(m manifest.Meta, code string) bool {
	codes := strings.FieldsFunc(m.Annotations[Accept], func(r rune) bool { return r == ',' || r == ' ' || r == '\n' })
	return slices.Contains(codes, code)
}

// at is where one of these fields of the result was written, the first that an author wrote; ok is false where all are defaults.
func (r *result) at(paths ...string) (key manifest.Key, path string, ok bool) {
	for _, p := range paths {
		if f := r.fields[p]; f != nil && !f.Origin.Default && f.Origin.Policy != (manifest.Key{}) {
			return f.Origin.Policy, "spec." + f.Origin.Path, true
		}
	}
	return manifest.Key{}, "", false
}

// hops names the two ends of the call.
func (c *call) hops() []string {
	if c.from == "" {
		return []string{"any other caller", key(c.to)}
	}
	return []string{c.from, key(c.to)}
}
