package relay

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

var no = &rpcstatus.Status{Code: 3, Message: "no"}

// told is what is remembered of a type, as "name=version", sorted.
func (m *memory) told(url string) string {
	var list []string
	for name, r := range m.of(url).resources {
		list = append(list, name+"="+r.GetVersion())
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

func wants(t *testing.T, m *memory, url, want string) {
	t.Helper()
	if got := m.told(url); got != want {
		t.Errorf("remembered %q, want %q", got, want)
	}
}

func newDelta(m *memory) *delta { return &delta{subscriptions{memory: m}} }

// says has the server say resources, as "name=version" or "-name", and the client answer.
func (d *delta) says(url, nonce string, verdict *rpcstatus.Status, list ...string) {
	m := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: url, Nonce: nonce}
	for _, item := range list {
		if gone, ok := strings.CutPrefix(item, "-"); ok {
			m.RemovedResources = append(m.RemovedResources, gone)
			continue
		}
		name, version, _ := strings.Cut(item, "=")
		m.Resources = append(m.Resources, resourceOf(name, version))
	}
	d.hear(m)
	d.ask(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: url, ResponseNonce: nonce, ErrorDetail: verdict})
}

func TestDeltaRemembersWhatIsAccepted(t *testing.T) {
	m := newMemory("one", nil)
	m.streams = 1
	d := newDelta(m)
	d.ask(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds})
	d.says(cds, "1", nil, "a=1", "b=1")
	wants(t, m, cds, "a=1 b=1")
	d.says(cds, "2", no, "a=2", "-b")
	wants(t, m, cds, "a=1 b=1")
	d.says(cds, "3", nil, "-b")
	wants(t, m, cds, "a=1")
	d.ask(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds, ResponseNonce: "2"}) // stale
	wants(t, m, cds, "a=1")

	d.ask(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: eds, ResourceNamesSubscribe: []string{"a", "b"}})
	d.says(eds, "4", nil, "a=1", "b=1", "stranger=1")
	wants(t, m, eds, "a=1 b=1")
	d.ask(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: eds, ResourceNamesUnsubscribe: []string{"b"}})
	wants(t, m, eds, "a=1")
	m.streams = 2 // of one node: another may want it
	d.ask(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: eds, ResourceNamesUnsubscribe: []string{"a"}})
	wants(t, m, eds, "a=1")
}

// TestDeltaForgetsWhatAFreshStreamLeavesOut is a client that restarted: no server will say what was removed meanwhile.
func TestDeltaForgetsWhatAFreshStreamLeavesOut(t *testing.T) {
	m := newMemory("one", nil)
	m.streams = 1
	d := newDelta(m)
	d.ask(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds})
	d.says(cds, "1", nil, "a=1", "b=1")
	d.ask(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: eds, ResourceNamesSubscribe: []string{"a", "b"}})
	d.says(eds, "2", nil, "a=1", "b=1")

	again := newDelta(m)
	again.ask(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds})
	again.says(cds, "1", nil, "a=1")
	again.ask(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: eds, ResourceNamesSubscribe: []string{"a"}})
	wants(t, m, cds, "a=1 b=1") // the server may not be at its end
	again.settle()
	wants(t, m, cds, "a=1")
	wants(t, m, eds, "a=1 b=1") // it has said nothing of these yet
	again.says(eds, "2", nil, "a=1")
	again.settle()
	wants(t, m, eds, "a=1")

	back := newDelta(m) // a client that has it all, and a server that says nothing new
	back.ask(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds, InitialResourceVersions: map[string]string{"a": "1"}})
	back.says(cds, "1", nil)
	back.settle()
	wants(t, m, cds, "a=1")
}

func TestDeltaAnswersAnEmptyWorldOnlyWhereItKnows(t *testing.T) {
	m := newMemory("one", nil)
	d := newDelta(m)
	d.ask(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds})
	if got := d.due(); len(got) != 0 {
		t.Errorf("a stranger is told %v", got)
	}
	d.says(cds, "1", nil)
	d = newDelta(m)
	d.ask(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds})
	if got := d.due(); len(got) != 1 || len(got[0].GetResources())+len(got[0].GetRemovedResources()) != 0 {
		t.Errorf("who had nothing is told %v, want one empty response", got)
	}
	if got := d.due(); len(got) != 0 {
		t.Errorf("and then %v", got)
	}
}

