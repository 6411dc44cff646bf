package view

import (
	"iter"
	"slices"
	"strings"
)

const numBuckets = 64

// View is an immutable set of resources of one type, at most one of a name. A nil *View is the empty one. Views made of each
// other by With share the buckets that did not change, so that Diff need not look into them.
type View struct {
	b [numBuckets]bucket
	n int
}

// bucket holds the resources whose names hash to it, by name. nil is empty; it is replaced, never changed.
type bucket *[]*Resource

func list(b bucket) []*Resource {
	if b == nil {
		return nil
	}
	return *b
}

// Change is what With does to one name.
type Change struct {
	Name string
	Now  *Resource // nil: the name goes
}

// Put is the change that sets r.
func Put(r *Resource) Change { return Change{Name: r.Name, Now: r} }

// Of is the view of these resources; the last of a name wins.
func Of(resources ...*Resource) *View {
	changes := make([]Change, len(resources))
	for i, r := range resources {
		changes[i] = Put(r)
	}
	return (*View)(nil).With(changes)
}

// With is v after the changes, in order. It is v itself where nothing differs, judged by version; a resource whose version
// stays keeps its old pointer.
func (v *View) With(changes []Change) *View { return v.Toward(nil, changes) }

// Toward is With for a view that goes, in steps, to become head: what has become the same as there is shared with it, so that a Diff
// of the two costs what is left to do. It is head itself in the end.
func (v *View) Toward(head *View, changes []Change) *View {
	var next *View
	var fresh [numBuckets]bool // buckets that next does not share with v
	for _, c := range changes {
		cur := v
		if next != nil {
			cur = next
		}
		if same(cur.Get(c.Name), c.Now) {
			continue
		}
		if next == nil {
			next = new(View)
			if v != nil {
				*next = *v
			}
		}
		h := hash(c.Name)
		next.set(h, c, fresh[h])
		fresh[h] = true
	}
	switch {
	case next == nil:
		return v
	case next.n == 0:
		return nil
	}
	next.share(head, &fresh)
	next.share(v, &fresh)
	switch {
	case v != nil && next.b == v.b: // the changes cancelled each other out
		return v
	case head != nil && next.b == head.b:
		return head
	}
	return next
}

// set applies c to bucket h, in place where the bucket is v's own.
func (v *View) set(h int, c Change, own bool) {
	all := list(v.b[h])
	if !own {
		all = append(make([]*Resource, 0, len(all)+4), all...) // a step may bring some more
	}
	i, found := find(all, c.Name)
	switch {
	case c.Now == nil:
		all = slices.Delete(all, i, i+1) // With asked already: it is there
		v.n--
	case found:
		all[i] = c.Now
	default:
		all = slices.Insert(all, i, c.Now)
		v.n++
	}
	v.b[h] = nil
	if len(all) > 0 {
		v.b[h] = &all
	}
}

// share takes the buckets of another view wherever fresh ones came out the same: of the one before, where the changes cancelled each
// other out.
func (v *View) share(other *View, fresh *[numBuckets]bool) {
	if other == nil {
		return
	}
	for h, f := range fresh {
		if !f || v.b[h] == nil || other.b[h] == nil {
			continue
		}
		if slices.EqualFunc(*v.b[h], *other.b[h], same) {
			v.b[h] = other.b[h]
		}
	}
}

// Get is the resource of this name, or nil.
func (v *View) Get(name string) *Resource {
	if v == nil {
		return nil
	}
	p := v.b[hash(name)]
	if p == nil {
		return nil
	}
	if i, found := find(*p, name); found {
		return (*p)[i]
	}
	return nil
}

// Len is the number of resources.
func (v *View) Len() int {
	if v == nil {
		return 0
	}
	return v.n
}

// All yields the resources by name.
func (v *View) All() iter.Seq[*Resource] {
	return func(yield func(*Resource) bool) {
		if v == nil {
			return
		}
		list := make([]*Resource, 0, v.n)
		for _, p := range v.b {
			if p != nil {
				list = append(list, *p...)
			}
		}
		slices.SortFunc(list, func(a, b *Resource) int { return strings.Compare(a.Name, b.Name) })
		for _, r := range list {
			if !yield(r) {
				return
			}
		}
	}
}

// Diff calls f once for every name whose resource differs in version between a and b: old is nil where b has it anew, now is
// nil where it is gone. The order is the same whenever the names are.
func Diff(a, b *View, f func(old, now *Resource)) {
	Until(a, b, func(old, now *Resource) bool { f(old, now); return true })
}

// Until is Diff that ends once f returns false.
func Until(a, b *View, f func(old, now *Resource) bool) {
	if a == b {
		return
	}
	var none View
	if a == nil {
		a = &none
	}
	if b == nil {
		b = &none
	}
	for h := range numBuckets {
		if a.b[h] != b.b[h] && !diff(list(a.b[h]), list(b.b[h]), f) {
			return
		}
	}
}

// Differs reports whether Diff of a and b calls f for name.
func Differs(a, b *View, name string) bool { return !same(a.Get(name), b.Get(name)) }

// Gone calls f for every resource of a whose name b has not, in an order that is the same whenever the names are.
func Gone(a, b *View, f func(old *Resource)) {
	if a == nil || a == b {
		return
	}
	for h := range numBuckets {
		if a.b[h] == nil || b != nil && a.b[h] == b.b[h] {
			continue
		}
		for _, r := range list(a.b[h]) {
			if b.Get(r.Name) == nil {
				f(r)
			}
		}
	}
}

func diff(x, y []*Resource, f func(old, now *Resource) bool) bool {
	for len(x) > 0 || len(y) > 0 {
		var old, now *Resource
		switch {
		case len(y) == 0 || len(x) > 0 && x[0].Name < y[0].Name:
			old, x = x[0], x[1:]
		case len(x) == 0 || y[0].Name < x[0].Name:
			now, y = y[0], y[1:]
		default:
			old, now = x[0], y[0]
			x, y = x[1:], y[1:]
		}
		if !same(old, now) && !f(old, now) {
			return false
		}
	}
	return true
}

// same reports whether two resources of one name are the same to a proxy.
func same(a, b *Resource) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a == b || a.Name == b.Name && a.Version == b.Version
}

func find(list []*Resource, name string) (int, bool) {
	return slices.BinarySearchFunc(list, name, func(r *Resource, name string) int { return strings.Compare(r.Name, name) })
}

// hash is FNV-1a, inline so that it costs no allocation.
func hash(name string) int {
	h := uint32(2166136261)
	for i := range len(name) {
		h = (h ^ uint32(name[i])) * 16777619
	}
	return int(h % numBuckets)
}
