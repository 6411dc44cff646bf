package relay

import (
	"bytes"
	"maps"
	"slices"
	"sync"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"

	"github.com/breakwater-mesh/breakwater/pkg/xdsclient"
)

// The most that is remembered of one client.
const (
	maxResources = 50_000
	maxBytes     = 256 << 20
)

// everything is the name under which a file says that all resources of a type are in it: no resource can have it.
const everything = "*"

// memory is what the clients with one node id have accepted. All fields after mu are guarded by it.
type memory struct {
	node  string
	files *xdsclient.Files // nil: on no disk
	full  bool             // there are too many nodes: nothing is remembered

	mu       sync.Mutex
	types    map[string]*kept // by type URL
	count    int
	size     int
	streams  int       // that use it now
	used     time.Time // when a stream last began or ended
	saved    time.Time // when it was last on disk as it is, or was when it was loaded
	unsaved  bool
	saving   bool      // of what was unsaved
	retry    time.Time // not saved before, as it failed
	over     bool      // something was too much
	attempts *xdsclient.BackOff
}

// kept is what of one type is remembered.
type kept struct {
	complete  bool   // these are all that a server had for a client that wanted all
	version   string // of all of them, as the server that had them said last
	resources map[string]*discoveryv3.Resource
}

func newMemory(node string, files *xdsclient.Files) *memory {
	return &memory{node: node, files: files, types: make(map[string]*kept), attempts: xdsclient.NewBackOff(1)}
}

// of is what is remembered of a type; nothing is not nil.
func (m *memory) of(url string) *kept {
	if k := m.types[url]; k != nil {
		return k
	}
	return &kept{}
}

func (m *memory) open(url string) *kept {
	k := m.types[url]
	if k == nil {
		k = &kept{resources: make(map[string]*discoveryv3.Resource)}
		m.types[url] = k
	}
	return k
}

// keep remembers r in the place of an older one. A heartbeat says nothing new; what lives only as long as somebody renews it can't
// be answered without that somebody.
func (m *memory) keep(url string, r *discoveryv3.Resource) {
	switch {
	case m.full:
		return
	case r.GetTtl() != nil:
		m.forget(url, r.GetName())
		return
	case r.GetResource() == nil:
		return
	}
	k := m.open(url)
	old := k.resources[r.GetName()]
	if old != nil && old.GetVersion() == r.GetVersion() && bytes.Equal(old.GetResource().GetValue(), r.GetResource().GetValue()) {
		return
	}
	m.forget(url, r.GetName())
	if m.count+1 > maxResources || m.size+weight(r) > maxBytes {
		m.over, k.complete = true, false
		return
	}
	k.resources[r.GetName()] = r
	m.count, m.size, m.unsaved = m.count+1, m.size+weight(r), true
}

func weight(r *discoveryv3.Resource) int { return len(r.GetResource().GetValue()) + len(r.GetName()) }

func (m *memory) forget(url, name string) {
	k := m.of(url)
	if old := k.resources[name]; old != nil {
		delete(k.resources, name)
		m.count, m.size, m.unsaved = m.count-1, m.size-weight(old), true
	}
}

// finish says that what is remembered of a type is all that there is.
func (m *memory) finish(url, version string) {
	if m.full || m.over {
		return
	}
	if k := m.open(url); !k.complete || k.version != version {
		k.complete, k.version, m.unsaved = true, version, true
	}
}

// empty reports whether nothing is known of the client.
func (m *memory) empty() bool { return len(m.types) == 0 }

// records are what a file holds.
func (m *memory) records() []xdsclient.Record {
	var list []xdsclient.Record
	for _, url := range slices.Sorted(maps.Keys(m.types)) {
		k := m.types[url]
		if k.complete {
			list = append(list, xdsclient.Record{URL: url, Name: everything, Version: k.version})
		}
		for _, name := range slices.Sorted(maps.Keys(k.resources)) {
			r := k.resources[name]
			if body, err := proto.Marshal(r); err == nil { // what was unmarshalled can be marshalled
				list = append(list, xdsclient.Record{URL: url, Name: name, Version: r.GetVersion(), Body: body})
			}
		}
	}
	return list
}

// restore takes over what a file held.
func (m *memory) restore(records []xdsclient.Record, at time.Time) {
	for _, record := range records {
		if record.Name == everything {
			m.finish(record.URL, record.Version)
			continue
		}
		r := new(discoveryv3.Resource)
		if proto.Unmarshal(record.Body, r) == nil {
			m.keep(record.URL, r)
		}
	}
	m.saved, m.unsaved = at, false
}

// save writes what has changed, unless that failed a moment ago; at the end it is tried in any case.
func (m *memory) save(now time.Time, end bool) error {
	m.mu.Lock()
	if m.files == nil || !m.unsaved || now.Before(m.retry) && !end {
		m.mu.Unlock()
		return nil
	}
	records := m.records()
	m.unsaved, m.saving = false, true
	m.mu.Unlock()
	err := m.files.Save(records, now)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.saving = false
	if err != nil {
		m.unsaved, m.retry = true, now.Add(saveRetry)
	} else {
		m.saved = now
	}
	return err
}
