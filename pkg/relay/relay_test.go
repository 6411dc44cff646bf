package relay

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

var cds, eds = view.CDS.URL(), view.EDS.URL()

func names(m *discoveryv3.DeltaDiscoveryResponse) []string {
	var list []string
	for _, r := range m.GetResources() {
		list = append(list, r.GetName())
	}
	slices.Sort(list)
	return list
}

// knows waits until so many resources are remembered.
func (r *running) knows(t *testing.T, n int64) {
	t.Helper()
	eventually(t, func() string {
		if got := r.stat("relay.remembered_resources"); got != n {
			return "remembered: " + strings.Repeat("|", int(got))
		}
		return ""
	})
}

// known is the client "one", which has accepted what there is of each type: so many resources in all.
func (r *running) known(t *testing.T, resources int64, urls ...string) *deltaClient {
	t.Helper()
	c := dialDelta(t, r.address, "one", nil, urls...)
	for range urls {
		c.accept(c.next())
	}
	r.knows(t, resources)
	return c
}

// TestServesWhatWasAccepted loses the control plane under a client, which hears nothing of it; another life of that client gets what
// the first accepted, also from a relay that was restarted.
func TestServesWhatWasAccepted(t *testing.T) {
	w, p := newWorld(t)
	w.set(t, "one", "1", map[string]int64{"a": 1, "b": 1})
	dir := t.TempDir()
	r := startRelay(t, dir, p.address)
	c := r.known(t, 4, cds, eds)
	w.set(t, "one", "2", map[string]int64{"a": 2, "b": 1}) // rejected: not remembered
	bad := c.next()
	c.reject(bad)
	r.from(t, false)

	p.leave()
	r.from(t, true)
	c.quiet(300 * time.Millisecond)

	for _, life := range []string{"the client restarted", "the relay too"} {
		again := dialDelta(t, r.address, "one", nil, cds, eds)
		first, second := again.next(), again.next()
		if first.GetTypeUrl() != cds || second.GetTypeUrl() != eds {
			t.Fatalf("%s: %s before %s, want the order in which it asks", life, first.GetTypeUrl(), second.GetTypeUrl())
		}
		for _, m := range []*discoveryv3.DeltaDiscoveryResponse{first, second} {
			if got := names(m); !slices.Equal(got, []string{"a", "b"}) || len(m.GetRemovedResources()) != 0 {
				t.Errorf("%s: got %v, removed %v", life, got, m.GetRemovedResources())
			}
			again.accept(m)
		}
		for _, res := range first.GetResources() {
			if res.GetVersion() != c.has[cds][res.GetName()] || res.GetName() == "a" && res.GetVersion() == bad.GetResources()[0].GetVersion() {
				t.Errorf("%s: %s in version %s, want the accepted %s", life, res.GetName(), res.GetVersion(), c.has[cds][res.GetName()])
			}
		}
		again.quiet(100 * time.Millisecond)
		again.hangUp()
		r.stop()
		r = startRelay(t, dir, p.address)
	}
}

// TestStopsBeforeItServes is no error, whichever of the two comes first.
func TestStopsBeforeItServes(t *testing.T) {
	for range 100 {
		startRelay(t, "", "127.0.0.1:1").stop()
	}
}

// TestComesBackWithoutResending ends the client's stream once there is a server again, to which its next stream goes.
func TestComesBackWithoutResending(t *testing.T) {
	w, p := newWorld(t)
	w.set(t, "one", "1", map[string]int64{"a": 1, "b": 1})
	r := startRelay(t, t.TempDir(), p.address)
	c := r.known(t, 4, cds, eds)
	p.leave()
	r.from(t, true)
	if n := w.takeSent(); n != 4 {
		t.Fatalf("%d resources sent, want 4", n)
	}
	p.comeBack()
	if err := c.ended(); status.Code(err) != codes.Unavailable {
		t.Errorf("ended with %v, want Unavailable", err)
	}
	again := dialDelta(t, r.address, "one", c.has, cds, eds)
	r.from(t, false)
	w.set(t, "one", "2", map[string]int64{"a": 1, "b": 2})
	if m := again.next(); len(m.GetResources()) > 0 && !slices.Equal(names(m), []string{"b"}) {
		t.Errorf("got %v, want what changed", names(m))
	}
	if n := w.takeSent(); n > 1 {
		t.Errorf("%d resources sent, want only the one that changed", n)
	}
}

