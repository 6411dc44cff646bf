package xdsclient

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// orders1 is whose configuration is saved.
var orders1 = Node{ID: "orders-1", Cluster: "orders.shop"}

// numbered is a small configuration that tells itself apart by n.
func numbered(t *testing.T, n int) dataplane.Resources {
	t.Helper()
	key := map[string]*structpb.Value{"upstream.maintenance_mode.shop/payments": structpb.NewNumberValue(float64(n))}
	body, err := proto.Marshal(&runtimev3.Runtime{Name: "limits-0", Layer: &structpb.Struct{Fields: key}})
	if err != nil {
		t.Fatal(err)
	}
	id := view.ID{Type: view.RTDS, Name: "limits-0"}
	r, faults := dataplane.Decode(id, strconv.Itoa(n), body)
	if r == nil {
		t.Fatal(faults)
	}
	return dataplane.Resources{}.With([]dataplane.Change{{ID: id, Now: r}})
}

// number is the n that s was made with, or -1.
func number(s *Saved) int {
	if s == nil {
		return -1
	}
	r := s.Resources.Get(view.ID{Type: view.RTDS, Name: "limits-0"})
	if r == nil {
		return -1
	}
	n, _ := strconv.Atoi(r.Version)
	return n
}

func savedCache(t *testing.T, numbers ...int) *Cache {
	t.Helper()
	c := NewCache(filepath.Join(t.TempDir(), "state"), orders1)
	for _, n := range numbers {
		if err := c.Save(numbered(t, n), time.Unix(int64(n), 0)); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// file is what the n-th file before the newest holds.
func (c *Cache) file(n int) (*Saved, error) {
	data, err := os.ReadFile(c.files.path(n))
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(c.files.path(n))
	if err != nil {
		return nil, err
	}
	only := &Cache{NewFiles(c.files.dir+"-alone", c.files.owner)}
	if err := os.MkdirAll(only.files.dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(only.files.path(0), data, 0o600); err != nil {
		return nil, err
	}
	if err := os.Chtimes(only.files.path(0), info.ModTime(), info.ModTime()); err != nil {
		return nil, err
	}
	return only.Load()
}

func TestCacheKeepsThreeBefore(t *testing.T) {
	c := savedCache(t, 1, 2, 3, 4, 5, 6)
	for n, want := range []int{6, 5, 4, 3} {
		saved, err := c.file(n)
		if err != nil || number(saved) != want || saved.At.Unix() != int64(want) {
			t.Errorf("file %d holds %d (%v), want %d", n, number(saved), err, want)
		}
		if info, err := os.Stat(c.files.path(n)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("file %d: mode %v, %v", n, info.Mode(), err)
		}
	}
	files, _ := os.ReadDir(c.files.dir)
	if len(files) != 4 {
		t.Errorf("%d files are left, want 4: %v", len(files), files)
	}
	if saved, err := c.Load(); err != nil || number(saved) != 6 {
		t.Errorf("loaded %d, %v", number(saved), err)
	}
}

// TestDamageFallsBack flips every bit of the newest file, and cuts it at every length.
func TestDamageFallsBack(t *testing.T) {
	c := savedCache(t, 1, 2)
	whole, err := os.ReadFile(c.files.path(0))
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, at int, data []byte) {
		t.Helper()
		if err := os.WriteFile(c.files.path(0), data, 0o600); err != nil {
			t.Fatal(err)
		}
		saved, err := c.Load()
		if number(saved) != 1 || err == nil {
			t.Fatalf("%s at %d: loaded %d, %v; want the file before, and why", what, at, number(saved), err)
		}
	}
	for i := range whole {
		for bit := range 8 {
			data := append([]byte(nil), whole...)
			data[i] ^= 1 << bit
			check("flip", i, data)
		}
		check("cut", i, whole[:i])
	}
	check("more", len(whole), append(append([]byte(nil), whole...), 0))
}

func TestNothingToLoad(t *testing.T) {
	c := NewCache(filepath.Join(t.TempDir(), "none"), orders1)
	if saved, err := c.Load(); saved != nil || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v, %v", saved, err)
	}
	c = savedCache(t, 1)
	for _, other := range []Node{{ID: "orders-2", Cluster: "orders.shop"}, {ID: "orders-1", Cluster: "orders.test"}, {ID: "orders-1", Cluster: "billing.shop"}} {
		if saved, err := NewCache(c.files.dir, other).Load(); saved != nil || err == nil || !strings.Contains(err.Error(), `it is of "node orders-1 of orders.shop", not of`) {
			t.Errorf("the file of %+v, asked for by %+v: %v, %v", orders1, other, saved, err)
		}
	}
	if err := os.Rename(c.files.path(0), c.files.path(2)); err != nil { // as after a crash between two renames
		t.Fatal(err)
	}
	if saved, err := c.Load(); number(saved) != 1 || err != nil {
		t.Errorf("over a gap: %d, %v", number(saved), err)
	}
}

// fullDisk takes some bytes and no more.
type fullDisk struct {
	*os.File
	room int
	sync bool
}

func (f fullDisk) Write(b []byte) (int, error) {
	if len(b) > f.room {
		n, _ := f.File.Write(b[:f.room])
		return n, syscall.ENOSPC
	}
	return f.File.Write(b)
}

func (f fullDisk) Sync() error {
	if f.sync {
		return syscall.ENOSPC
	}
	return f.File.Sync()
}

func TestFullDiskKeepsTheOld(t *testing.T) {
	for _, full := range []fullDisk{{room: 0}, {room: 40}, {room: 1 << 20, sync: true}} {
		c := savedCache(t, 1, 2)
		c.files.create = func(path string) (writable, error) {
			f, err := os.Create(path)
			full.File = f
			return full, err
		}
		if err := c.Save(numbered(t, 3), time.Unix(3, 0)); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("room %d: saved: %v", full.room, err)
		}
		if saved, err := c.Load(); number(saved) != 2 || err != nil {
			t.Errorf("room %d: loaded %d, %v", full.room, number(saved), err)
		}
		files, _ := os.ReadDir(c.files.dir)
		if len(files) != 2 {
			t.Errorf("room %d: left behind %v", full.room, files)
		}
	}
}

func FuzzCache(f *testing.F) {
	f.Add([]byte(filesMagic))
	f.Fuzz(func(t *testing.T, body []byte) {
		s := &scanner{rest: body}
		s.records() // must not panic, whatever a sum vouches for
	})
}
