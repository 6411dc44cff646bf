package world

import (
	"slices"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// classChanges is what one batch changes in one class.
type classChanges struct {
	views  [view.NumTypes][]view.Change
	layers map[int]bool
	framed bool // a service has, or had, filters in the listener
}

func (c *classChanges) put(r *view.Resource) {
	c.views[r.Type] = append(c.views[r.Type], view.Put(r))
}

func (c *classChanges) putAll(list []*view.Resource) {
	for _, r := range list {
		c.put(r)
	}
}

// assign puts the assignments of the clusters of a service, of which there are none where proxies find its endpoints by themselves.
func (c *classChanges) assign(held *built, all assignments) {
	for _, cluster := range held.clusters() {
		if r := all.of(cluster.Name); r != nil {
			c.put(r)
		} else {
			c.remove(view.EDS, cluster.Name)
		}
	}
}

// removeClusters removes the clusters, and their assignments, that are no more.
func (c *classChanges) removeClusters(before, now []*view.Resource) {
	for _, r := range gone(before, now) {
		c.remove(view.CDS, r.Name)
		c.remove(view.EDS, r.Name)
	}
}

// removeGone removes the resources that are no more.
func (c *classChanges) removeGone(before, now []*view.Resource) {
	for _, r := range gone(before, now) {
		c.remove(r.Type, r.Name)
	}
}

// gone is what of before is not in now, whatever its version.
func gone(before, now []*view.Resource) []*view.Resource {
	return slices.DeleteFunc(slices.Clone(before), func(r *view.Resource) bool {
		return slices.ContainsFunc(now, func(n *view.Resource) bool { return n.ID() == r.ID() })
	})
}

func (c *classChanges) remove(t view.Type, name string) {
	c.views[t] = append(c.views[t], view.Change{Name: name})
}

// moved drops the removal of every name that the same batch also puts: an alias that went from one service to another.
func moved(changes []view.Change) []view.Change {
	put := make(map[string]bool)
	for _, c := range changes {
		put[c.Name] = put[c.Name] || c.Now != nil
	}
	return slices.DeleteFunc(changes, func(c view.Change) bool { return c.Now == nil && put[c.Name] })
}
