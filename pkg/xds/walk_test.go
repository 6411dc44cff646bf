package xds

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/internal/testkit/race"
	"github.com/breakwater-mesh/breakwater/pkg/view"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

var (
	walks    = flag.Int("walks", race.Rounds(2000), "number of random walks")
	walkSeed = flag.Uint64("walkseed", 0, "run this one walk")
)

var testLimits = limits{names: 10000, unanswered: time.Minute, warming: 90 * time.Second, hold: 5 * time.Second, linger: time.Second, response: 1 << 10}

// town is a made-up configuration: services with a cluster, an assignment, a route configuration and a scope each, and aliases.
type town struct {
	rng      *rand.Rand
	rev      int64
	services []house
	past     map[int]house // of each, what it was before it was changed last
	aliases  []int         // service that an alias names, -1: none
	layers   [2]int
	listener int
	evil     bool // some resources are invalid
}

type house struct {
	exists           bool
	cluster, hosts   string
	routes           string
	splits           int // another service that the routes use, -1: none
	spare            int // another service that calls fall back to, by a composite over both; -1: none
	second           bool
	secondary, scope string
}

func (w *town) content() string {
	w.rev++
	if w.evil && w.rng.IntN(6) == 0 {
		return fmt.Sprintf("bad%d", w.rev)
	}
	return fmt.Sprintf("v%d", w.rng.IntN(4)) // versions return
}

func newTown(rng *rand.Rand) *town {
	w := &town{rng: rng, services: make([]house, 1+rng.IntN(7)), past: map[int]house{}, aliases: []int{-1, -1, -1}, evil: rng.IntN(2) == 0}
	if rng.IntN(8) == 0 {
		w.services = make([]house, 70) // more than a batch
	}
	for i := range w.services {
		w.services[i].splits, w.services[i].spare = -1, -1
		if rng.IntN(3) > 0 {
			w.build(i)
		}
	}
	return w
}

func (w *town) build(i int) {
	w.services[i] = house{exists: true, cluster: w.content(), hosts: w.content(), routes: w.content(), scope: "v", splits: -1, spare: -1, secondary: w.content()}
}

// edit changes one to three things at once.
func (w *town) edit() {
	w.rev++
	for range 1 + w.rng.IntN(3) {
		i := w.rng.IntN(len(w.services))
		h := &w.services[i]
		was := *h
		switch w.rng.IntN(15) {
		case 0:
			h.exists = false
		case 1:
			w.build(i)
		case 2:
			h.cluster = w.content()
		case 3:
			h.hosts = w.content()
		case 4:
			h.routes = w.content()
		case 5, 6:
			h.splits = w.rng.IntN(len(w.services)+1) - 1
			h.routes = w.content()
		case 7, 8:
			h.second = !h.second
			h.routes = w.content()
		case 9, 10:
			w.aliases[w.rng.IntN(len(w.aliases))] = w.rng.IntN(len(w.services)+1) - 1
		case 11:
			w.layers[w.rng.IntN(2)]++
			w.listener = w.rng.IntN(3)
		case 12, 13:
			h.spare = w.rng.IntN(len(w.services)+1) - 1
			h.routes = w.content()
		case 14: // as where a policy is in quarantine: all of it goes back
			*h = w.past[i]
		}
		w.past[i] = was
	}
}

func (w *town) head() *world.Head {
	var all [view.NumTypes][]*view.Resource
	add := func(t view.Type, name, content string, needs ...view.ID) {
		r := view.New(t, name, fmt.Append(nil, name, content, needs), needs)
		r.Prompt = t == view.CDS && !strings.HasSuffix(content, "3") // of the others the health of hosts is checked
		all[t] = append(all[t], r)
	}
	add(view.LDS, "outbound", fmt.Sprint(w.listener))
	for i, n := range w.layers {
		add(view.RTDS, fmt.Sprint("limits-", i), fmt.Sprint(n))
	}
	for i, h := range w.services {
		if !h.exists {
			continue
		}
		name := fmt.Sprint("ns/s", i)
		add(view.CDS, name, h.cluster)
		add(view.EDS, name, h.hosts)
		needs := []view.ID{{Type: view.CDS, Name: name}}
		if h.spare >= 0 && h.spare != i && w.services[h.spare].exists {
			spare := fmt.Sprint("ns/s", h.spare)
			add(view.CDS, name+"~"+spare, "", view.ID{Type: view.CDS, Name: name}, view.ID{Type: view.CDS, Name: spare})
			needs[0].Name += "~" + spare
		}
		if h.splits >= 0 && h.splits != i && w.services[h.splits].exists {
			needs = append(needs, view.ID{Type: view.CDS, Name: fmt.Sprint("ns/s", h.splits)})
		}
		if h.second {
			add(view.CDS, name+"|two", h.secondary)
			add(view.EDS, name+"|two", h.hosts)
			needs = append(needs, view.ID{Type: view.CDS, Name: name + "|two"})
		}
		add(view.RDS, name, h.routes, needs...)
		add(view.SRDS, fmt.Sprintf("s%d.ns", i), h.scope, view.ID{Type: view.RDS, Name: name})
	}
	for a, i := range w.aliases {
		if i >= 0 && w.services[i].exists {
			add(view.SRDS, fmt.Sprintf("alias%d", a), "", view.ID{Type: view.RDS, Name: fmt.Sprint("ns/s", i)})
		}
	}
	h := &world.Head{Rev: w.rev}
	for t := range view.NumTypes {
		h.Views[t] = view.Of(all[t]...)
	}
	return h
}

