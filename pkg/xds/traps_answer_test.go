package xds

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// A request with the nonce of an earlier stream, even a rejection, answers nothing: not as the first one, and not while a response of the same
// number is under way.
func TestTrap12_ANonceOfAnEarlierStreamMeansNothing(t *testing.T) {
	r := newRig(t, shop{}.head(1), Config{})
	t.Run("delta", func(t *testing.T) {
		a := r.connect()
		a.subscribe(view.LDS)
		old := a.expect("LDS outbound").Nonce
		a.stop()
		b := r.connect()
		late := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: view.LDS.URL(), Nonce: old}
		b.nack(late, "no")
		m := b.expect("LDS outbound")
		b.nack(late, "no")
		b.quiet()
		nothingRejected(t, r)
		b.ack(m)
		b.quiet()
	})
	t.Run("state of the world", func(t *testing.T) {
		s := r.connectWorld()
		s.ask(view.CDS, "1", "no", "shop/payments")
		m := s.want(view.CDS, "shop/payments")
		s.ask(view.CDS, "1", "no", "shop/payments")
		s.quiet()
		nothingRejected(t, r)
		s.ask(view.CDS, m.GetNonce(), "", "shop/payments")
		s.quiet()
	})
}

func nothingRejected(t *testing.T, r *rig) {
	t.Helper()
	for _, p := range r.server.Proxies() {
		for _, typ := range p.Types {
			if len(typ.Rejected) > 0 {
				t.Errorf("booked as rejected: %+v", typ.Rejected)
			}
		}
	}
}

// What a client of the state of the world says of versions is of no account: the nonce names the response, error_detail the rejection.
func TestTrap13_ErrorDetailAloneIsARejection(t *testing.T) {
	r := newRig(t, shop{}.head(1), Config{})
	s := r.connectWorld()
	s.node.UserAgentName = "gRPC Go"
	answer := func(m *discoveryv3.DiscoveryResponse, version string, no *rpcstatus.Status) {
		t.Helper()
		if err := s.stream.Send(&discoveryv3.DiscoveryRequest{TypeUrl: m.GetTypeUrl(), VersionInfo: version, ResponseNonce: m.GetNonce(),
			ResourceNames: []string{"shop/payments"}, ErrorDetail: no}); err != nil {
			t.Fatal(err)
		}
	}
	state := func() TypeState {
		s.quiet()
		return typeOf(t, r.server.Proxies()[0], view.CDS)
	}
	s.ask(view.CDS, "", "", "shop/payments")
	answer(s.want(view.CDS, "shop/payments"), "", nil)
	if got := state(); got.Acked != 1 || len(got.Rejected) != 0 {
		t.Errorf("an answer with another version and no error: %+v, want it accepted", got)
	}
	r.classes.publish(shop{"CDS shop/payments": "new"}.head(2))
	m := s.want(view.CDS, "shop/payments")
	answer(m, m.GetVersionInfo(), &rpcstatus.Status{Code: 3, Message: "no"})
	if got := state(); got.Acked != 0 || len(got.Rejected) != 1 {
		t.Errorf("an answer with the version and an error: %+v, want it rejected", got)
	}
}

// quiet is that of a client in delta.
func (s *worldStream) quiet() {
	s.t.Helper()
	s.probes++
	name := fmt.Sprint("probe-", s.probes)
	s.ask(view.RTDS, s.probe, "", name)
	s.probe = s.want(view.RTDS, name).GetNonce()
	s.silent(s.probe)
}

// A client that rejects whatever it gets is told once.
func TestTrap14_ARejectionIsNotAnsweredWithTheSame(t *testing.T) {
	r := newRig(t, shop{}.head(1), Config{})
	s := r.connectWorld()
	s.node.UserAgentName = "gRPC Go"
	s.ask(view.CDS, "", "", "shop/payments")
	m := s.want(view.CDS, "shop/payments")
	s.ask(view.CDS, m.GetNonce(), "no", "shop/payments")
	s.quiet()
	s.ask(view.CDS, m.GetNonce(), "no", "shop/payments")
	s.quiet()
}

