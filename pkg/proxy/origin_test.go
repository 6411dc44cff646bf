package proxy

import (
	"net/http"
	"net/netip"
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
)

func TestWhoARequestIsFrom(t *testing.T) {
	ten := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	const peer = "10.9.9.9:1234"
	for _, tt := range []struct {
		name, xff      string
		trust          dataplane.Trust
		remote         string
		internal, edge bool
	}{
		{"nothing is said", "", dataplane.Trust{InternalRanges: ten}, peer, false, false},
		{"one internal hop", "10.0.0.1", dataplane.Trust{InternalRanges: ten}, "10.0.0.1:0", true, false},
		{"two hops", "10.0.0.1, 10.0.0.2", dataplane.Trust{InternalRanges: ten}, "10.0.0.2:0", false, false},
		{"no address", "nonsense", dataplane.Trust{InternalRanges: ten}, peer, false, false},
		{"one hop of outside", "8.8.8.8", dataplane.Trust{InternalRanges: ten}, "8.8.8.8:0", false, false},
		{"an address of IPv6, private", "fd00::1", dataplane.Trust{Private: true}, "[fd00::1]:0", true, false},
		{"not private", "fc00::1", dataplane.Trust{Private: true}, "[fc00::1]:0", false, false},
		{"a trusted hop is left out", "8.8.8.8,10.0.0.2", dataplane.Trust{Hops: 1, InternalRanges: ten}, "8.8.8.8:0", false, false},
		{"who connects, internal", "", dataplane.Trust{RemoteAddress: true, InternalRanges: ten}, peer, true, false},
		{"who connects, from outside", "", dataplane.Trust{RemoteAddress: true}, peer, false, true},
		{"who connects has passed it on", "10.0.0.1", dataplane.Trust{RemoteAddress: true, InternalRanges: ten}, peer, false, true},
		{"before a trusted proxy", "1.1.1.1,2.2.2.2", dataplane.Trust{RemoteAddress: true, Hops: 2}, "1.1.1.1:0", false, true},
		{"fewer hops than are trusted", "1.1.1.1", dataplane.Trust{RemoteAddress: true, Hops: 2}, peer, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &http.Request{RemoteAddr: peer, Header: http.Header{}}
			if tt.xff != "" {
				r.Header.Set(forwardedFor, tt.xff)
			}
			o := originOf(r, &tt.trust)
			if o.remote != tt.remote || o.internal != tt.internal || o.edge != tt.edge {
				t.Errorf("got %s, internal %v, edge %v; want %s, %v, %v", o.remote, o.internal, o.edge, tt.remote, tt.internal, tt.edge)
			}
		})
	}
}

func TestWhatOutsideMayNotSay(t *testing.T) {
	for _, tt := range []struct {
		from origin
		want string
	}{
		{origin{}, "Original-Path Something"},
		{origin{edge: true, address: netip.MustParseAddr("8.8.8.8")}, "Something"},
		{origin{internal: true}, "Max-Retries Original-Path Something"},
	} {
		h := http.Header{"X-Envoy-Max-Retries": {"1"}, "X-Envoy-Original-Path": {"/"}, "X-Envoy-Something": {"s"}}
		if !tt.from.tell(h) {
			t.Error("nothing is left")
		}
		got := ""
		for _, name := range []string{"Max-Retries", "Original-Path", "Something"} {
			if h[envoyPrefix+name] != nil {
				got += " " + name
			}
		}
		if got != " "+tt.want {
			t.Errorf("from %+v is left%s, want %s", tt.from, got, tt.want)
		}
		if (h[internalHeader] != nil) != tt.from.internal || (h[externalAddress] != nil) != tt.from.edge {
			t.Errorf("from %+v it says %v", tt.from, h)
		}
	}
}
