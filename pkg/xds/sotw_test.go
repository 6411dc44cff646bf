package xds

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3" // its messages can be told by their type
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"

	"github.com/breakwater-mesh/breakwater/pkg/view"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// worldClient is a gRPC client in plain maps: it wants some listeners by name, and then what they name. It takes the good part of a
// response that it rejects.
type worldClient struct {
	rng    *rand.Rand
	wanted [view.NumTypes]map[string]bool // nil: not asked for yet
	held   [view.NumTypes]map[string]*view.Resource
	nonce  [view.NumTypes]string
	out    []request
	faults []string
}

func newWorldClient(rng *rand.Rand) *worldClient {
	c := &worldClient{rng: rng}
	for t := range view.NumTypes {
		c.held[t] = map[string]*view.Resource{}
	}
	return c
}

// want changes what is asked for of a type.
func (c *worldClient) want(t view.Type, names map[string]bool) {
	if c.wanted[t] == nil && len(names) == 0 || c.wanted[t] != nil && maps.Equal(c.wanted[t], names) {
		return
	}
	c.wanted[t] = names
	maps.DeleteFunc(c.held[t], func(name string, _ *view.Resource) bool { return !names[name] })
	c.out = append(c.out, c.request(t))
}

func (c *worldClient) request(t view.Type) request {
	return request{typ: t, wanted: slices.Sorted(maps.Keys(c.wanted[t])), nonce: c.nonce[t]}
}

// follow asks for what the resources name.
func (c *worldClient) follow() {
	needs := func(of, t view.Type) map[string]bool {
		names := map[string]bool{}
		for _, r := range c.held[of] {
			for _, need := range r.Needs {
				if need.Type == t {
					names[need.Name] = true
				}
			}
		}
		return names
	}
	c.want(view.RDS, needs(view.LDS, view.RDS))
	c.want(view.CDS, needs(view.RDS, view.CDS))
	clusters := map[string]bool{}
	for name := range c.held[view.CDS] {
		clusters[name] = true
	}
	c.want(view.EDS, clusters)
}

func (c *worldClient) receive(m *response, head *view.View) {
	c.nonce[m.typ] = m.nonce
	there := map[string]bool{}
	var wrong []string
	for _, r := range m.set {
		if there[r.Name] {
			c.faults = append(c.faults, fmt.Sprintf("%v is there twice", r.ID()))
		}
		there[r.Name] = true
		switch {
		case bad(r):
			wrong = append(wrong, r.Name)
		case c.wanted[m.typ][r.Name]:
			c.held[m.typ][r.Name] = r
		}
	}
	if whole(m.typ) {
		for name := range c.held[m.typ] {
			if now := head.Get(name); !there[name] && now != nil && !bad(now) {
				c.faults = append(c.faults, fmt.Sprintf("%s %s is there, and a response of the whole leaves it out", m.typ, name))
			}
			if !there[name] {
				delete(c.held[m.typ], name)
			}
		}
	}
	reply := c.request(m.typ)
	if len(wrong) > 0 {
		reply.rejected, reply.text = true, "invalid: "+strings.Join(wrong, ", ")
	}
	c.out = append(c.out, reply)
	c.follow()
}

// worldHead is a town as gRPC clients see it: a listener for each host.
func (w *town) worldHead() *world.Head {
	h := *w.head()
	var listeners []*view.Resource
	for r := range h.Views[view.SRDS].All() {
		listeners = append(listeners, view.New(view.LDS, r.Name, []byte(r.Needs[0].Name), r.Needs))
	}
	h.Views[view.LDS], h.Views[view.SRDS], h.Views[view.RTDS] = view.Of(listeners...), nil, nil
	return &h
}

// dial changes the listeners that the client wants.
func (c *worldClient) dial(w *town) {
	names := maps.Clone(c.wanted[view.LDS])
	if names == nil {
		names = map[string]bool{}
	}
	for range 1 + c.rng.IntN(3) {
		name := fmt.Sprintf("s%d.ns", c.rng.IntN(len(w.services)))
		if c.rng.IntN(4) == 0 {
			name = "alias0"
		}
		if names[name] {
			delete(names, name)
		} else {
			names[name] = true
		}
	}
	c.want(view.LDS, names)
	c.follow()
}