// An Envoy that comes back while clusters warm asks for assignments and listeners, and not for clusters, until they are warm.
func TestTrap17_NothingWaitsForTheClustersOfAReconnect(t *testing.T) {
	r := newRig(t, shop{"LDS outbound": "new"}.head(2), Config{})
	c := r.connect()
	old := shop{}.head(1)
	c.resume(view.EDS, old, "shop/billing", "shop/payments")
	c.want("EDS shop/billing shop/payments")
	c.subscribe(view.LDS)
	c.want("LDS outbound")
	c.resume(view.RDS, old, "shop/billing", "shop/payments")
	c.quiet()
	c.resume(view.CDS, old)
	c.want("CDS")
	c.quiet()
}

// One bad resource among a hundred, named by nobody, costs the others nothing; and the endpoints of its service go on.
func TestTrap18_OneBadResourceHoldsUpNoOther(t *testing.T) {
	h := shop{}.head(1)
	for i := range 100 {
		with(h, view.CDS, fmt.Sprintf("shop/s%02d", i), "")
	}
	r := newRig(t, h, Config{})
	c := r.connect()
	c.subscribe(view.CDS)
	got := map[string]bool{}
	for len(got) < 101 {
		m := c.recv()
		names := strings.Fields(say(m))[1:]
		if slices.Contains(names, "shop/s42") {
			c.nack(m, "proto constraint validation failed")
			continue
		}
		for _, name := range names {
			got[name] = true
		}
		c.ack(m)
	}
	if got["shop/s42"] {
		t.Error("the bad one was accepted")
	}
}

// The routes and the cluster of a service are rejected: its endpoints still follow.
func TestTrap20_EndpointsFlowApartFromPolicy(t *testing.T) {
	r := newRig(t, shop{}.head(1), Config{})
	c := r.connect()
	c.start()
	bad := shop{"CDS shop/payments": "bad", "RDS shop/payments": "bad"}
	r.classes.publish(bad.head(2))
	m := c.expect("CDS shop/payments")
	c.want("EDS shop/payments")
	c.nack(c.expect("RDS shop/payments"), "no")
	c.nack(m, "no")
	c.quiet()
	bad["EDS shop/payments"] = "another endpoint"
	r.classes.publish(bad.head(3))
	c.want("EDS shop/payments")
	c.quiet()
}

// Who asks again may have lost what it had: if it rejects what it gets, it is told what it accepted last.
func TestTrap21_WhoRejectsTheAnswerGetsWhatItHad(t *testing.T) {
	first := shop{}.head(1)
	r := newRig(t, first, Config{})
	c := r.connect()
	c.start()
	r.classes.publish(shop{"RDS shop/billing": "new"}.head(2))
	m := c.expect("RDS shop/billing")
	r.classes.publish(shop{"RDS shop/billing": "new", "RDS shop/payments": "bad"}.head(3))
	c.subscribe(view.RDS, "shop/payments")
	c.ack(m)
	c.nack(c.expect("RDS shop/payments"), "no")
	m = c.expect("RDS shop/payments")
	if got, want := m.Resources[0].Version, first.Views[view.RDS].Get("shop/payments").Version; got != want {
		t.Errorf("told version %s, want %s, the one that was accepted", got, want)
	}
	c.ack(m)
	c.quiet()
}

// What was removed is subscribed to all the same: it is sent as it comes back, and as it changes.
func TestTrap22_WhatWasRemovedIsStillSubscribed(t *testing.T) {
	r := newRig(t, shop{}.head(1), Config{})
	c := r.connect()
	c.start()
	r.classes.publish(shop{"shop/billing": "gone"}.head(2))
	for _, line := range []string{"SRDS -billing.shop", "RDS -shop/billing", "CDS -shop/billing", "EDS -shop/billing"} {
		c.want(line)
	}
	r.answered()
	r.classes.publish(shop{}.head(3))
	m := c.expect("CDS shop/billing")
	c.want("EDS shop/billing")
	c.want("SRDS billing.shop")
	c.ack(m)
	c.want("RDS shop/billing")
	r.classes.publish(shop{"EDS shop/billing": "new", "RDS shop/billing": "new"}.head(4))
	c.want("EDS shop/billing")
	c.want("RDS shop/billing")
	c.quiet()
}

