package policy

// This file is the contract that other packages are built against while the package is written; its bodies move out.

// Compiled is a policy made ready for resolving: classic knobs expanded, rank known.
type Compiled struct {
	Policy *Policy
}

// Compile expands p, which must be valid.
func Compile(p *Policy) *Compiled { return &Compiled{Policy: p} }

// Matches reports whether c's target covers svc, for at least some caller.
func (c *Compiled) Matches(svc Service) bool { return false }

// Applies reports whether c, which matches svc, covers calls from caller.
func (c *Compiled) Applies(svc Service, caller Caller) bool { return false }

// Less orders by rank: less specific first, name last. It is a total order.
func (c *Compiled) Less(o *Compiled) bool { return false }

// Merge merges the policies that apply to one caller and one service, in Less order. An invalid result falls back, section
// by section, to the most specific policy's own values; Problems says so.
func Merge(svc Service, applied []*Compiled) (*Effective, []Problem) { return &Effective{}, nil }

// Problem is what Merge found wrong.
type Problem struct {
	Reason  string // InvalidMerge | Conflicted
	Field   string
	Winner  *Compiled
	Loser   *Compiled // the policy that carries the condition (both, when Conflicted)
	Message string
}
