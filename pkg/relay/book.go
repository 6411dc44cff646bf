package relay

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/breakwater-mesh/breakwater/pkg/xdsclient"
)

const (
	maxNodes  = 64 // remembered: those of one host, and some that were
	saveDelay = 200 * time.Millisecond
	saveRetry = 10 * time.Second // after it failed, such as on a full disk
)

// book holds the memories. Those of clients that are gone are dropped once they are on disk, or where there is none, when others
// need the room.
type book struct {
	dir string // "": no disk
	log hclog.Logger

	failures atomic.Int64 // to save

	mu       sync.Mutex
	memories map[string]*memory // guarded by mu, by node id
}

func newBook(dir string, log hclog.Logger) *book {
	return &book{dir: dir, log: log, memories: make(map[string]*memory)}
}

// folder is where a node's files are: any string can be an id, and not any a name of a file.
func (b *book) folder(node string) string {
	sum := sha256.Sum256([]byte(node))
	return filepath.Join(b.dir, hex.EncodeToString(sum[:]))
}

// open is the memory of a node, for one more stream.
func (b *book) open(node string, now time.Time) *memory {
	b.mu.Lock()
	defer b.mu.Unlock()
	m := b.memories[node]
	if m == nil {
		m = b.load(node)
		if b.room(); node == "" || len(b.memories) >= maxNodes {
			m.full = true
		} else {
			b.memories[node] = m
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.streams++
	m.used = now
	return m
}

func (b *book) load(node string) *memory {
	if b.dir == "" || node == "" {
		return newMemory(node, nil)
	}
	folder := b.folder(node)
	m := newMemory(node, xdsclient.NewFiles(folder, node))
	records, at, err := m.files.Load()
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		b.log.Error("what a client accepted can't be read", "node", node, "error", err)
	}
	if !at.IsZero() {
		m.restore(records, at)
		_ = os.Chtimes(folder, time.Time{}, time.Now()) // used last
	}
	return m
}

// room drops memories of clients that are gone, the longest first, and the files of those.
func (b *book) room() {
	var gone []*memory
	for _, m := range b.memories {
		m.mu.Lock()
		if m.streams == 0 {
			gone = append(gone, m)
		}
		m.mu.Unlock()
	}
	slices.SortFunc(gone, func(a, c *memory) int { return a.used.Compare(c.used) })
	for len(b.memories) >= maxNodes && len(gone) > 0 {
		delete(b.memories, gone[0].node)
		gone = gone[1:]
	}
	if b.dir != "" {
		b.sweep()
	}
}

// sweep removes the files of nodes that nobody has used for the longest time, where there are too many.
func (b *book) sweep() {
	entries, err := os.ReadDir(b.dir)
	if err != nil || len(entries) < maxNodes {
		return
	}
	live := make(map[string]bool)
	for node := range b.memories {
		live[filepath.Base(b.folder(node))] = true
	}
	type idle struct {
		name string
		used time.Time
	}
	var list []idle
	for _, e := range entries {
		if info, err := e.Info(); err == nil && !live[e.Name()] {
			list = append(list, idle{e.Name(), info.ModTime()})
		}
	}
	slices.SortFunc(list, func(a, c idle) int { return cmp.Or(a.used.Compare(c.used), cmp.Compare(a.name, c.name)) })
	for _, i := range list[:min(len(list), len(entries)-maxNodes+1)] {
		if err := os.RemoveAll(filepath.Join(b.dir, i.name)); err != nil {
			b.log.Error("what an old client accepted is not removed", "error", err)
		}
	}
}

// close ends one stream's use of m.
func (b *book) close(m *memory, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.streams--
	m.used = now
}

// keep saves what changed, some time after it did, until ctx ends.
func (b *book) keep(ctx context.Context, wakes <-chan struct{}) {
	retry := time.NewTicker(saveRetry)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-retry.C:
		case <-wakes:
		}
		delay := time.NewTimer(saveDelay)
		select {
		case <-ctx.Done():
			delay.Stop()
			return
		case <-delay.C:
		}
		b.save(time.Now(), false)
	}
}

// save writes every memory that changed, and drops those that nobody uses.
func (b *book) save(now time.Time, end bool) {
	b.mu.Lock()
	list := make([]*memory, 0, len(b.memories))
	for _, m := range b.memories {
		list = append(list, m)
	}
	b.mu.Unlock()
	for _, m := range list {
		if err := m.save(now, end); err != nil {
			b.failures.Add(1)
			b.log.Error("what a client accepted is not saved; the file before stays", "node", m.node, "error", err)
		}
		b.drop(m)
	}
}

func (b *book) drop(m *memory) {
	b.mu.Lock()
	defer b.mu.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.files != nil && m.streams == 0 && !m.unsaved {
		delete(b.memories, m.node)
	}
}

func (b *book) stats(add func(name string, value int64)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var resources, size, unsaved int64
	for _, m := range b.memories {
		m.mu.Lock()
		resources, size = resources+int64(m.count), size+int64(m.size)
		if m.files != nil && (m.unsaved || m.saving) {
			unsaved++
		}
		m.mu.Unlock()
	}
	add("relay.nodes", int64(len(b.memories)))
	add("relay.remembered_resources", resources)
	add("relay.remembered_bytes", size)
	add("relay.unsaved_nodes", unsaved)
	add("relay.save_failures", b.failures.Load())
}