func TestTrap23_NothingComesAfterAnUnsubscription(t *testing.T) {
	r := newRig(t, shop{}.head(1), Config{})
	c := r.connect()
	c.subscribe(view.EDS, "shop/billing", "shop/payments")
	m := c.expect("EDS shop/billing shop/payments")
	r.classes.publish(shop{"EDS shop/billing": "new", "EDS shop/payments": "new"}.head(2)) // waits for the answer
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: view.EDS.URL(), ResourceNamesUnsubscribe: []string{"shop/billing"}})
	c.ack(m)
	c.want("EDS shop/payments")
	c.quiet()
	c.subscribe(view.EDS, "shop/billing")
	c.want("EDS shop/billing") // the accepted response brought it, and does not count
}

// A first request without names asks for everything, a later one for nothing more; and "*" can be taken back.
func TestTrap24_WildcardsOldAndNew(t *testing.T) {
	r := newRig(t, shop{}.head(1), Config{})
	t.Run("delta, no names", func(t *testing.T) {
		c := r.connect()
		c.subscribe(view.CDS)
		c.want("CDS shop/billing shop/payments")
		c.subscribe(view.CDS)
		c.quiet()
	})
	t.Run("delta, a name first", func(t *testing.T) {
		c := r.connect()
		c.subscribe(view.CDS, "shop/payments")
		c.want("CDS shop/payments")
		c.subscribe(view.CDS)
		c.quiet()
		c.subscribe(view.CDS, "*")
		var got []string
		for len(got) < 2 { // in one response, or once the first load is over in two
			got = append(got, strings.Fields(say(c.recv()))[1:]...)
		}
		if slices.Sort(got); !slices.Equal(got, []string{"shop/billing", "shop/payments"}) {
			t.Errorf("got %q, want both clusters", got)
		}
		c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: view.CDS.URL(), ResourceNamesUnsubscribe: []string{"*"}})
		c.quiet()
		r.classes.publish(shop{"CDS shop/billing": "new", "CDS shop/payments": "new"}.head(2))
		c.want("CDS shop/payments")
		c.quiet()
	})
	t.Run("state of the world", func(t *testing.T) {
		s := r.connectWorld()
		s.node.UserAgentName = "gRPC Go"
		s.ask(view.CDS, "", "", "shop/payments")
		m := s.want(view.CDS, "shop/payments")
		s.ask(view.CDS, m.GetNonce(), "") // a type for which it named something: now nothing
		r.classes.publish(shop{"CDS shop/billing": "newer", "CDS shop/payments": "newer"}.head(3))
		s.quiet()
	})
}

// Replicas number revisions and nonces each for itself: who moves from one to the other gets nothing that it has.
func TestTrap26_AClientThatMovesToAnotherReplicaGetsNothingAgain(t *testing.T) {
	a, b := newRig(t, shop{}.head(7), Config{}), newRig(t, shop{"EDS shop/billing": "new"}.head(1700), Config{})
	c := a.connect()
	c.start()
	c.stop()
	d := b.connect()
	d.resume(view.CDS, shop{}.head(0))
	d.want("CDS")
	d.resume(view.EDS, shop{}.head(0), "shop/billing", "shop/payments")
	d.want("EDS shop/billing")
	d.resume(view.RDS, shop{}.head(0), "shop/billing", "shop/payments")
	d.quiet()
}

