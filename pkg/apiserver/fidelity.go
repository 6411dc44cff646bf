package apiserver

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/envoy"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// dialect is a kind of proxy, and how many of it are concerned.
type dialect struct {
	target  envoy.Target
	proxies int
}

// dialectsOf are those of the connected proxies whose calls p concerns.
func dialectsOf(w *world.World, all *census, p *policy.Compiled) []dialect {
	concerned := make(map[manifest.Key]bool)
	count := make(map[envoy.Target]int)
	for class, of := range all.crowds {
		key := manifest.Key{Namespace: class.Namespace, Name: class.Service}
		concerns, known := concerned[key]
		if !known {
			concerns = concernsCaller(w, p, key)
			concerned[key] = concerns
		}
		if concerns {
			count[envoy.Target{Profile: class.Profile, Version: class.Tier}] += of.proxies
		}
	}
	var list []dialect
	for target, n := range count {
		list = append(list, dialect{target, n})
	}
	slices.SortFunc(list, func(a, b dialect) int {
		return cmp.Or(slices.Index(envoy.Profiles(), a.target.Profile)-slices.Index(envoy.Profiles(), b.target.Profile),
			strings.Compare(a.target.Version, b.target.Version))
	})
	return list
}

// concernsCaller reports whether p applies to a call that a proxy of caller may make.
func concernsCaller(w *world.World, p *policy.Compiled, caller manifest.Key) bool {
	for _, key := range w.Visible(caller) {
		if called := w.Called(key); p.Matches(called) && p.Applies(called, w.Caller(caller)) {
			return true
		}
	}
	return false
}

// fidelityOf is how well t enforces p, as if no other policy were there.
func fidelityOf(w *world.World, p *policy.Compiled, t envoy.Target) []api.FieldFidelity {
	services := byProtocol(covered(w, p))
	said := make(map[api.FieldFidelity][]string) // protocols for which it holds, by what is said
	for protocol, svc := range services {
		for _, f := range fidelityFor(p, svc, t) {
			said[f] = append(said[f], string(protocol))
		}
	}
	list := []api.FieldFidelity{}
	for f, protocols := range said {
		if len(protocols) < len(services) {
			slices.Sort(protocols)
			f.Protocol = strings.Join(protocols, ", ")
		}
		list = append(list, f)
	}
	slices.SortFunc(list, func(a, b api.FieldFidelity) int {
		return cmp.Or(strings.Compare(a.Field, b.Field), strings.Compare(a.Protocol, b.Protocol))
	})
	return list
}

// byProtocol is one service of each protocol that stands for all: with TLS where one has it, and with a name for its cluster where all have.
// Nothing else of a service matters. Without any it is an http service.
func byProtocol(list []*catalog.Service) map[catalog.Protocol]*catalog.Service {
	if len(list) == 0 {
		list = []*catalog.Service{{Metadata: manifest.Meta{Namespace: manifest.DefaultNamespace, Name: "any"}}}
	}
	found := make(map[catalog.Protocol]*catalog.Service)
	for _, svc := range list {
		p := catalog.ProtocolOf(svc)
		one := *svc
		if other := found[p]; other != nil {
			if catalog.TLSOf(&one) == nil {
				one.Spec.TLS = other.Spec.TLS
			}
			if other.Spec.ClusterName == "" {
				one.Spec.ClusterName = ""
			}
		}
		found[p] = &one
	}
	return found
}

// fidelityFor says the worst of each field as it was written: one word of an author may become several fields.
func fidelityFor(p *policy.Compiled, svc *catalog.Service, t envoy.Target) []api.FieldFidelity {
	called := policy.Service{Key: svc.Key(), Labels: svc.Metadata.Labels, Protocol: string(catalog.ProtocolOf(svc))}
	effective, _ := policy.Merge(called, []*policy.Compiled{p})
	origins := make(map[string]policy.Origin, len(effective.Fields))
	for _, f := range effective.AllFields() {
		origins[f.Path] = f.Origin
	}
	worst := make(map[string]api.FieldFidelity)
	for _, f := range envoy.Report(t, svc, effective) {
		said := api.FieldFidelity{Field: f.Field, Level: string(f.Level), Reason: f.Reason, Instead: f.Instead, Inherent: f.Inherent, Beside: f.Beside}
		if origin := origins[f.Field]; origin.Default {
			said.Default = true
		} else {
			said.Field = cmp.Or(origin.Path, f.Field)
		}
		said = untaken(said, p, t)
		if rank(said) > rank(worst[said.Field]) {
			worst[said.Field] = said
		}
	}
	var list []api.FieldFidelity
	for _, f := range worst {
		list = append(list, f)
	}
	return list
}

// untaken says of a retry, and of a fallback, on a proxy whose routes are its owner's what Target.Taken does.
func untaken(f api.FieldFidelity, p *policy.Compiled, t envoy.Target) api.FieldFidelity {
	rides := strings.HasPrefix(f.Field, "retry.") || f.Field == "fallback.service"
	if rides && t.Taken(p) != p {
		f.Level, f.Reason = api.Unsupported, "it would take the place of the retries of the owner's routes, and the policy names no service"
		f.Instead, f.Beside = "to: {service: NAME}", false
	}
	return f
}

// rank orders by how much there is to mend.
func rank(f api.FieldFidelity) int {
	n := map[string]int{api.Exact: 2, api.Approximate: 4, api.Unsupported: 6}[f.Level]
	if f.Inherent {
		n--
	}
	return n
}

