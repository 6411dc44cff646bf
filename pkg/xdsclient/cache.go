package xdsclient

import (
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// Cache keeps the last known good configuration in files, for a start without a control plane.
type Cache struct{ files *Files }

// NewCache is the cache of one node in dir, which need not exist yet. What was saved for another node id or another cluster (the calling
// service and its namespace) is not loaded: it holds other routes.
func NewCache(dir string, node Node) *Cache {
	return &Cache{NewFiles(dir, "node "+node.ID+" of "+node.Cluster)}
}

// Saved is what a cache had.
type Saved struct {
	Resources dataplane.Resources // without Layers
	At        time.Time           // when it was saved or last confirmed
	Dropped   []dataplane.Fault   // of resources that this version of the agent can't enforce
}

// Load reads the newest file that is whole. Its error, of which errors.Is(err, os.ErrNotExist) says that there was none, tells what
// was wrong with the newer ones; the result is usable where it is not nil, whatever the error.
func (c *Cache) Load() (*Saved, error) {
	records, at, err := c.files.Load()
	if at.IsZero() {
		return nil, err
	}
	saved := &Saved{At: at}
	var changes []dataplane.Change
	for _, r := range records {
		t, known := view.FromURL(r.URL)
		if !known {
			continue
		}
		id := view.ID{Type: t, Name: r.Name}
		res, faults := dataplane.Decode(id, r.Version, r.Body)
		saved.Dropped = append(saved.Dropped, faults...)
		if res != nil {
			changes = append(changes, dataplane.Change{ID: id, Now: res})
		}
	}
	saved.Resources = saved.Resources.With(changes)
	return saved, err
}

// Save writes r as the newest file and keeps the three before. On an error, such as a disk that is full, those stay as they were.
func (c *Cache) Save(r dataplane.Resources, now time.Time) error {
	records := make([]Record, 0, r.Len())
	for t := range view.NumTypes {
		for _, name := range r.Names(t) {
			res := r.All(t)[name]
			records = append(records, Record{URL: t.URL(), Name: name, Version: res.Version, Body: res.Body})
		}
	}
	return c.files.Save(records, now)
}

// Confirm says that what was saved last is what a server wants as of now.
func (c *Cache) Confirm(now time.Time) error { return c.files.Confirm(now) }
