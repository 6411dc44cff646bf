// Package corpus makes random catalogues, and policies for them over every field of the language. The same seed makes the same ones.
package corpus

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/breakwater-mesh/breakwater/internal/testkit/draw"
	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// Options are what a corpus can't choose by chance.
type Options struct {
	Seed     uint64
	Policies int         // so many are admitted
	TLS      catalog.TLS // the files that endpoints and proxies show each other; zero: no service has TLS
	Callers  []Caller

	// Begin, where it is set, is told the services before the first policy is made.
	Begin func([]*catalog.Service)
	// Admit, where it is set, says in place of the language's own rules why a policy is refused beside those that it took before.
	Admit func(*policy.Policy) []string
}

// Caller is a service that calls all those which requests reach, and that nobody calls.
type Caller struct {
	manifest.Key
	Port uint32 // where it reaches a tcp service that is its alone; 0: there is none
}

// Corpus is a catalogue and what is written of it.
type Corpus struct {
	Services []*catalog.Service
	Written  []Write // in this order
}

// Write is a policy, valid alone, and what must become of it.
type Write struct {
	Policy  *policy.Policy
	Refused []string // why, each message naming the policies that clash; none where it is admitted
}

// Admitted are the policies that hold in the end.
func (c *Corpus) Admitted() []*policy.Policy {
	var list []*policy.Policy
	for _, w := range c.Written {
		if len(w.Refused) == 0 {
			list = append(list, w.Policy)
		}
	}
	return list
}

// New makes a corpus. An error says what the language has of which nothing is known.
func New(o Options) (c *Corpus, err error) {
	defer func() {
		switch why := recover().(type) {
		case nil:
		case draw.Unknown:
			err = errors.New(string(why))
		default:
			panic(why)
		}
	}()
	m := &maker{Options: o, chance: rand.New(rand.NewPCG(o.Seed, 1))}
	if m.Admit == nil {
		m.Admit = m.admit
	}
	m.services()
	if m.Begin != nil {
		m.Begin(m.Services)
	}
	m.policies()
	return &m.Corpus, nil
}

// maker makes one corpus.
type maker struct {
	Options
	Corpus

	chance   *rand.Rand
	called   []policy.Service
	callers  []policy.Caller
	compiled []*policy.Compiled // what is admitted, least specific first
}

func (m *maker) policies() {
	for admitted := 0; admitted < m.Policies; {
		p := m.policy(fmt.Sprint("p", len(m.Written)))
		w := Write{p, m.Admit(p)}
		if len(w.Refused) == 0 {
			admitted++
		}
		if m.Written = append(m.Written, w); len(m.Written) > 4*m.Policies {
			stop("of %d policies only %d are admitted", len(m.Written), admitted)
		}
	}
}

// admit tells why p is refused beside what is admitted, and admits it otherwise.
func (m *maker) admit(p *policy.Policy) (refused []string) {
	all := slices.SortedFunc(slices.Values(append(slices.Clone(m.compiled), policy.Compile(p))), byRank)
	written := map[manifest.Key]bool{p.Key(): true}
	for _, c := range policy.Conflicts(all, m.called, m.callers, written) {
		refused = append(refused, c.Message)
	}
	if len(refused) > 0 {
		return refused
	}
	for _, v := range policy.Check(m.called, m.callers, all, written) {
		if v.Refused {
			refused = append(refused, v.Message)
		}
	}
	if len(refused) == 0 {
		m.compiled = all
	}
	return refused
}

func byRank(a, b *policy.Compiled) int {
	switch {
	case a.Less(b):
		return -1
	case b.Less(a):
		return 1
	}
	return 0
}

func stop(format string, args ...any) { panic(draw.Unknown(fmt.Sprintf(format, args...))) }