type fidelityInput struct {
	GetInput
	Dialect []string `query:"dialect,explode" enum:"sidecar,clusters-only,grpc,agent" doc:"Ask for this dialect, whether or not it is in use. May be repeated. Absent: those of the connected proxies that the policy concerns, or else sidecar."`
	Version string   `query:"version" doc:"Of the Envoys of the dialects asked for, 1.32 to 1.40. Absent: the newest."`
}

func (in *fidelityInput) check() error {
	if err := in.checkVersion(); err != nil {
		return err
	}
	return in.GetInput.check()
}

func (in *fidelityInput) checkVersion() error {
	if in.Version == "" {
		return nil
	}
	if !envoy.Serves(in.Version) {
		oldest, newest := envoy.ServedVersions()
		return invalidField("query.version", fmt.Sprintf("%.32q is no Envoy that is served: must be %s to %s", in.Version, oldest, newest))
	}
	if !slices.ContainsFunc(in.Dialect, ofEnvoys) {
		return invalidField("query.version", "is Envoy's: ask for the dialect sidecar or clusters-only beside it")
	}
	return nil
}

func ofEnvoys(dialect string) bool { return dialect == envoy.Sidecar || dialect == envoy.ClustersOnly }

func (s *server) fidelity(ctx context.Context, in *fidelityInput) (*answer[api.FidelityResponse], error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	w, p, err := s.policyAt(ctx, in.GetInput)
	if err != nil {
		return nil, err
	}
	all := s.census(ctx)
	body := fidelityReport(w, p, in.dialects(dialectsOf(w, all, p)))
	body.Unreachable = all.silent
	return &answer[api.FidelityResponse]{Body: body}, nil
}

func fidelityReport(w *world.World, p *policy.Compiled, dialects []dialect) api.FidelityResponse {
	m := p.Policy.Metadata
	r := api.FidelityResponse{Namespace: m.Namespace, Name: m.Name, Revision: w.Rev, Dialects: []api.DialectFidelity{}}
	for _, d := range dialects {
		r.Dialects = append(r.Dialects, api.DialectFidelity{
			Dialect: d.target.Profile, Version: d.target.Version, Proxies: d.proxies, Fields: fidelityOf(w, p, d.target),
		})
	}
	return r
}

// fidelity reports on the policies that p writes.
func (p *plan) fidelity(all *census) []api.FidelityResponse {
	list := []api.FidelityResponse{}
	for _, s := range p.steps {
		if s.policy != nil && s.action != api.Unchanged {
			c := policy.Compile(s.policy)
			list = append(list, fidelityReport(p.world, c, orSidecar(dialectsOf(p.world, all, c))))
		}
	}
	return list
}

// dialects are the ones to answer for, of which inUse are connected.
func (in *fidelityInput) dialects(inUse []dialect) []dialect {
	if len(in.Dialect) == 0 {
		return orSidecar(inUse)
	}
	var list []dialect
	for _, profile := range in.Dialect {
		asked := dialect{target: envoy.Target{Profile: profile}}
		if ofEnvoys(profile) {
			asked.target.Version = envoy.Tier(in.Version)
		}
		for _, d := range inUse {
			if d.target.Profile == profile && (asked.target.Version == "" || d.target.Version == asked.target.Version) {
				asked.proxies += d.proxies
			}
		}
		if !slices.ContainsFunc(list, func(d dialect) bool { return d.target == asked.target }) {
			list = append(list, asked)
		}
	}
	return list
}

// orSidecar is a sidecar of the newest Envoy where no proxy is connected.
func orSidecar(inUse []dialect) []dialect {
	if len(inUse) == 0 {
		return []dialect{{target: envoy.Target{Profile: envoy.Sidecar}}}
	}
	return inUse
}

// inexact warns of what the dialects in use can't do exactly of the written policies, and leaves to the report what is inherent. With
// exact each goes one grade up: what is warned of otherwise is refused, what is in the report alone is warned of.
func (p *plan) inexact(o options) error {
	exact := o.exact
	problem := &api.Problem{Type: api.NotExact, Title: "Not enforced exactly", Status: http.StatusUnprocessableEntity, Detail: "and the request asks for it"}
	for _, s := range p.steps {
		if s.policy == nil || s.action == api.Unchanged && !exact {
			continue
		}
		c := policy.Compile(s.policy)
		if silent := o.census().silent; len(silent) > 0 {
			message := "how exactly proxies enforce it is not known of " + silentNames(silent)
			p.warnings = append(p.warnings, api.Warning{Kind: s.kind, Namespace: s.key.Namespace, Name: s.key.Name, Message: message})
		}
		for _, d := range orSidecar(dialectsOf(p.world, o.census(), c)) {
			name := api.DialectFidelity{Dialect: d.target.Profile, Version: d.target.Version}.String()
			for _, f := range fidelityOf(p.world, c, d.target) {
				if f.Level == api.Exact || f.Default {
					continue
				}
				field, message := "spec."+f.Field, fmt.Sprintf("%s: %s", name, f)
				bearable := f.Inherent && f.Level == api.Approximate
				switch {
				case exact && !bearable:
					problem.Errors = append(problem.Errors, s.place.fault(field, message))
				case exact, !f.Inherent:
					p.warnings = append(p.warnings, api.Warning{Kind: s.kind, Namespace: s.key.Namespace, Name: s.key.Name, Field: field, Message: message})
				}
			}
		}
	}
	if len(problem.Errors) == 0 {
		return nil
	}
	return problem
}
