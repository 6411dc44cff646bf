package xdsclient

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

const (
	cacheName     = "config.lkg"
	cacheMagic    = "breakwater-lkg\n"
	cacheSchema   = 1
	cachePrevious = 3 // how many older files are kept
	maxCache      = 1 << 30
)

// Cache keeps the last known good configuration in a directory, for a start without a control plane. A file holds a header with the
// schema, the node id and the time, then the resources, each field with its length before it, then the SHA-256 of it all. Only one
// process may use a directory.
type Cache struct {
	dir  string
	node string

	create func(path string) (cacheFile, error) // for tests of a disk that is full
}

type cacheFile interface {
	io.WriteCloser
	Sync() error
}

// NewCache is the cache of one node in dir, which need not exist yet.
func NewCache(dir, node string) *Cache {
	return &Cache{dir: dir, node: node, create: func(path string) (cacheFile, error) {
		return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	}}
}

// Saved is what a cache had.
type Saved struct {
	Resources dataplane.Resources // without Layers
	At        time.Time           // when it was saved
	Dropped   []dataplane.Fault   // of resources that this version of the agent can't enforce
}

// path of the file that was saved as the n-th before the newest.
func (c *Cache) path(n int) string {
	if n == 0 {
		return filepath.Join(c.dir, cacheName)
	}
	return filepath.Join(c.dir, fmt.Sprintf("%s.%d", cacheName, n))
}

// Load reads the newest file that is whole. Its error, of which errors.Is(err, os.ErrNotExist) says that there was none, tells what
// was wrong with the newer ones; the result is usable where it is not nil, whatever the error.
func (c *Cache) Load() (*Saved, error) {
	var faults []error
	for n := range cachePrevious + 1 {
		saved, err := c.read(c.path(n))
		if err == nil {
			return saved, errors.Join(faults...)
		}
		if !errors.Is(err, os.ErrNotExist) {
			faults = append(faults, fmt.Errorf("read %s: %w", c.path(n), err))
		}
	}
	if len(faults) == 0 {
		return nil, fmt.Errorf("%s: %w", c.dir, os.ErrNotExist)
	}
	return nil, errors.Join(faults...)
}

func (c *Cache) read(path string) (*Saved, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxCache {
		return nil, errors.New("it is too large")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return decodeCache(data, c.node)
}

// Save writes r as the newest file and keeps the three before. On an error, such as a disk that is full, those stay as they were.
func (c *Cache) Save(r dataplane.Resources, now time.Time) error {
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return err
	}
	tmp := c.path(0) + ".tmp"
	if err := c.write(tmp, encodeCache(r, c.node, now)); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", tmp, err), os.Remove(tmp))
	}
	for n := cachePrevious; n > 0; n-- { // a crash between two of these leaves a gap, over which Load steps
		if err := os.Rename(c.path(n-1), c.path(n)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if err := os.Rename(tmp, c.path(0)); err != nil {
		return err
	}
	return syncDir(c.dir)
}

func (c *Cache) write(path string, data []byte) error {
	f, err := c.create(path)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func encodeCache(r dataplane.Resources, node string, now time.Time) []byte {
	var b []byte
	field := func(s string) {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	b = append(b, cacheMagic...)
	b = binary.BigEndian.AppendUint32(b, cacheSchema)
	field(node)
	b = binary.BigEndian.AppendUint64(b, uint64(now.UnixNano()))
	b = binary.AppendUvarint(b, uint64(r.Len()))
	for t := range view.NumTypes {
		for _, name := range r.Names(t) {
			res := r.All(t)[name]
			field(t.URL())
			field(name)
			field(res.Version)
			field(string(res.Body))
		}
	}
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

// The faults of a file.
var (
	errDamaged = errors.New("it is damaged")
	errSchema  = errors.New("it was written by a version with another format")
)

func decodeCache(data []byte, node string) (*Saved, error) {
	end := len(data) - sha256.Size
	if end < len(cacheMagic) || !bytes.HasPrefix(data, []byte(cacheMagic)) {
		return nil, errDamaged
	}
	if sum := sha256.Sum256(data[:end]); !bytes.Equal(sum[:], data[end:]) {
		return nil, errDamaged
	}
	s := &scanner{rest: slices.Clip(data[len(cacheMagic):end])}
	if schema := s.fixed(4); !s.bad && binary.BigEndian.Uint32(schema) != cacheSchema {
		return nil, errSchema
	}
	if owner := s.field(); !s.bad && string(owner) != node {
		return nil, fmt.Errorf("it is of the node %q, not of %q", owner, node)
	}
	at := s.fixed(8)
	if s.bad {
		return nil, errDamaged
	}
	saved := &Saved{At: time.Unix(0, int64(binary.BigEndian.Uint64(at)))}
	changes := s.resources(&saved.Dropped)
	if s.bad || len(s.rest) > 0 {
		return nil, errDamaged
	}
	saved.Resources = saved.Resources.With(changes)
	return saved, nil
}

// scanner reads what encodeCache wrote. It stays bad.
type scanner struct {
	rest []byte
	bad  bool
}

func (s *scanner) resources(dropped *[]dataplane.Fault) []dataplane.Change {
	var changes []dataplane.Change
	for range s.count() {
		url, name, version, body := s.field(), s.field(), s.field(), s.field()
		if s.bad {
			return nil
		}
		t, known := view.FromURL(string(url))
		if !known {
			continue
		}
		id := view.ID{Type: t, Name: string(name)}
		res, faults := dataplane.Decode(id, string(version), body)
		*dropped = append(*dropped, faults...)
		if res != nil {
			changes = append(changes, dataplane.Change{ID: id, Now: res})
		}
	}
	return changes
}

func (s *scanner) count() uint64 {
	n, size := binary.Uvarint(s.rest)
	if size <= 0 || n > uint64(len(s.rest)) {
		s.bad = true
		return 0
	}
	s.rest = s.rest[size:]
	return n
}

func (s *scanner) field() []byte { return s.fixed(int(s.count())) }

func (s *scanner) fixed(n int) []byte {
	if s.bad || n > len(s.rest) {
		s.bad = true
		return nil
	}
	f := s.rest[:n:n]
	s.rest = s.rest[n:]
	return f
}
