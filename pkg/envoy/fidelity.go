package envoy

import (
	"slices"
	"strings"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// Level says how well a target enforces a field.
type Level string

// The levels.
const (
	Exact       Level = "exact"
	Approximate Level = "approximate"
	Unsupported Level = "unsupported"
)

// Fidelity is how well a target enforces one effective field. What it can't take is left out of the resources and said here.
type Fidelity struct {
	Field   string `json:"field"` // such as limits.maxRequests
	Level   Level  `json:"level"`
	Reason  string `json:"reason,omitempty"`  // empty where exact
	Instead string `json:"instead,omitempty"` // what to write to get nearer, if anything

	Inherent bool `json:"inherent,omitempty"` // it holds of the field at these proxies whatever is written: nothing gets nearer
	Beside   bool `json:"beside,omitempty"`   // it holds for what stands beside the field, or does not: another policy may change that
}

// line says how well some targets enforce a field and all below it. A section's lines stand in its own file; the first that fits
// counts.
type line struct {
	field    string
	on       audience                       // 0: every one
	when     func(input, policy.Field) bool // nil: always
	always   bool                           // it speaks of a default as well; other lines only of what an author wrote
	inherent bool                           // as in Fidelity
	beside   bool                           // likewise
	level    Level
	reason   string // why it is not exact
	instead  string
}

func (l line) fidelity(field string) Fidelity {
	return Fidelity{Field: field, Level: l.level, Reason: l.reason, Instead: l.instead, Inherent: l.inherent, Beside: l.beside}
}

// lines are those of every section. A field without one is exact where it has a carrier at all: see unsaid.
var lines = slices.Concat(dnsLines, faultLines, grpcLines, ridingLines, timeoutLines, retryLines, limitsLines, outlierLines, breakerLines, balancingLines, healthLines,
	deadlineLines, hedgeLines, criteriaLines, admissionLines, adaptiveLines, rateLimitLines, leadingLines, fallbackLines, errorMappingLines)

// Inherent is one of the differences that no policy can bring nearer.
type Inherent struct {
	Field    string   // and all below it
	Profiles []string // of the proxies where it holds
	Reason   string
}

// InherentDifferences are all there are where a section is enforced, by field.
func InherentDifferences() []Inherent {
	var list []Inherent
	for _, l := range lines {
		if !l.inherent {
			continue
		}
		i := Inherent{Field: l.field, Reason: l.reason}
		for _, profile := range Profiles() {
			if l.on == 0 || l.on&(Target{Profile: profile}).audience() != 0 {
				i.Profiles = append(i.Profiles, profile)
			}
		}
		list = append(list, i)
	}
	slices.SortStableFunc(list, func(a, b Inherent) int { return strings.Compare(a.Field, b.Field) })
	return list
}

// Report is how well t enforces each field of eff that an author wrote, and each default that t can't keep exactly, by field. Of a
// field that parts of the service have, too, it says the worst. Of "to", the target, it speaks where t can't call the service at all.
func Report(t Target, svc *catalog.Service, eff *policy.Effective) []Fidelity {
	var found []Fidelity
	for _, part := range eff.Every() {
		found = worse(found, reportOf(t, svc, part))
	}
	if t.audience() == clustersOnly {
		for _, route := range eff.Routes {
			found = worse(found, onlyRouted(eff, route))
		}
	}
	if t.audience() == grpcClients && catalog.TLSOf(svc) != nil {
		found = worse(found, []Fidelity{plainCalls})
	}
	return found
}

// plainCalls is what any policy for a service with tls comes to at a gRPC client.
var plainCalls = Fidelity{
	Field: "to", Level: Unsupported, Inherent: true,
	Reason:  "the service has tls, and a gRPC client gets nothing of it: no call succeeds with the credentials of a plain program",
	Instead: "TLS credentials in the program itself",
}

// onlyRouted is what a policy for a route says: nothing of it reaches a proxy with routes of its own.
func onlyRouted(whole, route *policy.Effective) []Fidelity {
	var found []Fidelity
	for _, f := range route.Fields {
		same := slices.ContainsFunc(whole.Fields, func(w policy.Field) bool { return w.Path == f.Path && w.Origin == f.Origin })
		if !same && !f.Origin.Default && f.Value != nil {
			found = append(found, Fidelity{Field: f.Path, Level: Unsupported, Reason: ownersRoutes, Instead: "the same in the owner's route"})
		}
	}
	return found
}

// worse is report, with what more says of a field where that is less well enforced, or not known yet; by field.
func worse(report, more []Fidelity) []Fidelity {
	levels := map[Level]int{Exact: 0, Approximate: 1, Unsupported: 2}
	for _, m := range more {
		i := slices.IndexFunc(report, func(f Fidelity) bool { return f.Field == m.Field })
		switch {
		case i < 0:
			report = append(report, m)
		case levels[m.Level] > levels[report[i].Level]:
			report[i] = m
		}
	}
	slices.SortFunc(report, func(a, b Fidelity) int { return strings.Compare(a.Field, b.Field) })
	return report
}

func reportOf(t Target, svc *catalog.Service, eff *policy.Effective) []Fidelity {
	in := newInput(t, svc, eff)
	var found []Fidelity
	for _, f := range eff.Fields {
		if f.Value == nil {
			continue // switched off
		}
		if d, ok := in.fidelity(f); ok {
			found = append(found, d)
		}
	}
	if eff.Observed == nil {
		return found
	}
	for _, f := range eff.Observed.Fields {
		if d, ok := in.observedFidelity(f); ok && f.Value != nil {
			found = append(found, d)
		}
	}
	return found
}

// fidelity speaks of one field; of a default only where a line does.
func (in input) fidelity(f policy.Field) (Fidelity, bool) {
	if feat, lacks := in.target.tooOld(f); lacks && !f.Origin.Default && !asksNothing(f) {
		return feat.fidelity(f.Path, in.target.minor()), true
	}
	if in.tcp() && in.target.audience()&grpcClients == 0 {
		return tcpFidelity(f)
	}
	for _, l := range lines {
		if l.fits(in, f) && !(l.level == Unsupported && asksNothing(f)) {
			return l.fidelity(f.Path), true
		}
	}
	return in.unsaid(f), !f.Origin.Default
}

// asksNothing reports that f says no to something: who can't do it at all does just that.
func asksNothing(f policy.Field) bool {
	switch v := f.Value.(type) {
	case bool:
		return !v
	case *bool:
		return v != nil && !*v
	}
	return false
}

// below reports whether path is field or in it.
func below(path, field string) bool { return path == field || strings.HasPrefix(path, field+".") }

func (l line) fits(in input, f policy.Field) bool {
	switch {
	case !below(f.Path, l.field):
		return false
	case l.on != 0 && l.on&in.target.audience() == 0:
		return false
	case f.Origin.Default && !l.always:
		return false
	}
	return l.when == nil || l.when(in, f)
}

// unsaid is what holds of a field that no line speaks of: who gets all our resources has a carrier for every field, who gets clusters
// alone has none for a field of routes, and a gRPC client reads little, so that what it does read has a line.
func (in input) unsaid(f policy.Field) Fidelity {
	field := f.Path
	switch on := in.target.audience(); {
	case asksNothing(f):
	case on == grpcClients:
		return Fidelity{Field: field, Level: Unsupported, Reason: "a gRPC client does not read it"}
	case on == clustersOnly && scopes[field] == "route":
		return Fidelity{Field: field, Level: Unsupported, Reason: ownersRoutes, Instead: "the same in the owner's route"}
	}
	return Fidelity{Field: field, Level: Exact}
}

// scopes are what the fields of the language belong to, by path: route, cluster, or neither.
var scopes = func() map[string]string {
	all := make(map[string]string)
	for _, d := range manifest.Describe[policy.Sections]("") {
		all[d.Path] = d.Scope
	}
	return all
}()

func grpcService(in input, _ policy.Field) bool { return in.protocol == catalog.GRPC }

// not holds where a does not.
func not(a func(input, policy.Field) bool) func(input, policy.Field) bool {
	return func(in input, f policy.Field) bool { return !a(in, f) }
}

// both holds where a and b do.
func both(a, b func(input, policy.Field) bool) func(input, policy.Field) bool {
	return func(in input, f policy.Field) bool { return a(in, f) && b(in, f) }
}