// Whatever a client of the state of the world rejects, drops or asks for, it ends up with what the head has for it, and nothing that
// exists is ever taken away from it.
func TestRandomWalkInTheStateOfTheWorld(t *testing.T) {
	first, last := uint64(0), uint64(*walks/2)
	if *walkSeed != 0 {
		first, last = *walkSeed, *walkSeed
	}
	for seed := first; seed <= last; seed++ {
		rng := rand.New(rand.NewPCG(seed, 2))
		w, c := newTown(rng), newWorldClient(rng)
		head, now := w.worldHead(), time.Unix(1000, 0)
		connect := func() *state {
			s := newState(testLimits, false, now)
			s.world = true
			return s
		}
		s := connect()
		var in []*response
		var of []*view.View // what they were made of: as much of the head as the server knew to be wanted
		speak := func() bool {
			m := s.next(head, now)
			if m != nil {
				in, of = append(in, m), append(of, view.Of(slices.DeleteFunc(slices.Collect(head.Views[m.typ].All()),
					func(r *view.Resource) bool { return !s.subs[m.typ].has(r.Name) })...))
			}
			return m != nil
		}
		listen := func() bool {
			if len(in) == 0 {
				return false
			}
			c.receive(in[0], of[0])
			in, of = in[1:], of[1:]
			return true
		}
		hear := func() bool {
			if len(c.out) == 0 {
				return false
			}
			if err := s.request(c.out[0], head, now); err != nil {
				t.Fatalf("walk %d: %v", seed, err)
			}
			c.out = c.out[1:]
			return true
		}
		c.dial(w)
		for range 20 + rng.IntN(300) {
			switch n := rng.IntN(100); {
			case n < 30:
				speak()
			case n < 60:
				listen()
			case n < 88:
				hear()
			case n < 94:
				w.edit()
				head = w.worldHead()
			case n < 98:
				c.dial(w)
			default:
				in, of, c.out, s = nil, nil, nil, connect()
				for typ := range view.NumTypes {
					if c.wanted[typ] != nil {
						c.nonce[typ] = ""
						c.out = append(c.out, c.request(typ))
					}
				}
			}
		}
		for n := 0; speak() || listen() || hear(); n++ {
			if n > 20000 {
				t.Fatalf("walk %d: no end of responses\n%s", seed, s)
			}
		}
		if len(c.faults) > 0 {
			t.Fatalf("walk %d: %v\n%s", seed, c.faults, s)
		}
		for _, typ := range []view.Type{view.LDS, view.RDS, view.CDS, view.EDS} {
			for name := range c.wanted[typ] {
				want, got := head.Views[typ].Get(name), c.held[typ][name]
				switch {
				case want == nil && got != nil && whole(typ) && !w.evil: // a route that is rejected leaves one in force that needs it
					t.Fatalf("walk %d: %s %s is held and no longer exists\n%s", seed, typ, name, s)
				case want != nil && !bad(want) && (got == nil || got.Version != want.Version):
					t.Fatalf("walk %d: %s %s: got %v, want %s\n%s", seed, typ, name, got, want.Version, s)
				}
			}
		}
	}
}

// worldStream is a client of the state of the world, message by message.
type worldStream struct {
	*client
	stream discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesClient
	probes int
	probe  string // nonce of the last answer to quiet
}