// TestSubscribesWithoutAControlPlane answers from memory as the client goes on asking.
func TestSubscribesWithoutAControlPlane(t *testing.T) {
	w, p := newWorld(t)
	w.set(t, "one", "1", map[string]int64{"a": 1, "b": 1})
	r := startRelay(t, "", p.address)
	c := r.known(t, 4, cds, eds)
	c.hangUp()
	p.leave()
	c = dialDelta(t, r.address, "one", map[string]map[string]string{cds: c.has[cds]}, cds)
	c.quiet(300 * time.Millisecond) // it has everything of that
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: eds, ResourceNamesSubscribe: []string{"a", "never"}})
	if m := c.next(); !slices.Equal(names(m), []string{"a"}) || len(m.GetRemovedResources()) != 0 {
		t.Errorf("got %v, want a alone", m)
	} else {
		c.reject(m)
	}
	c.quiet(200 * time.Millisecond) // what was rejected is not said again
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: eds, ResourceNamesSubscribe: []string{"b"}})
	if m := c.next(); !slices.Equal(names(m), []string{"b"}) {
		t.Errorf("got %v, want b", m)
	}
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: eds, ResourceNamesSubscribe: []string{"b"}, ResponseNonce: "stale"})
	c.quiet(100 * time.Millisecond) // b is under way
	if n := r.stat("relay.responses_from_memory"); n != 2 {
		t.Errorf("%d responses from memory, want 2", n)
	}
}

// TestAStrangerWaits holds the stream of a client of which nothing is known.
func TestAStrangerWaits(t *testing.T) {
	w, p := newWorld(t)
	w.set(t, "one", "1", map[string]int64{"a": 1})
	p.leave()
	r := startRelay(t, t.TempDir(), p.address)
	c := dialDelta(t, r.address, "one", nil, cds, eds)
	c.quiet(500 * time.Millisecond)
	if n := r.stat("relay.streams_from_memory"); n != 0 || r.stat("relay.streams") != 1 {
		t.Errorf("%d streams from memory", n)
	}
	p.comeBack()
	if err := c.ended(); status.Code(err) != codes.Unavailable {
		t.Errorf("ended with %v, want Unavailable", err)
	}
}

// TestWhatMemoryHasNotIsSentAgain puts a relay between a client and a server that know each other: the server is asked for what the
// relay never saw, and still says what is gone.
func TestWhatMemoryHasNotIsSentAgain(t *testing.T) {
	w, p := newWorld(t)
	w.set(t, "one", "1", map[string]int64{"a": 1, "b": 1})
	c := dialDelta(t, p.address, "one", nil, cds, eds)
	c.accept(c.next())
	c.accept(c.next())
	c.hangUp()
	w.set(t, "one", "2", map[string]int64{"a": 1})
	r := startRelay(t, t.TempDir(), p.address)
	has := maps.Clone(c.has[cds])
	c = dialDelta(t, r.address, "one", map[string]map[string]string{cds: has}, cds)
	m := c.next()
	c.accept(m)
	if !slices.Equal(names(m), []string{"a"}) || !slices.Equal(m.GetRemovedResources(), []string{"b"}) {
		t.Errorf("got %v, removed %v; want a again and b gone", names(m), m.GetRemovedResources())
	}
	r.knows(t, 1)
}

func TestDamagedMemoryFallsBack(t *testing.T) {
	w, p := newWorld(t)
	w.set(t, "one", "1", map[string]int64{"a": 1, "b": 1})
	dir := t.TempDir()
	r := startRelay(t, dir, p.address)
	c := r.known(t, 4, cds, eds)
	file := filepath.Join(r.book.folder("one"), "config.lkg")
	eventually(t, func() string {
		if n := newBook(dir, hclog.NewNullLogger()).open("one", time.Now()).count; n != 4 {
			return fmt.Sprintf("%d resources are in the file", n)
		}
		return ""
	})
	w.set(t, "one", "2", map[string]int64{"a": 1, "b": 1, "c": 1})
	c.accept(c.next())
	r.knows(t, 5)
	r.stop()
	p.leave()
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, mode %v; want 0600", err, info.Mode())
	}
	if err := os.Truncate(file, info.Size()/2); err != nil {
		t.Fatal(err)
	}
	r = startRelay(t, dir, p.address)
	again := dialDelta(t, r.address, "one", nil, cds)
	if got := names(again.next()); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("got %v, want those of the file before", got)
	}
}

func TestStopEndsStreams(t *testing.T) {
	w, p := newWorld(t)
	w.set(t, "one", "1", map[string]int64{"a": 1})
	r := startRelay(t, "", p.address)
	c := dialDelta(t, r.address, "one", nil, cds)
	c.accept(c.next())
	silent := dialDelta(t, r.address, "one", nil)
	begun := time.Now()
	r.stop()
	if err := c.ended(); status.Code(err) != codes.Unavailable {
		t.Errorf("ended with %v, want Unavailable", err)
	}
	silent.ended()
	if took := time.Since(begun); took > patience {
		t.Errorf("the relay took %v to stop", took)
	}
}