// walk is one random conversation.
type walk struct {
	*testing.T
	rng    *rand.Rand
	town   *town
	head   *world.Head
	limits limits
	state  *state
	proxy  *reference
	in     []*response // on its way to the proxy

	courses *courses

	now  time.Time
	sent int
	deaf int // steps for which the proxy does not read

	alone  map[string]*view.Resource // responses of one resource, by nonce
	latest map[view.ID]string        // nonce of what was said last of a resource
	blamed map[view.ID]string        // versions that were rejected alone, since when nothing else was said of it
}

func newWalk(t *testing.T, seed uint64) *walk { return newWalkIn(t, seed, false) }

// newWalkIn is a conversation in delta, or in the state of the world.
func newWalkIn(t *testing.T, seed uint64, world bool) *walk {
	rng := rand.New(rand.NewPCG(seed, 1))
	w := &walk{T: t, rng: rng, town: newTown(rng), proxy: newReference(rng, world), limits: testLimits, now: time.Unix(1000, 0)}
	w.limits.response = []int{0, 1 << 10, responseBytes}[seed%3]
	w.courses = &courses{eager: seed%4 > 0, most: w.limits.response} // otherwise few are laid
	w.head = w.town.head()
	w.connect()
	return w
}

func (w *walk) connect() {
	w.state = newState(w.limits, true, w.now)
	w.state.courses, w.state.world = w.courses, w.proxy.world != nil
	w.alone, w.latest, w.blamed = map[string]*view.Resource{}, map[view.ID]string{}, map[view.ID]string{}
}

// hear lets the server take one request, speak one response, and the proxy act.
func (w *walk) hear() bool {
	if len(w.proxy.out) == 0 {
		return false
	}
	q := w.proxy.out[0]
	w.trace("hears %s +%v -%v nonce=%s rejected=%v %q known=%v", q.typ, q.subscribe, q.unsubscribe, q.nonce, q.rejected, q.text, q.known)
	w.proxy.out = w.proxy.out[1:]
	if r := w.alone[q.nonce]; r != nil && q.rejected && w.latest[r.ID()] == q.nonce {
		w.blamed[r.ID()] = r.Version
	}
	for _, name := range slices.Concat(q.subscribe, q.wanted) {
		if !w.state.subs[q.typ].has(name) { // a new subscription may ask for it
			delete(w.blamed, view.ID{Type: q.typ, Name: name})
		}
	}
	if err := w.state.request(q, w.head, w.now); err != nil {
		w.Fatalf("request %+v: %v", q, err)
	}
	return true
}

func (w *walk) speak() bool {
	rests := w.state.atRest(w.head)
	m := w.state.next(w.head, w.now)
	if m == nil {
		return false
	}
	if rests {
		w.Fatalf("the state rests, but says %s %s", m.typ, describe(m))
	}
	w.sent++
	w.trace("says %s %s", m.typ, describe(m))
	w.in = append(w.in, m)
	if len(m.set) == 1 {
		w.alone[m.nonce] = m.set[0]
	}
	for _, name := range m.gone {
		w.latest[view.ID{Type: m.typ, Name: name}] = m.nonce
		if m.typ != view.EDS || w.head.Views[view.EDS].Get(name) == nil { // there it may just be the answer "there is none"
			delete(w.blamed, view.ID{Type: m.typ, Name: name})
		}
	}
	for _, r := range m.set {
		if w.blamed[r.ID()] == r.Version {
			w.proxy.fault("%v %s was rejected alone and is sent again", r.ID(), r.Version)
		}
		delete(w.blamed, r.ID())
		w.latest[r.ID()] = m.nonce
	}
	for t := range view.NumTypes {
		if n, most := len(w.state.subs[t].flights), 1+63*b2i(t == view.CDS); n > most {
			w.Fatalf("%d unanswered responses of %s, at most %d", n, t, most)
		}
	}
	return true
}

