package policy

import (
	"slices"
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// TestCheckBlamesTheWriter has one clash, between two policies of shop, and asks for it as different writes.
func TestCheckBlamesTheWriter(t *testing.T) {
	of := func(namespace, name string, sections Sections) *Compiled {
		return Compile(&Policy{Metadata: manifest.Meta{Namespace: namespace, Name: name}, Spec: Spec{To: Target{Namespace: "shop", Service: "payments"}, Sections: sections, Precedence: new(int32(len(name)))}})
	}
	seconds := func(d manifest.Duration) *manifest.Duration { return &d }
	all := []*Compiled{
		of("shop", "request", Sections{Timeout: &Timeout{Request: seconds("1s")}}),
		of("shop", "per-try", Sections{Timeout: &Timeout{PerTry: seconds("2s")}}),
		of("shop", "bystander", Sections{Retry: &Retry{NumRetries: new(uint32(2))}}),
		of("shop", "connect", Sections{Timeout: &Timeout{Connect: seconds("2s")}}),
		of("bank", "connect", Sections{Timeout: &Timeout{Connect: seconds("3s")}}),
	}
	for written, want := range map[manifest.Key]string{
		{Namespace: "shop", Name: "request"}:   "refused",
		{Namespace: "shop", Name: "per-try"}:   "refused",
		{Namespace: "shop", Name: "connect"}:   "refused", // its own value would be dropped
		{Namespace: "shop", Name: "bystander"}: "reported",
		{Namespace: "bank", Name: "connect"}:   "reported", // others' values clash, bank can't mend it
		{Namespace: "shop", Name: "unheard"}:   "nothing",
	} {
		got := "nothing"
		for _, v := range Check(nil, nil, all, map[manifest.Key]bool{written: true}) {
			if got = "reported"; v.Refused {
				got = "refused"
				break
			}
		}
		if got != want {
			t.Errorf("writing %s: %s, want %s", written, got, want)
		}
	}
}

// TestCheckNamesWhoTakesAway has policies of which one takes away what another one needs of a third: all of them are named, and the writer is
// told where it has a part in it. Where who takes it away is of another namespace, nothing is refused.
func TestCheckNamesWhoTakesAway(t *testing.T) {
	of := func(namespace, name, rest string) *Compiled {
		p, faults := read(t, namespace, "{to: {namespace: shop, service: payments}, "+rest+"}")
		if faults != "" {
			t.Fatal(faults)
		}
		p.Metadata.Name = name
		return Compile(&p)
	}
	for _, tt := range []struct {
		taker, written string
		path           string
		refused        bool
	}{
		{"shop", "taker", "rateLimit.disabled", true},
		{"shop", "needing", "rateLimit", true},
		{manifest.SystemNamespace, "needing", "rateLimit", true},
		{"bank", "needing", "rateLimit", false},
	} {
		from := "from: {namespace: bank, selector: {tier: web}}, "
		if tt.taker == "bank" {
			from = "from: {selector: {tier: web}}, "
		}
		all := []*Compiled{
			of("shop", "giving", "rateLimit: {requests: 5}"),
			of(tt.taker, "taker", from+"rateLimit: {disabled: true}"),
			of("shop", "needing", "from: {namespace: bank, service: web}, rateLimit: {burst: 9}"),
		}
		key := manifest.Key{Namespace: "shop", Name: tt.written}
		written := all[slices.IndexFunc(all, func(c *Compiled) bool { return c.Policy.Key() == key })]
		web := Caller{Key: manifest.Key{Namespace: "bank", Name: "web"}, Labels: map[string]string{"tier": "web"}}
		found := Check(nil, []Caller{web}, all, map[manifest.Key]bool{key: true})
		want := "rateLimit (rateLimit.burst of policy shop/needing) needs rateLimit.requests; rateLimit.disabled of policy " + tt.taker + "/taker takes away rateLimit.requests of policy shop/giving"
		i := slices.IndexFunc(found, func(v Violation) bool { return v.Caller == web.Key })
		if i < 0 || found[i].Message != want || found[i].Refused != tt.refused {
			t.Errorf("%s takes away, %s is written: %+v, want refused: %v, %s", tt.taker, tt.written, found, tt.refused, want)
			continue
		}
		if path, _ := found[i].PathOf(written.Policy); path != tt.path {
			t.Errorf("%s takes away, %s is written: told at %s, want %s", tt.taker, tt.written, path, tt.path)
		}
	}
}