func TestDeltaCutsLongAnswers(t *testing.T) {
	m := newMemory("one", nil)
	d := newDelta(m)
	d.ask(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds, ResourceNamesSubscribe: []string{everything}})
	for i := range 10 {
		m.keep(cds, resourceOf(fmt.Sprint(i), strings.Repeat("x", answerSize/4)))
	}
	m.finish(cds, "v")
	total := 0
	list := d.due()
	for _, r := range list {
		total += len(r.GetResources())
	}
	if total != 10 || len(list) < 3 || list[0].GetSystemVersionInfo() != "v" {
		t.Errorf("%d resources in %d responses", total, len(list))
	}
}

// TestDeltaWalk has a client accept, reject, reconnect and restart by chance. Memory is what the client has, always.
func TestDeltaWalk(t *testing.T) {
	for seed := range uint64(200) {
		chance := rand.New(rand.NewPCG(seed, 1))
		m := newMemory("one", nil)
		m.streams = 1
		d := newDelta(m)
		d.ask(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds})
		world, has := map[string]string{}, map[string]string{}
		for step := range 100 {
			name := fmt.Sprint("c", chance.IntN(6))
			nonce, version := fmt.Sprint("n", step), fmt.Sprint(step)
			switch chance.IntN(6) {
			case 0, 1:
				world[name] = version
				d.says(cds, nonce, nil, name+"="+version)
				has[name] = version
			case 2:
				delete(world, name)
				d.says(cds, nonce, nil, "-"+name)
				delete(has, name)
			case 3:
				d.says(cds, nonce, no, name+"="+version)
			case 4: // reconnects: what memory lacks is asked for anew
				d = newDelta(m)
				q := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds, InitialResourceVersions: maps.Clone(has)}
				d.ask(q)
				for name, version := range q.GetInitialResourceVersions() {
					if version != has[name] {
						t.Fatalf("seed %d: %s is asked for in version %q though memory has it", seed, name, version)
					}
				}
			case 5: // restarts without a control plane, then one is there
				d = newDelta(m)
				d.ask(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds})
				told := map[string]string{}
				for _, r := range d.due() {
					for _, res := range r.GetResources() {
						told[res.GetName()] = res.GetVersion()
					}
					d.ask(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds, ResponseNonce: r.GetNonce()})
				}
				if !maps.Equal(told, has) {
					t.Fatalf("seed %d: told %v, want %v", seed, told, has)
				}
			}
			var want []string
			for name, version := range has {
				want = append(want, name+"="+version)
			}
			slices.Sort(want)
			if got := m.told(cds); got != strings.Join(want, " ") {
				t.Fatalf("seed %d, step %d: remembered %q, want %q", seed, step, got, want)
			}
		}
		again := newMemory("one", nil)
		again.restore(m.records(), m.saved)
		if got := again.told(cds); got != m.told(cds) || again.of(cds).complete != m.of(cds).complete || again.size != m.size {
			t.Fatalf("seed %d: from disk %q, want %q", seed, got, m.told(cds))
		}
	}
}

func newSotw(m *memory) *sotw { return &sotw{subscriptions{memory: m}} }

// says has the server say clusters or assignments, and the client answer.
func (s *sotw) says(t *testing.T, url, version string, verdict *rpcstatus.Status, list ...string) {
	t.Helper()
	m := &discoveryv3.DiscoveryResponse{TypeUrl: url, Nonce: version, VersionInfo: version}
	for _, name := range list {
		body, err := anypb.New(clusterOf(name, 1)) // of any type field 1 is the name
		if err != nil {
			t.Fatal(err)
		}
		m.Resources = append(m.Resources, &anypb.Any{TypeUrl: url, Value: body.GetValue()})
	}
	s.hear(m)
	sub, _ := s.get(url)
	s.ask(&discoveryv3.DiscoveryRequest{TypeUrl: url, ResponseNonce: version, VersionInfo: version, ErrorDetail: verdict,
		ResourceNames: slices.Sorted(maps.Keys(sub.names))})
}

