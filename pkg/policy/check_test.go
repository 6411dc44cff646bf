package policy

import (
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
