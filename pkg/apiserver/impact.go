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
func (p *plan) weigh(f *world.Foresight, o options) error {
	if o.tell {
		impact, err := impactOf(f, o.census(), p.standIns())
		if err != nil {
			return err
		}
		impact.Fidelity = p.fidelity(o.census())
		p.impact = impact
		return nil
	}
	// The clusters of a service that is not touched are not rebuilt: most writes need no more than this.
	if o.wide || o.dryRun || f.Touches() < 2 {
		return nil
	}
	return newReach(f, o.census(), p.standIns()).refuse()
}

// reach is how many proxies are concerned.
type reach struct {
	*census
	connected int
	foreseen  []world.Foreseen
	rebuilt   map[string]bool // clusters that any proxy rebuilds; agents rebuild none
	rebuilds  int             // proxies that rebuild any
}

// newReach looks at the proxies that were counted. While there are others that were not, also at those that stand in for any.
func newReach(f *world.Foresight, count *census, standIns []world.ClassKey) *reach {
	r := &reach{census: count, rebuilt: make(map[string]bool)}
	classes := count.classes()
	for _, of := range count.crowds {
		r.connected += of.proxies
	}
	if len(count.silent) > 0 {
		for _, key := range standIns {
			if _, counted := count.crowds[key]; !counted {
				classes = append(classes, key)
			}
		}
	}
	r.foreseen = f.Of(classes)
	for _, of := range r.foreseen {
		if of.Class.Profile != envoy.Agent && r.rebuiltBy(of) {
			r.rebuilds += count.crowds[of.Class].proxies
		}
	}
	return r
}

// rebuiltBy notes the clusters that f rebuilds, and reports whether there are any.
func (r *reach) rebuiltBy(f world.Foreseen) (any bool) {
	for _, c := range f.Changed {
		if c.Rebuilds() {
			r.rebuilt[c.Now.Name] = true
			any = true
		}
	}
	return any
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

// wide reports whether clusters of more than one service are rebuilt on too many proxies, or on nobody knows how many.
func (r *reach) wide() bool {
	return len(r.services()) > 1 && (r.rebuilds*100 > r.connected*maxShare || len(r.silent) > 0)
}

func (r *reach) refuse() error {
	if !r.wide() {
		return nil
	}
	services, unknown := r.services(), ""
	if len(r.silent) > 0 {
		unknown = ", and on an unknown number of those of " + silentNames(r.silent)
	}
	return &api.Problem{
		Type: api.TooWide, Title: "Too wide", Status: http.StatusUnprocessableEntity,
		Detail: fmt.Sprintf("it rebuilds the clusters of %d services (%s) on %d of %d connected proxies%s: their ejections, counters and connections start from nothing; "+
			"write it in smaller steps, or with ?wide=true (bwctl: --wide); ?dryRun=true shows what changes", len(services), someOf(services), r.rebuilds, r.connected, unknown),
	}
}

func silentNames(list []api.Unreachable) string {
	var names []string
	for _, u := range list {
		names = append(names, u.String())
	}
	return someOf(names)
}

// impactOf is what the change does to the connected proxies.
func impactOf(f *world.Foresight, count *census, standIns []world.ClassKey) (*api.Impact, error) {
	r := newReach(f, count, standIns)
	impact := &api.Impact{
		Connected: r.connected, Wide: r.wide(), Unreachable: r.silent,
		Services: []string{}, Classes: []api.ClassImpact{}, Rebuilt: []api.RebuiltImpact{}, Changes: []api.ChangeImpact{},
	}
	impact.Rebuilt = append(impact.Rebuilt, r.losses()...)
	services := make(map[string]bool)
	for _, f := range r.foreseen {
		k, proxies := f.Class, r.crowds[f.Class].proxies
		impact.Proxies += proxies
		if proxies > 0 {
			impact.Classes = append(impact.Classes, api.ClassImpact{
				Namespace: k.Namespace, Service: k.Service, Dialect: k.Dialect, Profile: k.Profile, Version: k.Tier, Proxies: proxies, Resources: len(f.Changed),
			})
		}
		if slices.ContainsFunc(f.Changed, world.Replaced.Drains) {
			impact.Drained += proxies
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
func (r *reach) losses() []api.RebuiltImpact {
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
			l.add(f.Class, r.crowds[f.Class])
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

// add counts the proxies of a class.
func (l *loss) add(class world.ClassKey, of crowd) {
	ejected := of.ejected[ejections.StatName(l.Cluster)]
	if class.Profile == envoy.Agent {
		l.Agents += of.proxies
		l.KeptEjections += ejected
		return
	}
	l.Proxies += of.proxies
	l.UnknownProxies += of.proxies - of.reporting
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
				list[i].Proxies += r.crowds[f.Class].proxies
			}
		}
	}
	return list, nil
}