// dueNames are what is due, as "type: names version".
func (s *sotw) dueNames() []string {
	var list []string
	for _, m := range s.due() {
		var names []string
		for _, body := range m.GetResources() {
			names = append(names, named(body, "").GetName())
		}
		slices.Sort(names)
		typ, _ := view.FromURL(m.GetTypeUrl())
		list = append(list, fmt.Sprintf("%s: %s %s", typ, strings.Join(names, ","), m.GetVersionInfo()))
	}
	return list
}

func TestSotwRemembersWhatIsAccepted(t *testing.T) {
	m := newMemory("one", nil)
	s := newSotw(m)
	s.ask(&discoveryv3.DiscoveryRequest{TypeUrl: cds})
	s.says(t, cds, "1", nil, "a", "b")
	wants(t, m, cds, "a=1 b=1")
	s.says(t, cds, "2", no, "a")
	wants(t, m, cds, "a=1 b=1")
	s.says(t, cds, "3", nil, "a", "c") // what is left out is gone
	wants(t, m, cds, "a=3 c=3")

	s.ask(&discoveryv3.DiscoveryRequest{TypeUrl: eds, ResourceNames: []string{"a", "c"}})
	s.says(t, eds, "1", nil, "a", "c")
	s.says(t, eds, "2", nil, "c") // of this type that says nothing of the others
	wants(t, m, eds, "a=1 c=2")

	body, err := anypb.New(&discoveryv3.Resource{Name: "a", Ttl: durationpb.New(1), Resource: &anypb.Any{TypeUrl: eds}})
	if err != nil {
		t.Fatal(err)
	}
	s.hear(&discoveryv3.DiscoveryResponse{TypeUrl: eds, Nonce: "3", VersionInfo: "3", Resources: []*anypb.Any{body}})
	s.ask(&discoveryv3.DiscoveryRequest{TypeUrl: eds, ResponseNonce: "3", VersionInfo: "3", ResourceNames: []string{"a", "c"}})
	wants(t, m, eds, "c=2")
}

// TestSotwNamedClients are two programs with one node id: neither takes anything from the other.
func TestSotwNamedClients(t *testing.T) {
	m := newMemory("one", nil)
	one, two := newSotw(m), newSotw(m)
	one.ask(&discoveryv3.DiscoveryRequest{TypeUrl: cds, ResourceNames: []string{"a"}})
	two.ask(&discoveryv3.DiscoveryRequest{TypeUrl: cds, ResourceNames: []string{"b"}})
	one.says(t, cds, "1", nil, "a")
	two.says(t, cds, "2", nil, "b")
	wants(t, m, cds, "a=1 b=2")

	again := newSotw(m)
	again.ask(&discoveryv3.DiscoveryRequest{TypeUrl: cds, ResourceNames: []string{"a", "b", "never"}})
	if got := again.dueNames(); !slices.Equal(got, []string{"CDS: a,b " + notRemembered}) {
		t.Errorf("due %q, want both, in a version that no server has: they are of two", got)
	}
	all := newSotw(m)
	all.ask(&discoveryv3.DiscoveryRequest{TypeUrl: cds})
	if got := all.dueNames(); len(got) != 0 {
		t.Errorf("who wants everything is told %q, though nobody knows whether that is everything", got)
	}
}