func (r *rig) connectWorld() *worldStream {
	r.t.Helper()
	s, err := discoveryv3.NewAggregatedDiscoveryServiceClient(r.conn).StreamAggregatedResources(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return &worldStream{client: &client{t: r.t, server: r.server, node: ordersNode()}, stream: s}
}

func (s *worldStream) ask(t view.Type, nonce, fault string, names ...string) {
	s.t.Helper()
	q := &discoveryv3.DiscoveryRequest{TypeUrl: t.URL(), ResourceNames: names, ResponseNonce: nonce, Node: s.node}
	s.node = nil
	if fault != "" {
		q.ErrorDetail = &rpcstatus.Status{Code: int32(codes.InvalidArgument), Message: fault}
	}
	if err := s.stream.Send(q); err != nil {
		s.t.Fatal(err)
	}
}

// want receives a response and compares its resources, by name.
func (s *worldStream) want(t view.Type, names ...string) *discoveryv3.DiscoveryResponse {
	s.t.Helper()
	m, got := s.recv()
	if m.GetTypeUrl() != t.URL() || !slices.Equal(got, names) || m.GetVersionInfo() == "" || m.GetNonce() == "" {
		s.t.Fatalf("got %s %v, version %q, want %s %v", m.GetTypeUrl(), got, m.GetVersionInfo(), t.URL(), names)
	}
	return m
}

// recv receives a response, and tells the names of its resources.
func (s *worldStream) recv() (m *discoveryv3.DiscoveryResponse, got []string) {
	s.t.Helper()
	m, err := s.stream.Recv()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, r := range m.GetResources() {
		r, err := r.UnmarshalNew()
		if err != nil {
			s.t.Fatal(err)
		}
		switch r := r.(type) {
		case interface{ GetName() string }:
			got = append(got, r.GetName())
		case interface{ GetClusterName() string }:
			got = append(got, r.GetClusterName())
		}
	}
	slices.Sort(got)
	return m, got
}

func TestStateOfTheWorldOnTheWire(t *testing.T) {
	r := newRig(t, shop{}.head(1), Config{})
	s := r.connectWorld()
	s.node.UserAgentName = "gRPC Go"
	s.ask(view.CDS, "", "", "shop/payments")
	m := s.want(view.CDS, "shop/payments")
	s.ask(view.CDS, m.GetNonce(), "", "shop/payments", "shop/billing")
	s.want(view.CDS, "shop/billing", "shop/payments") // the whole, though one of them is known
	s.ask(view.EDS, "", "", "shop/payments")
	m = s.want(view.EDS, "shop/payments")
	s.ask(view.EDS, m.GetNonce(), "", "shop/payments", "shop/billing")
	m = s.want(view.EDS, "shop/billing") // each for itself
	s.ask(view.EDS, m.GetNonce(), "", "shop/payments", "shop/billing")
	s.ask(view.EDS, m.GetNonce(), "", "shop/payments", "shop/billing")      // Envoy's way to ask again
	for left := []string{"shop/billing", "shop/payments"}; len(left) > 0; { // in one response, or once the first load is over in two
		m, got := s.recv()
		if m.GetTypeUrl() != view.EDS.URL() || len(got) == 0 || len(got) > len(left) || !slices.Equal(got, left[:len(got)]) {
			t.Fatalf("got %s %v, want some of %s %v", m.GetTypeUrl(), got, view.EDS.URL(), left)
		}
		left = left[len(got):]
		s.ask(view.EDS, m.GetNonce(), "", "shop/payments", "shop/billing")
	}
	p := r.server.Proxies()
	if len(p) != 1 || p[0].Dialect != "grpc" || p[0].Profile != "grpc" {
		t.Errorf("the book has %+v, want one gRPC client", p)
	}
}

// A response is all there is, so that what was not accepted yet must not be in it while one bad resource is looked for.
func TestTrap18_OneBadResourceIsFoundInTheStateOfTheWorld(t *testing.T) {
	h := shop{"CDS shop/payments": "bad"}.head(1)
	want := []string{"shop/billing"}
	for i := range 10 {
		want = append(want, fmt.Sprint("shop/s", i))
		with(h, view.CDS, want[i+1], "")
	}
	r := newRig(t, h, Config{})
	s := r.connectWorld()
	s.ask(view.CDS, "", "")
	m, got := s.recv()
	for !slices.Equal(got, want) {
		fault := ""
		if slices.Contains(got, "shop/payments") {
			fault = "proto constraint validation failed"
		}
		s.ask(view.CDS, m.GetNonce(), fault)
		m, got = s.recv()
	}
	s.ask(view.CDS, m.GetNonce(), "")
	s.quiet()
	if no := typeOf(t, r.server.Proxies()[0], view.CDS).Rejected; len(no) != 1 || no[0].ID.Name != "shop/payments" {
		t.Errorf("rejected is %+v, want shop/payments alone", no)
	}
}

// A cluster needs its assignment once more. One that was rejected is not said again for that.
func TestTrap14_ARejectedAssignmentDoesNotFollowItsCluster(t *testing.T) {
	r := newRig(t, shop{"EDS shop/payments": "bad"}.head(1), Config{})
	s := r.connectWorld()
	s.ask(view.CDS, "", "")
	clusters := s.want(view.CDS, "shop/billing", "shop/payments")
	both := []string{"shop/billing", "shop/payments"}
	s.ask(view.EDS, "", "", both...)
	m := s.want(view.EDS, both...)
	s.ask(view.EDS, m.GetNonce(), "shop/payments: no", both...)
	m = s.want(view.EDS, "shop/billing")
	s.ask(view.EDS, m.GetNonce(), "", both...)
	s.ask(view.CDS, clusters.GetNonce(), "")
	s.quiet()
	r.classes.publish(shop{"CDS shop/billing": "new", "CDS shop/payments": "new", "EDS shop/payments": "bad"}.head(2))
	s.want(view.CDS, both...)
	m = s.want(view.EDS, "shop/billing")
	s.ask(view.EDS, m.GetNonce(), "", both...)
	s.quiet()
}

func TestARejectionInTheStateOfTheWorldIsBooked(t *testing.T) {
	r := newRig(t, shop{}.head(1), Config{})
	s := r.connectWorld()
	s.node.UserAgentName = "gRPC Go"
	s.ask(view.CDS, "", "", "shop/payments", "shop/billing")
	m := s.want(view.CDS, "shop/billing", "shop/payments")
	s.ask(view.CDS, m.GetNonce(), "shop/billing: no", "shop/payments", "shop/billing")
	s.ask(view.CDS, m.GetNonce(), "", "shop/payments", "shop/billing", "shop/nobody")
	s.want(view.CDS, "shop/payments") // the good one was taken and stays, the other one is not sent again
	changed := r.server.Changed()
	for {
		if p := r.server.Proxies(); len(p) == 1 && len(p[0].Types[0].Rejected) == 1 {
			if got := p[0].Types[0].Rejected[0]; got.ID.Name != "shop/billing" || got.Text != "shop/billing: no" {
				t.Errorf("booked %+v", got)
			}
			return
		}
		<-changed
		changed = r.server.Changed()
	}
}