// A proxy that reconnects tells the versions of all that it has: more than gRPC takes by itself. What it gets comes in pieces.
func TestTrap32_LargeMessages(t *testing.T) {
	r := newRig(t, big(1, 100), Config{})
	c := r.connect()
	known := map[string]string{}
	for i := range 60_000 {
		known[fmt.Sprintf("shop/%080d", i)] = "0123456789abcdef"
	}
	names := make([]string, 100)
	for i := range names {
		names[i] = fmt.Sprint("shop/s", i)
	}
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: view.EDS.URL(), ResourceNamesSubscribe: names, InitialResourceVersions: known})
	for got := 0; got < 100; { // a client that takes 4 MiB receives it
		m := c.recv()
		got += len(m.Resources)
		c.ack(m)
	}
}

// Streams come and go while heads are published and the server ends: nothing is sent where nobody listens any more.
func TestTrap33_StreamsEndWhileTheWorldGoesOn(t *testing.T) {
	r := newRig(t, shop{}.head(1), Config{})
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				one, end := context.WithCancel(ctx)
				node := ordersNode()
				node.Id = fmt.Sprintf("orders-%d-%d", i, n) // one that comes back too often is refused
				s, err := discoveryv3.NewAggregatedDiscoveryServiceClient(r.conn).DeltaAggregatedResources(one)
				if err == nil && s.Send(&discoveryv3.DeltaDiscoveryRequest{Node: node, TypeUrl: view.EDS.URL(), ResourceNamesSubscribe: []string{"shop/payments"}}) == nil && i%2 == 0 {
					_, _ = s.Recv()
				}
				end()
			}
		})
	}
	for rev := range int64(300) {
		r.classes.publish(shop{"EDS shop/payments": fmt.Sprint(rev)}.head(rev + 2))
		r.server.Proxies()
		r.server.Changed() // somebody waits, and may be gone when it is told
	}
	stop()
	all.Wait()
	c := r.connect()
	c.subscribe(view.LDS)
	c.want("LDS outbound")
}

// Whoever looks at the delivery of a revision reads which resource a proxy rejects and why, though the rejection named none of many.
func TestTrap35_ARejectionIsToldWithItsText(t *testing.T) {
	r := newRig(t, shop{"CDS shop/payments": "bad"}.head(1), Config{})
	c := r.connect()
	c.subscribe(view.CDS)
	c.nack(c.expect("CDS shop/billing shop/payments"), "constraint validation failed")
	c.want("CDS shop/billing")
	c.nack(c.expect("CDS shop/payments"), "constraint validation failed")
	c.quiet()
	d := r.delivery(1, view.ID{Type: view.CDS, Name: "shop/payments"})
	if d.State != Rejected || len(d.Rejected) != 1 || d.Rejected[0].ID.Name != "shop/payments" || d.Rejected[0].Text != "constraint validation failed" {
		t.Errorf("delivery is %+v, want the rejection of shop/payments", d)
	}
	if d := r.delivery(1, view.ID{Type: view.CDS, Name: "shop/billing"}); d.State != Acked {
		t.Errorf("the other one is %s, want acked", d.State)
	}
}

// A proxy that starts, and rejects what those before it reject too, has all but that one resource: nothing else is taken back or held up.
func TestTrap19_ARejectedResourceIsMissingAlone(t *testing.T) {
	r := newRig(t, shop{"RDS shop/payments": "bad"}.head(2), Config{})
	c := r.connect()
	c.subscribe(view.CDS)
	m := c.expect("CDS shop/billing shop/payments")
	c.subscribe(view.EDS, "shop/billing", "shop/payments")
	c.want("EDS shop/billing shop/payments")
	c.ack(m)
	c.subscribe(view.SRDS)
	c.want("SRDS billing.shop payments.shop")
	c.subscribe(view.RDS, "shop/billing", "shop/payments")
	c.nack(c.expect("RDS shop/billing shop/payments"), "route shop/payments is bad")
	c.want("RDS shop/billing")
	c.quiet()
	r.classes.publish(shop{}.head(3))
	c.want("RDS shop/payments")
	c.quiet()
}