func TestSotwAnswersFromMemory(t *testing.T) {
	m := newMemory("one", nil)
	s := newSotw(m)
	s.ask(&discoveryv3.DiscoveryRequest{TypeUrl: cds})
	s.says(t, cds, "7", nil, "a", "b")
	s.ask(&discoveryv3.DiscoveryRequest{TypeUrl: eds, ResourceNames: []string{"a", "b"}})
	s.says(t, eds, "8", nil, "a", "b")

	s = newSotw(m)
	q := &discoveryv3.DiscoveryRequest{TypeUrl: cds}
	s.ask(q)
	if got := s.dueNames(); !slices.Equal(got, []string{"CDS: a,b 7"}) {
		t.Errorf("due %q", got)
	}
	s.ask(&discoveryv3.DiscoveryRequest{TypeUrl: cds, ResponseNonce: "relay-1", VersionInfo: "7"})
	s.ask(&discoveryv3.DiscoveryRequest{TypeUrl: eds, ResourceNames: []string{"a"}})
	if got := s.dueNames(); !slices.Equal(got, []string{"EDS: a 8"}) {
		t.Errorf("due %q", got)
	}
	s.ask(&discoveryv3.DiscoveryRequest{TypeUrl: eds, ResponseNonce: "relay-2", VersionInfo: "8", ResourceNames: []string{"a"}})
	if got := s.dueNames(); len(got) != 0 {
		t.Errorf("due after all was accepted: %q", got)
	}
	s.ask(&discoveryv3.DiscoveryRequest{TypeUrl: eds, ResponseNonce: "relay-2", VersionInfo: "8", ResourceNames: []string{"a", "b"}})
	if got := s.dueNames(); !slices.Equal(got, []string{"EDS: b 8"}) {
		t.Errorf("due for one more name: %q", got)
	}
	s.ask(&discoveryv3.DiscoveryRequest{TypeUrl: eds, ResponseNonce: "relay-3", VersionInfo: "8", ResourceNames: []string{"a", "b"}})
	s.ask(&discoveryv3.DiscoveryRequest{TypeUrl: eds, ResponseNonce: "relay-3", VersionInfo: "8", ResourceNames: []string{"a", "b"}})
	if got := s.dueNames(); !slices.Equal(got, []string{"EDS: a,b 8"}) {
		t.Errorf("due for who asks for the same again, as Envoy does for clusters that warm: %q", got)
	}
	s.ask(&discoveryv3.DiscoveryRequest{TypeUrl: eds, ResponseNonce: "relay-4", ErrorDetail: no, ResourceNames: []string{"a", "b"}})
	if got := s.dueNames(); len(got) != 0 {
		t.Errorf("what the client rejects is said again: %q", got)
	}

	back := newSotw(m) // a client that has all
	q = &discoveryv3.DiscoveryRequest{TypeUrl: cds, VersionInfo: "7"}
	back.ask(q)
	if got := back.dueNames(); len(got) != 0 || q.GetVersionInfo() != "7" {
		t.Errorf("who has everything in version %q is told %q", q.GetVersionInfo(), got)
	}
	m.forget(eds, "b")
	q = &discoveryv3.DiscoveryRequest{TypeUrl: eds, VersionInfo: "8", ResourceNames: []string{"a", "b"}}
	back.ask(q)
	if q.GetVersionInfo() != "" {
		t.Error("a server is not asked for what memory lacks")
	}
}

// TestSotwSaysNoHalves does not answer with a part of what the client has: it would drop the rest.
func TestSotwSaysNoHalves(t *testing.T) {
	m := newMemory("one", nil)
	m.keep(cds, resourceOf("b", "1"))
	s := newSotw(m)
	s.ask(&discoveryv3.DiscoveryRequest{TypeUrl: cds, VersionInfo: "1", ResourceNames: []string{"a"}})
	s.ask(&discoveryv3.DiscoveryRequest{TypeUrl: cds, ResourceNames: []string{"a", "b"}})
	if got := s.due(); len(got) != 0 {
		t.Errorf("told %v, though a is not remembered and the client has it", got)
	}
}

func FuzzNamed(f *testing.F) {
	f.Add([]byte{0x0a, 1, 'a'}, false)
	f.Fuzz(func(t *testing.T, body []byte, wrapped bool) {
		a := &anypb.Any{TypeUrl: cds, Value: body}
		if wrapped {
			a.TypeUrl = "type.googleapis.com/envoy.service.discovery.v3.Resource"
		}
		named(a, "1") // must not panic, whatever a server says
	})
}
