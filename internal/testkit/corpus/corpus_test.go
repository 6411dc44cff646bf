package corpus

import (
	"encoding/json"
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

func options(seed uint64) Options {
	return Options{
		Seed: seed, Policies: 500, TLS: catalog.TLS{CAFile: "/ca.pem", CertFile: "/cert.pem", KeyFile: "/key.pem"},
		Callers: []Caller{{manifest.Key{Namespace: "shop", Name: "caller"}, 7001}, {manifest.Key{Namespace: "bank", Name: "caller"}, 0}},
	}
}

func made(t *testing.T, seed uint64) *Corpus {
	t.Helper()
	c, err := New(options(seed))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCorpusHasEveryFieldOfTheLanguage(t *testing.T) {
	c := made(t, 1)
	if got := len(c.Admitted()); got != 500 {
		t.Errorf("%d policies are admitted, want 500", got)
	}
	if rare := Rarer(c.Admitted(), 3); len(rare) > 0 {
		t.Errorf("fewer than 3 of the policies have %q: give their fields values in package draw that hold beside others", rare)
	}
	refused := len(c.Written) - 500
	t.Logf("%d refused", refused)
	if refused < 20 {
		t.Errorf("only %d of the policies are refused: nothing is shown of that", refused)
	}
}

func TestSeedMakesTheSameCorpus(t *testing.T) {
	a, b, other := text(t, made(t, 3)), text(t, made(t, 3)), text(t, made(t, 4))
	if a != b {
		t.Error("one seed makes two corpora")
	}
	if a == other {
		t.Error("two seeds make one corpus")
	}
}

func text(t *testing.T, c *Corpus) string {
	t.Helper()
	data, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
