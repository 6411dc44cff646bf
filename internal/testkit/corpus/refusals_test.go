package corpus

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/breakwater-mesh/breakwater/internal/testkit/draw"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// TestRefusalsNameAllWhoHaveAPartInThem writes a few policies for one service, all about one section, so that what one needs of a second
// a third takes away: New looks at the words of each refusal.
func TestRefusalsNameAllWhoHaveAPartInThem(t *testing.T) {
	takers := map[string]int{}
	for seed := range uint64(1500) {
		m := &maker{Options: options(seed), chance: rand.New(rand.NewPCG(seed, 1))}
		m.Admit = m.admit
		m.add(plain(manifest.Key{Namespace: "shop", Name: "s0"}))
		sections := draw.Fields("", reflect.ValueOf(&policy.Sections{}).Elem())
		about := sections[int(seed)%len(sections)].Path
		if err := attempt(func() {
			for i := range 5 {
				m.write([]*policy.Policy{m.narrow(about, fmt.Sprint("p", i))})
			}
		}); err != nil {
			t.Errorf("seed %d, %s: %v", seed, about, err)
		}
		for _, w := range m.Written {
			if strings.Contains(strings.Join(w.Refused, " "), "takes away") {
				takers[about]++
			}
		}
	}
	t.Log(takers)
	if len(takers) < 4 {
		t.Errorf("something is taken away in refusals about %v, want more sections", takers)
	}
}

// narrow is a policy for s0 alone with a few fields of one section, or with that switched off. What it needs another may say.
func (m *maker) narrow(about, name string) *policy.Policy {
	for {
		p := &policy.Policy{APIVersion: manifest.APIVersion, Kind: policy.Kind, Metadata: manifest.Meta{Namespace: "shop", Name: name}}
		p.Spec.To, p.Spec.Precedence = policy.Target{Service: "s0"}, new(m.chance.Int32N(1000))
		sections := reflect.ValueOf(&p.Spec.Sections).Elem()
		for _, f := range draw.Fields("", sections) {
			if f.Path != about {
				continue
			}
			f.Value.Set(reflect.New(f.Value.Type().Elem()))
			if draw.Percent(m.chance, 25) {
				f.Value.Elem().FieldByName("Disabled").Set(reflect.ValueOf(new(true)))
			} else {
				m.set(without(draw.Fields(f.Path, f.Value.Elem()), f.Path+".disabled", f.Path+".observe"), draw.Of(m.chance, 10, 20, 40))
			}
			if f.Value.Elem().IsZero() {
				f.Value.SetZero()
			}
		}
		if about == "fault" {
			m.fill(p, "expiresAt")
		}
		if !sections.IsZero() && len(policy.Validate(p)) == 0 {
			return p
		}
	}
}
