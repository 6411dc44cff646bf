// Package corpus makes random catalogues, and policies for them over every field of the language. The same seed makes the same ones.
package corpus

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

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
	// Admit, where it is set, says in place of the language's own rules why policies are refused beside those that it took before: all of
	// them, or none.
	Admit func([]*policy.Policy) (refused []string)
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
	Refused []string // why, each message naming the policies that have a part in it, and no other; none where it is admitted
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

// New makes a corpus. An error says what the language has of which nothing is known, or what a refusal names that has no part in it, or does
// not name that has.
func New(o Options) (*Corpus, error) {
	m := &maker{Options: o, chance: rand.New(rand.NewPCG(o.Seed, 1))}
	if m.Admit == nil {
		m.Admit = m.admit
	}
	err := attempt(func() {
		m.services()
		if m.Begin != nil {
			m.Begin(m.Services)
		}
		m.policies()
	})
	if err != nil {
		return nil, err
	}
	return &m.Corpus, nil
}

// attempt is why the making of a corpus has stopped, nil where it has not.
func attempt(make func()) (err error) {
	defer func() {
		switch why := recover().(type) {
		case nil:
		case draw.Unknown:
			err = errors.New(string(why))
		default:
			panic(why)
		}
	}()
	make()
	return nil
}

// maker makes one corpus.
type maker struct {
	Options
	Corpus

	chance   *rand.Rand
	called   []policy.Service
	callers  []policy.Caller
	compiled []*policy.Compiled // what is admitted, least specific first

	drawn, admitted int
}

// together is how many policies are written at once, as long as none of them is refused.
const together = 40

func (m *maker) policies() {
	for m.admitted < m.Policies {
		var some []*policy.Policy
		rare := m.rare()
		for i := range min(together, m.Policies-m.admitted) {
			want := ""
			if len(rare) > 0 {
				want = rare[i%len(rare)]
			}
			some = append(some, m.with(want, fmt.Sprint("p", m.drawn)))
			m.drawn++
		}
		if m.write(some); m.drawn > 4*m.Policies {
			stop("of %d policies only %d are admitted", m.drawn, m.admitted)
		}
	}
}

// rare are the fields that the second half of the policies should have.
func (m *maker) rare() []string {
	if m.admitted < m.Policies/2 {
		return nil
	}
	list, _ := rarer(m.Admitted(), 6)
	return list
}

// with is a policy with a field, if chance makes one soon; "" is any.
func (m *maker) with(path, name string) *policy.Policy {
	p := m.policy(name)
	for range 200 {
		if path == "" || paths(p.Spec)[path] {
			break
		}
		p = m.policy(name)
	}
	return p
}

// write admits some policies, or those of them that are not refused: whom the refusal names is written again, alone.
func (m *maker) write(some []*policy.Policy) {
	if len(some) == 0 {
		return
	}
	refused := m.Admit(some)
	if len(refused) > 0 && len(some) > 1 {
		named, others := apart(some, strings.Join(refused, " "))
		if len(named) == 0 {
			named, others = some[:1], some[1:]
		}
		m.write(others)
		for _, p := range named {
			m.write([]*policy.Policy{p})
		}
		return
	}
	if len(refused) == 0 {
		m.admitted += len(some)
	} else {
		m.exact(some[0], refused)
	}
	for _, p := range some {
		m.Written = append(m.Written, Write{p, refused})
	}
}

// apart are the policies that a text names, and the others.
func apart(some []*policy.Policy, text string) (named, others []*policy.Policy) {
	words := strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" ,:;()", r) })
	for _, p := range some {
		if slices.Contains(words, p.Key().String()) {
			named = append(named, p)
		} else {
			others = append(others, p)
		}
	}
	return named, others
}

// admit tells why policies are refused beside what is admitted, and admits them otherwise.
func (m *maker) admit(some []*policy.Policy) (refused []string) {
	all, written := slices.Clone(m.compiled), map[manifest.Key]bool{}
	for _, p := range some {
		all, written[p.Key()] = append(all, policy.Compile(p)), true
	}
	slices.SortFunc(all, (*policy.Compiled).Compare)
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

func stop(format string, args ...any) { panic(draw.Unknown(fmt.Sprintf(format, args...))) }
