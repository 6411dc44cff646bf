package controlplane

import (
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/view"
	"github.com/breakwater-mesh/breakwater/pkg/xds"
)

func TestProgrammed(t *testing.T) {
	acked := xds.Delivery{Proxy: "a", State: xds.Acked}
	pending := xds.Delivery{Proxy: "b", State: xds.Pending}
	rejected := xds.Delivery{Proxy: "c", State: xds.Rejected, Rejected: []xds.Rejection{
		{ID: view.ID{Type: view.CDS, Name: "shop/payments"}, Text: "no such policy"},
	}}
	for name, tt := range map[string]struct {
		deliveries      []xds.Delivery
		status          api.Truth
		reason, message string
	}{
		"nobody":   {nil, api.Unknown, "NoProxies", "no connected proxy makes calls that it concerns"},
		"all":      {[]xds.Delivery{acked, acked}, api.True, "Acked", "acked by 2 of 2 connected proxies"},
		"waiting":  {[]xds.Delivery{acked, pending}, api.False, "Pending", "1 acked; waiting for b"},
		"rejected": {[]xds.Delivery{pending, rejected, acked}, api.False, "Rejected", "1 acked, 1 pending; c rejected cluster shop/payments: no such policy"},
	} {
		var count tally
		for _, d := range tt.deliveries {
			count.add(d)
		}
		got := count.condition()
		if got.Type != api.Programmed || got.Status != tt.status || got.Reason != tt.reason || got.Message != tt.message {
			t.Errorf("%s: got %+v, want %s %s %q", name, got, tt.status, tt.reason, tt.message)
		}
	}
}

func TestEveryTypeHasAWord(t *testing.T) {
	for typ := range view.NumTypes {
		if typeWord(typ) == "" {
			t.Errorf("type %s has no word for people", typ)
		}
	}
}
