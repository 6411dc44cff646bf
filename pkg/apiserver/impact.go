package apiserver

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/ejections"
	"github.com/breakwater-mesh/breakwater/pkg/envoy"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// Wideness is the query of a write that may reach far.
type Wideness struct {
	Wide bool `query:"wide" doc:"Rebuild clusters of more than one service on more than 10 % of the proxies."`
}

// maxShare is the share of the connected proxies, in percent, on which the clusters of more than one service may be rebuilt without a word.
const maxShare = 10

// weigh refuses a write that reaches too far, and for a dry run says how far it does.
func (w *writer) weigh(p *plan, f *world.Foresight, o options) error {
	if o.tell {
		impact, err := w.impactOf(f)
		if err != nil {
			return err
		}
		impact.Fidelity = w.fidelityOfWritten(p)
		p.impact = impact
		return nil
	}
	// The clusters of a service that is not touched are not rebuilt: most writes need no more than this.
	if o.wide || o.dryRun || f.Touches() < 2 {
		return nil
	}
	count := w.classes()
	if len(count) == 0 {
		return nil
	}
	return newReach(count, f.Of(slices.Collect(maps.Keys(count)))).refuse()
}

// reach is how many proxies are concerned.
type reach struct {
	connected int
	proxies   map[world.ClassKey]int
	foreseen  []world.Foreseen
	rebuilt   map[string]bool // clusters that any proxy rebuilds; agents rebuild none
	rebuilds  int             // proxies that rebuild any
}

func newReach(count map[world.ClassKey]int, foreseen []world.Foreseen) *reach {
	r := &reach{proxies: count, foreseen: foreseen, rebuilt: make(map[string]bool)}
	for _, n := range count {
		r.connected += n
	}
	for _, f := range foreseen {
		if f.Class.Profile == envoy.Agent {
			continue
		}
		any := false
		for _, c := range f.Changed {
			if c.Rebuilds() {
				r.rebuilt[c.Now.Name] = true
				any = true
			}
		}
		if any {
			r.rebuilds += count[f.Class]
		}
	}
	return r
}

// services are those of which clusters are rebuilt.
func (r *reach) services() []string {
	seen := make(map[string]bool)
	for cluster := range r.rebuilt {
		seen[serviceOf(cluster)] = true
	}
	return slices.Sorted(maps.Keys(seen))
}

// serviceOf is the service of a cluster: of a subset's, shop/payments|v2, as of a fault's, shop/payments~fault.
func serviceOf(cluster string) string {
	if i := strings.IndexAny(cluster, "|~"); i >= 0 {
		return cluster[:i]
	}
	return cluster
}

func (r *reach) wide() bool { return len(r.services()) > 1 && r.rebuilds*100 > r.connected*maxShare }

func (r *reach) refuse() error {
	if !r.wide() {
		return nil
	}
	services := r.services()
	return &api.Problem{
		Type: api.TooWide, Title: "Too wide", Status: http.StatusUnprocessableEntity,
		Detail: fmt.Sprintf("it rebuilds the clusters of %d services (%s) on %d of %d connected proxies: their ejections, counters and connections start from nothing; "+
			"write it in smaller steps, or with ?wide=true (bwctl: --wide); ?dryRun=true shows what changes", len(services), someOf(services), r.rebuilds, r.connected),
	}
}