func (w *walk) listen() bool {
	if len(w.in) == 0 || w.deaf > 0 {
		return false
	}
	m := w.in[0]
	w.in = w.in[1:]
	w.trace("proxy takes %s %s", m.typ, describe(m))
	w.proxy.receive(m)
	return true
}

func (w *walk) act() bool {
	if !w.proxy.dirty {
		return false
	}
	w.proxy.settle()
	return true
}

func (w *walk) step() {
	w.deaf = max(0, w.deaf-1)
	switch n := w.rng.IntN(100); {
	case n < 24:
		w.speak()
	case n < 48:
		w.listen()
	case n < 60:
		w.act()
	case n < 84:
		w.hear()
	case n < 90:
		w.town.edit()
		w.head = w.town.head()
	case n < 92:
		w.proxy.fidget()
	case n < 93:
		if len(w.in) > 0 {
			return // a response that crosses the request would be no server's fault
		}
		w.proxy.lose()
		for w.hear() {
		}
	case n < 95:
		w.trace("reconnect")
		w.in, w.deaf = nil, 0
		if w.rng.IntN(2) == 0 {
			w.head = w.town.head() // of another replica, which made it for itself
		}
		w.connect()
		w.proxy.reconnect()
	case n < 96:
		w.deaf = w.rng.IntN(60)
	default:
		w.now = w.now.Add(time.Duration(w.rng.IntN(300)) * time.Millisecond)
	}
}

// calm runs everything until nobody has anything to say, a few times, with time for holds to end in between.
func (w *walk) calm() {
	w.sent, w.deaf = 0, 0
	for range 6 {
		for w.speak() || w.listen() || w.act() || w.hear() {
			if w.sent > 5000 {
				w.Fatalf("no end of responses\n%s", w.state)
			}
		}
		w.now = w.now.Add(6 * time.Second)
		w.proxy.tire()
	}
}

// trace tells the story of a single walk.
func (w *walk) trace(format string, args ...any) {
	if *walkSeed != 0 {
		w.Logf(format, args...)
	}
}

