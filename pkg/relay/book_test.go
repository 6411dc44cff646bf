package relay

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/hashicorp/go-hclog"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
)

func resourceOf(name, version string) *discoveryv3.Resource {
	return &discoveryv3.Resource{Name: name, Version: version, Resource: &anypb.Any{TypeUrl: cds, Value: []byte(version)}}
}

// TestManyNodes come and go; the one that stays is kept, and so are the last.
func TestManyNodes(t *testing.T) {
	for _, dir := range []string{"", t.TempDir()} {
		b := newBook(dir, hclog.NewNullLogger())
		now := time.Now()
		stays := b.open("stays", now)
		stays.keep(cds, resourceOf("a", "1"))
		for i := range 3 * maxNodes {
			now = now.Add(time.Second)
			m := b.open(fmt.Sprint("node-", i), now)
			m.keep(cds, resourceOf("a", "1"))
			b.close(m, now)
			b.save(now, false)
			if dir != "" { // the disk's clock is not the test's
				if err := os.Chtimes(b.folder(m.node), now, now); err != nil {
					t.Fatal(err)
				}
			}
		}
		if n := len(b.memories); n > maxNodes {
			t.Errorf("%q: %d memories, want %d at most", dir, n, maxNodes)
		}
		if entries, err := os.ReadDir(dir); dir != "" && (err != nil || len(entries) > maxNodes) {
			t.Errorf("%d directories, %v; want %d at most", len(entries), err, maxNodes)
		}
		for node, want := range map[string]int{"stays": 1, fmt.Sprint("node-", 3*maxNodes-1): 1, "node-0": 0} {
			if got := b.open(node, now).count; got != want {
				t.Errorf("%q: %d resources are remembered of %s, want %d", dir, got, node, want)
			}
		}
	}
}

func TestTooManyAtOnceAreNotRemembered(t *testing.T) {
	b := newBook("", hclog.NewNullLogger())
	for i := range maxNodes {
		b.open(fmt.Sprint(i), time.Now())
	}
	m := b.open("one more", time.Now())
	m.keep(cds, resourceOf("a", "1"))
	if m.count != 0 || len(b.memories) != maxNodes {
		t.Errorf("%d resources of %d nodes", m.count, len(b.memories))
	}
}

// TestAFailedSaveIsTriedAgain has a directory that can't be made.
func TestAFailedSaveIsTriedAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	b := newBook(dir, hclog.NewNullLogger())
	now := time.Now()
	m := b.open("one", now)
	m.keep(cds, resourceOf("a", "1"))
	b.save(now, false)
	b.save(now.Add(saveRetry/2), false)
	if n := b.failures.Load(); n != 1 {
		t.Errorf("%d failures, want 1: a full disk is not tried all the time", n)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	b.save(now.Add(2*saveRetry), false)
	if n := newBook(dir, hclog.NewNullLogger()).open("one", now).count; n != 1 || m.saved.IsZero() {
		t.Errorf("%d resources on disk, want 1", n)
	}
}

func TestWhatIsNotRemembered(t *testing.T) {
	m := newMemory("one", nil)
	m.keep(cds, resourceOf("a", "1"))
	m.keep(cds, &discoveryv3.Resource{Name: "a", Version: "1"}) // a heartbeat
	if m.of(cds).resources["a"].GetResource() == nil {
		t.Error("a heartbeat took the place of what it keeps alive")
	}
	r := resourceOf("a", "2")
	r.Ttl = durationpb.New(time.Minute)
	m.keep(cds, r)
	if m.count != 0 || m.size != 0 {
		t.Errorf("%d resources of %d bytes are left of one that lives a minute", m.count, m.size)
	}
	m.finish(cds, "1")
	for i := range maxResources + 1 {
		m.keep(cds, resourceOf(fmt.Sprint(i), "1"))
	}
	if m.count != maxResources || m.of(cds).complete {
		t.Errorf("%d resources, complete %v; want %d, and no claim that they are all", m.count, m.of(cds).complete, maxResources)
	}
}
