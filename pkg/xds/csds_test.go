package xds

import (
	"fmt"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	statusv3 "github.com/envoyproxy/go-control-plane/envoy/service/status/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// clientStatus is what CSDS says of payments and billing on orders-1, by type and name, in short.
func (r *rig) clientStatus() map[string]string {
	r.t.Helper()
	answer, err := statusv3.NewClientStatusDiscoveryServiceClient(r.conn).FetchClientStatus(r.t.Context(), &statusv3.ClientStatusRequest{})
	if err != nil {
		r.t.Fatal(err)
	}
	if len(answer.GetConfig()) != 1 || answer.GetConfig()[0].GetNode().GetId() != "orders-1" {
		r.t.Fatalf("got %v, want orders-1 alone", answer)
	}
	all := make(map[string]string)
	for _, c := range answer.GetConfig()[0].GetGenericXdsConfigs() {
		typ, _ := view.FromURL(c.GetTypeUrl())
		text := c.GetConfigStatus().String() + " " + c.GetClientStatus().String()
		if e := c.GetErrorState(); e != nil {
			text += " " + e.GetDetails()
		}
		all[typ.String()+" "+c.GetName()] = text
	}
	return all
}

// await waits until CSDS says of a resource what is wanted.
func (r *rig) await(id, want string) {
	r.t.Helper()
	for {
		changed := r.server.Changed()
		if got := r.clientStatus()[id]; got == want {
			return
		}
		select {
		case <-changed:
		case <-r.t.Context().Done():
			r.t.Fatalf("%s is %q, want %q", id, r.clientStatus()[id], want)
		}
	}
}

func TestCSDSSaysHowFarEachResourceIs(t *testing.T) {
	r := newRig(t, shop{}.head(1), Config{})
	c := r.connect()
	c.start()
	for _, id := range []string{"CDS shop/payments", "EDS shop/billing", "LDS outbound", "SRDS payments.shop", "RDS shop/payments"} {
		r.await(id, "SYNCED ACKED")
	}
	r.classes.publish(shop{"RDS shop/payments": "2"}.head(2))
	m := c.expect("RDS shop/payments")
	r.await("RDS shop/payments", "STALE REQUESTED")
	r.classes.publish(shop{"RDS shop/payments": "2", "RDS shop/billing": "2"}.head(3))
	c.quiet()
	r.await("RDS shop/billing", "NOT_SENT REQUESTED") // one response of a type at a time
	c.nack(m, "shop/payments: no such thing")
	c.want("RDS shop/billing")
	r.await("RDS shop/billing", "SYNCED ACKED")
	r.await("RDS shop/payments", "ERROR NACKED shop/payments: no such thing")
	c.subscribe(view.RTDS, "nobody")
	c.want("RTDS nobody")
	r.await("RTDS nobody", "SYNCED DOES_NOT_EXIST")
}

func TestCSDSHasTheResources(t *testing.T) {
	head := shop{"CDS shop/payments": "mine"}.head(1)
	r := newRig(t, head, Config{})
	c := r.connect()
	c.start()
	g, err := statusv3.NewClientStatusDiscoveryServiceClient(r.conn).StreamClientStatus(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ask := func(q *statusv3.ClientStatusRequest) *statusv3.ClientConfig_GenericXdsConfig {
		t.Helper()
		if err := g.Send(q); err != nil {
			t.Fatal(err)
		}
		answer, err := g.Recv()
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range answer.GetConfig() {
			for _, x := range c.GetGenericXdsConfigs() {
				if x.GetName() == "shop/payments" && x.GetTypeUrl() == view.CDS.URL() {
					return x
				}
			}
		}
		return nil
	}
	node := func(m *matcherv3.StringMatcher) *statusv3.ClientStatusRequest {
		return &statusv3.ClientStatusRequest{NodeMatchers: []*matcherv3.NodeMatcher{{NodeId: m}}}
	}
	x := ask(node(&matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: "orders-1"}}))
	var got clusterv3.Cluster
	if err := x.GetXdsConfig().UnmarshalTo(&got); err != nil || got.GetAltStatName() != "mine" || x.GetVersionInfo() != head.Views[view.CDS].Get("shop/payments").Version {
		t.Errorf("%v, %v", err, x)
	}
	if x := ask(&statusv3.ClientStatusRequest{ExcludeResourceContents: true}); x == nil || x.GetXdsConfig() != nil || x.GetVersionInfo() == "" {
		t.Errorf("without contents: %v", x)
	}
	for want, m := range map[string]*matcherv3.StringMatcher{
		"true prefix":  {MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: "orders"}},
		"true case":    {IgnoreCase: true, MatchPattern: &matcherv3.StringMatcher_Suffix{Suffix: "S-1"}},
		"true part":    {MatchPattern: &matcherv3.StringMatcher_Contains{Contains: "ders"}},
		"true regex":   {MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: "orders-[0-9]"}}},
		"false regex":  {MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: "orders"}}},
		"false prefix": {MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: "web"}},
	} {
		if got := fmt.Sprint(ask(node(m)) != nil); !strings.HasPrefix(want, got) {
			t.Errorf("%s: matches %s", want, got)
		}
	}
	for _, q := range []*statusv3.ClientStatusRequest{
		{NodeMatchers: []*matcherv3.NodeMatcher{{NodeMetadatas: []*matcherv3.StructMatcher{{}}}}},
		node(&matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: "("}}}),
	} {
		_, err := statusv3.NewClientStatusDiscoveryServiceClient(r.conn).FetchClientStatus(t.Context(), q)
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "node_matchers") {
			t.Errorf("%v: %v, want it refused by field", q, err)
		}
	}
}