func describe(m *response) string {
	out := "nonce=" + m.nonce
	for _, r := range m.set {
		out += " " + r.Name + "@" + r.Version[:4]
		if bad(r) {
			out += "(bad)"
		}
	}
	return fmt.Sprint(out, " gone=", m.gone)
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Whatever is rejected, dropped, asked for again or reconnected, a proxy ends up with exactly the head, minus what it rejects, and
// no rule of order is ever broken on the way.
func TestRandomWalk(t *testing.T) { randomWalks(t, uint64(*walks), false) }

// The same in the state of the world, where a response is all there is: what is not said again is gone.
func TestRandomWalkThroughGatesInTheStateOfTheWorld(t *testing.T) {
	randomWalks(t, uint64(*walks/2), true)
}

func randomWalks(t *testing.T, last uint64, world bool) {
	t.Helper()
	first := uint64(1)
	if *walkSeed != 0 {
		first, last = *walkSeed, *walkSeed
	}
	steps := 0
	for seed := first; seed <= last; seed++ {
		w := newWalkIn(t, seed, world)
		for range 20 + w.rng.IntN(400) {
			w.step()
			w.check(seed)
			steps++
		}
		w.calm()
		w.check(seed)
		w.checkEnd(seed)
	}
	t.Logf("seeds %d to %d, %d steps", first, last, steps)
}

func (w *walk) check(seed uint64) {
	if len(w.proxy.faults) > 0 {
		w.Fatalf("walk %d: %v\n%s", seed, w.proxy.faults, w.state)
	}
}

// checkEnd compares what the proxy holds with the head, from the proxy's side alone.
func (w *walk) checkEnd(seed uint64) {
	c := w.proxy
	fail := func(format string, args ...any) {
		w.Fatalf("walk %d: %s\n%s", seed, fmt.Sprintf(format, args...), w.state)
	}
	if len(c.warming) > 0 || w.state.unanswered() > 0 {
		fail("still warming: %v, unanswered: %d", c.warming, w.state.unanswered())
	}
	for name := range c.empty {
		if r := w.head.Views[view.EDS].Get(name); r != nil && !bad(r) && c.wants(r.ID()) {
			fail("cluster %s serves without hosts", name)
		}
	}
	for t := range view.NumTypes {
		clean := true
		for r := range w.head.Views[t].All() {
			if bad(r) {
				clean = false
			}
			if !c.wants(r.ID()) {
				continue
			}
			got := c.held[t][r.Name]
			if t == view.CDS && w.town.evil && got != nil {
				got = c.reported[r.Name] // what it took from a rejected response it hides after a reconnect; no server can know
			}
			if (got == nil || got.Version != r.Version) && !bad(r) && !w.blocked(r) {
				fail("%v: got %.60s, want %s", r.ID(), fmt.Sprint(got), r.Version)
			}
			clean = clean && !w.blocked(r)
		}
		for name, r := range c.held[t] {
			if w.head.Views[t].Get(name) == nil && !w.keeps(r) {
				fail("%v is held and no longer exists", r.ID())
			}
		}
		sub := &w.state.subs[t]
		if resting := sub.sent == w.head.Views[t] && sub.acked == sub.sent && len(sub.force)+len(sub.rejected)+len(sub.held) == 0; clean && sub.open && !resting && !w.town.evil {
			fail("%s is not at rest", t)
		}
	}
}

// blocked reports whether r rightly waits: something that it needs was rejected and is not there.
func (w *walk) blocked(r *view.Resource) bool {
	for _, need := range r.Needs {
		if need.Type == view.CDS && w.proxy.accepted(need) {
			continue // of routes a server may not know that they were applied, in a response that was rejected
		}
		if it := w.head.Views[need.Type].Get(need.Name); bad(it) || w.blocked(it) {
			return true
		}
	}
	return false
}

// keeps reports whether r, which does not exist any more, is rightly kept: an old resource still needs it, since the new one was
// rejected or waits.
func (w *walk) keeps(r *view.Resource) bool {
	if r.Type == view.EDS || r.Type == view.RTDS {
		return w.proxy.wanted[r.Type][r.Name]
	}
	if !w.town.evil {
		return false
	}
	if r.Type == view.CDS && w.proxy.reported[r.Name] == nil {
		return true // the good part of a rejected response: after a reconnect the proxy does not tell of it
	}
	for name := range w.proxy.wanted[view.RDS] {
		if w.proxy.held[view.RDS][name] == nil {
			return true // it lost that one, and has not got it again: the new one waits
		}
	}
	for _, t := range [...]view.Type{view.SRDS, view.RDS} {
		for name, old := range w.proxy.held[t] {
			if now := w.head.Views[t].Get(name); now == nil || now.Version != old.Version {
				return true
			}
		}
	}
	return false
}

// At rest a stream holds the head's own views and nothing else, and a look at what there is to say allocates nothing.
func TestAStreamAtRestHasNoEntryForAResource(t *testing.T) {
	w := newWalk(t, 3)
	w.town.evil, w.town.services = false, make([]house, 300)
	for i := range w.town.services {
		w.town.build(i)
	}
	w.head = w.town.head()
	w.calm()
	w.town.edit()
	w.head = w.town.head()
	w.calm()
	for typ := range view.NumTypes {
		sub, head := &w.state.subs[typ], w.head.Views[typ]
		if typ != view.RTDS && sub.names != nil && sub.names != head {
			t.Errorf("%s has a set of names of its own", typ)
		}
		if sub.sent != head || sub.acked != head || sub.force != nil || sub.rejected != nil || sub.held != nil {
			t.Errorf("%s is not at rest\n%s", typ, w.state)
		}
	}
	if n := testing.AllocsPerRun(100, func() { w.state.next(w.head, w.now) }); n != 0 {
		t.Errorf("next allocates %v times at rest, want 0", n)
	}
}

// A walk that goes on for ever rejecting everything must come to rest too.
func TestTrap14_AProxyThatRejectsEverythingIsLeftAlone(t *testing.T) {
	w := newWalk(t, 7)
	w.town.services = make([]house, 120)
	for i := range w.town.services {
		w.town.build(i)
	}
	w.head = w.town.head()
	for range 20000 {
		if w.hear() {
			continue
		}
		m := w.state.next(w.head, w.now)
		if m == nil {
			return
		}
		w.sent++
		w.proxy.out = append(w.proxy.out, request{typ: m.typ, nonce: m.nonce, rejected: true, text: "no"})
		if m.typ == view.CDS {
			w.proxy.subscribe(view.EDS, map[string]bool{"ns/s1": true, "ns/s2": true})
		}
	}
	t.Errorf("%d responses, and no end", w.sent)
}