// impactOf is what the change does to the connected proxies.
func (w *writer) impactOf(f *world.Foresight) (*api.Impact, error) {
	count := w.classes()
	classes := slices.SortedFunc(maps.Keys(count), compareClasses)
	r := newReach(count, f.Of(classes))
	impact := &api.Impact{
		Connected: r.connected, Wide: r.wide(),
		Services: []string{}, Classes: []api.ClassImpact{}, Rebuilt: []api.RebuiltImpact{}, Changes: []api.ChangeImpact{},
	}
	impact.Rebuilt = append(impact.Rebuilt, r.losses(w.ejected())...)
	services := make(map[string]bool)
	for _, f := range r.foreseen {
		k := f.Class
		impact.Proxies += count[k]
		impact.Classes = append(impact.Classes, api.ClassImpact{
			Namespace: k.Namespace, Service: k.Service, Dialect: k.Dialect, Profile: k.Profile, Version: k.Tier, Proxies: count[k], Resources: len(f.Changed),
		})
		if slices.ContainsFunc(f.Changed, world.Replaced.Drains) {
			impact.Drained += count[k]
		}
		for _, c := range f.Changed {
			if name := serviceOf(c.ID().Name); strings.Contains(name, "/") {
				services[name] = true
			}
		}
	}
	impact.Services = append(impact.Services, slices.Sorted(maps.Keys(services))...)
	var err error
	impact.Changes, err = r.changes()
	return impact, err
}

// losses are the clusters that are rebuilt, by name, with what the proxies say that they have ejected of them.
func (r *reach) losses(said map[world.ClassKey][]map[string]int) []api.RebuiltImpact {
	of := make(map[string]*loss)
	for _, f := range r.foreseen {
		for _, c := range f.Changed {
			if !c.Rebuilds() {
				continue
			}
			l := of[c.Now.Name]
			if l == nil {
				l = &loss{RebuiltImpact: api.RebuiltImpact{Cluster: c.Now.Name}}
				of[c.Now.Name] = l
			}
			l.add(f.Class, r.proxies[f.Class], said[f.Class])
		}
	}
	var list []api.RebuiltImpact
	for _, cluster := range slices.Sorted(maps.Keys(of)) {
		list = append(list, of[cluster].impact())
	}
	return list
}

// loss is what is lost with one cluster.
type loss struct {
	api.RebuiltImpact
	lost int // ejections
}

// add counts the proxies of a class, of which some say what they have ejected. Those that came since they were counted are left out.
func (l *loss) add(class world.ClassKey, proxies int, said []map[string]int) {
	known, ejected := 0, 0
	for _, hosts := range said {
		if hosts != nil && known < proxies {
			known++
			ejected += hosts[ejections.StatName(l.Cluster)]
		}
	}
	if class.Profile == envoy.Agent {
		l.Agents += proxies
		l.KeptEjections += ejected
		return
	}
	l.Proxies += proxies
	l.UnknownProxies += proxies - known
	l.lost += ejected
}

func (l *loss) impact() api.RebuiltImpact {
	if l.Proxies == 0 || l.Proxies > l.UnknownProxies {
		l.LiveEjections = &l.lost
	}
	return l.RebuiltImpact
}

func compareClasses(a, b world.ClassKey) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Service, b.Service), cmp.Compare(a.Dialect, b.Dialect),
		cmp.Compare(a.Profile, b.Profile), cmp.Compare(a.Tier, b.Tier), cmp.Compare(a.Outbound, b.Outbound),
		strings.Compare(fmt.Sprintf("%+v", a), fmt.Sprintf("%+v", b)))
}

// changes are the differences of resources, the same ones together, in the order in which they are met.
func (r *reach) changes() ([]api.ChangeImpact, error) {
	list := []api.ChangeImpact{}
	known := make(map[string]int) // by text
	for _, f := range r.foreseen {
		counted := make(map[int]bool) // for the proxies of this class
		for _, c := range f.Changed {
			lines, err := envoy.Difference(c.Old, c.Now)
			if err != nil {
				return nil, err
			}
			change := api.ChangeImpact{Lines: make([]api.DiffLine, len(lines))}
			for i, l := range lines {
				change.Lines[i] = api.DiffLine(l)
			}
			key := c.ID().Type.String() + fmt.Sprintf("%q", lines)
			i, met := known[key]
			if !met {
				i, known[key] = len(list), len(list)
				list = append(list, change)
			}
			if name := c.ID().String(); !slices.Contains(list[i].Resources, name) {
				list[i].Resources = append(list[i].Resources, name)
			}
			if !counted[i] {
				counted[i] = true
				list[i].Proxies += r.proxies[f.Class]
			}
		}
	}
	return list, nil
}
