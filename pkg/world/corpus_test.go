package world

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"

	"github.com/breakwater-mesh/breakwater/internal/testkit/corpus"
	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/envoy"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// corpusOf is a random catalogue, and policies that nobody checks against each other.
func corpusOf(t *testing.T, seed uint64) *corpus.Corpus {
	t.Helper()
	c, err := corpus.New(corpus.Options{
		Seed: seed, Policies: 500, TLS: catalog.TLS{CAFile: "/ca.pem", CertFile: "/cert.pem", KeyFile: "/key.pem"},
		Callers: []corpus.Caller{{Key: key("shop", "caller"), Port: 7001}, {Key: key("bank", "caller"), Port: 7002}},
		Admit:   func([]*policy.Policy) []string { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// classKeys are of callers with every profile, and with older Envoys that have no runtime layers.
func classKeys() []ClassKey {
	k := ClassKey{Namespace: "shop", Service: "caller", Dialect: "envoy", Tier: "1.40", Outbound: "127.0.0.1:15001", Runtime: true}
	var list []ClassKey
	for _, k.Profile = range envoy.Profiles() {
		list = append(list, k)
	}
	k.Namespace, k.Runtime = "bank", false
	for k.Tier, k.Profile = range map[string]string{"1.32": envoy.Sidecar, "1.37": envoy.ClustersOnly} {
		list = append(list, k)
	}
	return list
}

// Whatever is written, it compiles for every kind of proxy, to the same bytes in whatever order it comes and whether at once or bit by bit,
// and an agent takes it.
func TestTrap26_CorpusCompilesToTheSameInAnyOrder(t *testing.T) {
	seeds := uint64(1)
	if os.Getenv("BREAKWATER_LONG") == "1" {
		seeds = 20
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			c := corpusOf(t, seed)
			ordered, shuffled := builtFrom(c, nil), builtFrom(c, rand.New(rand.NewPCG(seed, 2)))
			for _, b := range []*Builder{ordered, shuffled} {
				for key, problem := range b.Problems() {
					t.Errorf("%s: %v", key, problem)
				}
			}
			for _, k := range classKeys() {
				one, other := ordered.Join(k).Head(), shuffled.Join(k).Head()
				for typ := range view.NumTypes {
					view.Diff(one.Views[typ], other.Views[typ], func(was, now *view.Resource) {
						t.Errorf("%+v: %v differs by the order: %s, %s", k, typ, versionOf(was), versionOf(now))
					})
				}
				if k.Profile == envoy.Agent {
					agentTakes(t, one)
				}
			}
		})
	}
}

// versionOf is a name and a version for a message; there may be no such resource.
func versionOf(r *view.Resource) string {
	if r == nil {
		return "none"
	}
	return r.Name + " " + r.Version
}

// builtFrom is a builder that has seen all of c: at once, with its classes made afterwards; or by and by in the order of chance, with its
// classes there from the beginning.
func builtFrom(c *corpus.Corpus, chance *rand.Rand) *Builder {
	w, first := newWorld(c.Services...)
	b := NewBuilder()
	b.Update(w, first)
	policies := c.Admitted()
	if chance == nil {
		change := Changes{Policies: map[manifest.Key]*policy.Compiled{}}
		for _, p := range policies {
			change.Policies[p.Key()] = policy.Compile(p)
		}
		b.Update(w.With(2, change), change)
		return b
	}
	for _, k := range classKeys() {
		b.Join(k)
	}
	chance.Shuffle(len(policies), func(i, j int) { policies[i], policies[j] = policies[j], policies[i] })
	for some := range slices.Chunk(policies, 200) {
		change := Changes{Policies: map[manifest.Key]*policy.Compiled{}}
		for _, p := range some {
			change.Policies[p.Key()] = policy.Compile(p)
		}
		b.Update(b.World().With(b.World().Rev+1, change), change)
	}
	return b
}

// agentTakes decodes and compiles a head as the agent does.
func agentTakes(t *testing.T, head *Head) {
	t.Helper()
	var changes []dataplane.Change
	for _, v := range head.Views {
		for r := range v.All() {
			var sent discoveryv3.DiscoveryResponse
			if err := proto.Unmarshal(r.Sotw, &sent); err != nil {
				t.Fatal(err)
			}
			decoded, faults := dataplane.Decode(r.ID(), r.Version, sent.GetResources()[0].GetValue())
			for _, f := range faults {
				t.Errorf("the agent refuses %v: %v", r.ID(), f)
			}
			changes = append(changes, dataplane.Change{ID: r.ID(), Now: decoded})
		}
	}
	if _, faults := dataplane.Compile(dataplane.Resources{}.With(changes), nil); len(faults) > 0 {
		t.Errorf("the agent refuses %v", faults)
	}
}
