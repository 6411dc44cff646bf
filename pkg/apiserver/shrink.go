package apiserver

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// Shrinking is the query of a write that may take much away.
type Shrinking struct {
	AllowShrink bool `query:"allowShrink" doc:"Remove more than 30 % of a namespace's services, or of a service's endpoints, where there are more than 3."`
}

// What may go in one write without a word: up to this share, in percent, and anything of so few.
const (
	maxShrink  = 30
	fewMembers = 3
)

// shrink is what a write takes away of a namespace or of a service.
type shrink struct {
	of       manifest.Key // a service; without a name: a namespace
	before   int          // services of the namespace, or endpoints of the service
	gone     int
	services []manifest.Key // of the namespace, that go
}

func (s shrink) great() bool { return s.before > fewMembers && s.gone*100 > s.before*maxShrink }

func (s shrink) String() string {
	if s.of.Name != "" {
		return fmt.Sprintf("%d of the %d endpoints of Service %s", s.gone, s.before, s.of)
	}
	names := make([]string, len(s.services))
	for i, key := range s.services {
		names[i] = key.Name
	}
	return fmt.Sprintf("%d of the %d services of namespace %s (%s)", s.gone, s.before, s.of.Namespace, someOf(names))
}

// warning says it of the service, or of the first that goes.
func (s shrink) warning() api.Warning {
	about := s.of
	if about.Name == "" {
		about = s.services[0]
	}
	return api.Warning{
		Kind: catalog.Kind, Namespace: about.Namespace, Name: about.Name, Message: fmt.Sprintf("the write removes %s: %s", s, askToShrink),
	}
}

// someOf names the first few.
func someOf(names []string) string {
	const few = 5
	named := strings.Join(names[:min(len(names), few)], ", ")
	if more := len(names) - few; more > 0 {
		named += fmt.Sprintf(" and %d more", more)
	}
	return named
}

// shrinks are the great losses that changes bring to before, namespaces first. Endpoints are counted, not compared: one that takes the
// place of another is no loss. Those that DNS finds are not known here.
func shrinks(before, after *world.World, changes world.Changes) []shrink {
	namespaces := make(map[string]*shrink)
	touched := make(map[manifest.Key]bool)
	for _, key := range slices.SortedFunc(maps.Keys(changes.Services), manifest.Key.Compare) {
		touched[key] = true
		_, was := before.Service(key)
		if _, is := after.Service(key); !was || is {
			continue
		}
		if namespaces[key.Namespace] == nil {
			namespaces[key.Namespace] = &shrink{of: manifest.Key{Namespace: key.Namespace}}
		}
		n := namespaces[key.Namespace]
		n.gone++
		n.services = append(n.services, key)
	}
	for key := range changes.Endpoints {
		touched[key.Service] = true
	}
	var list []shrink
	for _, name := range slices.Sorted(maps.Keys(namespaces)) {
		n := namespaces[name]
		for _, s := range before.Services() {
			if s.Metadata.Namespace == name {
				n.before++
			}
		}
		list = append(list, *n)
	}
	for _, key := range slices.SortedFunc(maps.Keys(touched), manifest.Key.Compare) {
		was, is := endpointsOf(before, key), endpointsOf(after, key)
		if s, ok := after.Service(key); ok && catalog.DNSOf(s) != nil {
			continue
		}
		list = append(list, shrink{of: key, before: was, gone: was - is})
	}
	return slices.DeleteFunc(list, func(s shrink) bool { return !s.great() })
}

// endpointsOf is how many endpoints a service has, static and registered.
func endpointsOf(w *world.World, key manifest.Key) int {
	n := len(w.Endpoints(key))
	if s, ok := w.Service(key); ok {
		n += len(s.Spec.Endpoints)
	}
	return n
}

const askToShrink = "a list that was cut short looks like this; if it is meant, write it with ?allowShrink=true (bwctl: --allow-shrink)"

// keepMost refuses a write that takes too much away at once; a trial is told.
func keepMost(before *world.World, p *plan, changes world.Changes, o options) error {
	if o.allowShrink {
		return nil
	}
	found := shrinks(before, p.world, changes)
	if len(found) == 0 {
		return nil
	}
	if o.dryRun {
		for _, s := range found {
			p.warnings = append(p.warnings, s.warning())
		}
		return nil
	}
	texts := make([]string, len(found))
	for i, s := range found {
		texts[i] = s.String()
	}
	return &api.Problem{
		Type: api.Shrinks, Title: "Shrinks", Status: http.StatusUnprocessableEntity,
		Detail: fmt.Sprintf("it removes %s, which is more than %d %%: %s", someOf(texts), maxShrink, askToShrink),
	}
}
