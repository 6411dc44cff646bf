package policy

import (
	"fmt"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// LoadBalancing chooses the host of a call.
type LoadBalancing struct {
	Disabled  *bool     `json:"disabled,omitempty" doc:"Clears what less specific policies set here." scope:"cluster" effect:"rebuilds the cluster" bwdefault:"false"`
	Observe   *bool     `json:"observe,omitempty" doc:"Counts what this section would do, and does nothing. It takes the place of nothing that is enforced." scope:"cluster" effect:"rebuilds the cluster" bwdefault:"false"`
	Algorithm *string   `json:"algorithm,omitempty" doc:"How the host of a call is chosen: in turn, the less busy of two, by chance, or by a hash of the request." enum:"round-robin,least-request,random,ring-hash,maglev" scope:"cluster" effect:"rebuilds the cluster" bwdefault:"round-robin (Envoy)"`
	HashOn    []HashKey `json:"hashOn,omitempty" doc:"What of a request is hashed, for ring-hash and maglev; all that a request has counts together, in this order. A request that has none of it goes to any host." scope:"cluster" effect:"in place" bwdefault:"required by ring-hash and maglev"`

	PanicThreshold     *uint32 `json:"panicThreshold,omitempty" doc:"With fewer healthy hosts than this, traffic goes to all of them, ejected ones too; 0 switches that off." unit:"percent" maximum:"100" scope:"cluster" effect:"rebuilds the cluster" bwdefault:"50 (Envoy)"`
	FailTrafficOnPanic *bool   `json:"failTrafficOnPanic,omitempty" doc:"With fewer healthy hosts than panicThreshold every call fails at once, instead of going to all hosts. Not for ring-hash and maglev." scope:"cluster" effect:"rebuilds the cluster" bwdefault:"false (Envoy)"`

	SlowStart        *SlowStart `json:"slowStart,omitempty" doc:"Gives a host that has just come, or come back, its share little by little. For round-robin and least-request." scope:"cluster" effect:"rebuilds the cluster" bwdefault:"off"`
	LocalityWeighted *bool      `json:"localityWeighted,omitempty" doc:"A locality keeps the share of its endpoints' weights while enough of them are healthy (five of seven), whatever the others have. Not beside failTrafficOnPanic." scope:"cluster" effect:"rebuilds the cluster" bwdefault:"false (Envoy)"`
}

// HashKey is one part of a request that is hashed. One of Header, Cookie, QueryParameter and SourceAddress is set.
type HashKey struct {
	Header         *string     `json:"header,omitempty" doc:"The value of a header." scope:"cluster" effect:"in place" bwdefault:"one of the four is required"`
	Cookie         *HashCookie `json:"cookie,omitempty" doc:"The value of a cookie." scope:"cluster" effect:"in place" bwdefault:"one of the four is required"`
	QueryParameter *string     `json:"queryParameter,omitempty" doc:"The value of a parameter in the query." scope:"cluster" effect:"in place" bwdefault:"one of the four is required"`
	SourceAddress  *bool       `json:"sourceAddress,omitempty" doc:"true: the address that the proxy is called from, which is the same for all that runs beside a sidecar." scope:"cluster" effect:"in place" bwdefault:"one of the four is required"`
	Terminal       *bool       `json:"terminal,omitempty" doc:"Where a request has this, what comes after it does not count." scope:"cluster" effect:"in place" bwdefault:"false (Envoy)"`
}

// HashCookie is a cookie that is hashed.
type HashCookie struct {
	Name *string            `json:"name,omitempty" doc:"Its name." scope:"cluster" effect:"in place" bwdefault:"required"`
	TTL  *manifest.Duration `json:"ttl,omitempty" doc:"Gives a request without it a cookie that lives so long; none: as long as the client's session." unit:"duration" allow:"none" scope:"cluster" effect:"in place" bwdefault:"no cookie is given (Envoy)"`
	Path *string            `json:"path,omitempty" doc:"The path of the cookie that is given." scope:"cluster" effect:"in place" bwdefault:"none (Envoy)"`
}

// SlowStart lets a host's weight grow from MinWeightPercent to the whole within Window.
type SlowStart struct {
	Window           *manifest.Duration `json:"window,omitempty" doc:"How long it takes to the whole share." unit:"duration" scope:"cluster" effect:"rebuilds the cluster" bwdefault:"required"`
	Aggression       *float64           `json:"aggression,omitempty" doc:"1: the share grows evenly; more: fast at first; less: slowly at first." minimum:"0.01" maximum:"100" unit:"exponent" scope:"cluster" effect:"rebuilds the cluster" bwdefault:"1 (Envoy)"`
	MinWeightPercent *uint32            `json:"minWeightPercent,omitempty" doc:"The share to begin with." unit:"percent" maximum:"100" scope:"cluster" effect:"rebuilds the cluster" bwdefault:"10 (Envoy)"`
}

// The algorithms.
const (
	RoundRobin   = "round-robin"
	LeastRequest = "least-request"
	Random       = "random"
	RingHash     = "ring-hash"
	Maglev       = "maglev"
)

const (
	defaultPanicThreshold   = 50
	defaultAggression       = 1.0
	defaultMinWeightPercent = 10
)

// Hashes reports whether the algorithm takes the host from a hash of the request.
func (l *LoadBalancing) Hashes() bool {
	return l.Algorithm != nil && (*l.Algorithm == RingHash || *l.Algorithm == Maglev)
}

// complete fills in the defaults.
func (l *LoadBalancing) complete(string, *Sections) {
	fill(&l.Algorithm, RoundRobin)
	fill(&l.PanicThreshold, defaultPanicThreshold)
	if l.SlowStart != nil {
		own(&l.SlowStart)
		fill(&l.SlowStart.Aggression, defaultAggression)
		fill(&l.SlowStart.MinWeightPercent, defaultMinWeightPercent)
	}
}

// check is what the fields must obey among each other once everything is merged. What another policy's algorithm makes useless is no
// fault: it counts for nothing.
func (l *LoadBalancing) check() []clash {
	found := l.checkOneOf()
	if l.Hashes() && len(l.HashOn) == 0 {
		found = append(found, clash{a: "loadBalancing.algorithm", rule: "hashes requests, which needs", b: "loadBalancing.hashOn"})
	}
	return found
}

// checkAlone: the algorithm and what it hashes may be set by two policies.
func (l *LoadBalancing) checkAlone() []clash {
	found := l.checkOneOf()
	if l.Algorithm == nil {
		return found
	}
	if len(l.HashOn) > 0 && !l.Hashes() {
		found = append(found, clash{a: "loadBalancing.hashOn", rule: "needs ring-hash or maglev for", b: "loadBalancing.algorithm"})
	}
	if l.SlowStart != nil && *l.Algorithm != RoundRobin && *l.Algorithm != LeastRequest {
		found = append(found, clash{a: "loadBalancing.slowStart", rule: "needs round-robin or least-request for", b: "loadBalancing.algorithm"})
	}
	if isTrue(l.FailTrafficOnPanic) && l.Hashes() {
		found = append(found, clash{a: "loadBalancing.failTrafficOnPanic", rule: "needs round-robin, least-request or random for", b: "loadBalancing.algorithm"})
	}
	return found
}

// checkOneOf: Envoy holds one of the two.
func (l *LoadBalancing) checkOneOf() []clash {
	if isTrue(l.FailTrafficOnPanic) && isTrue(l.LocalityWeighted) {
		return []clash{{a: "loadBalancing.failTrafficOnPanic", rule: "can't hold beside", b: "loadBalancing.localityWeighted"}}
	}
	return nil
}

// validate checks one author's section alone.
func (l *LoadBalancing) validate(f *faults, _ *Sections) {
	for i, key := range l.HashOn {
		key.validate(f, fmt.Sprintf("loadBalancing.hashOn[%d]", i))
	}
	if l.SlowStart != nil && l.SlowStart.Window == nil {
		f.add("loadBalancing.slowStart.window", "is required: how long a host takes to its whole share")
	}
}

func (k HashKey) validate(f *faults, path string) {
	n := 0
	for _, set := range []bool{k.Header != nil, k.Cookie != nil, k.QueryParameter != nil, k.SourceAddress != nil} {
		if set {
			n++
		}
	}
	if n != 1 {
		f.add(path, "needs one of header, cookie, queryParameter and sourceAddress")
	}
	if k.Header != nil {
		f.header(path+".header", *k.Header, false)
	}
	f.visible(path+".queryParameter", k.QueryParameter)
	if k.SourceAddress != nil && !*k.SourceAddress {
		f.add(path+".sourceAddress", "is only ever true: leave it out")
	}
	if k.Cookie != nil {
		k.Cookie.validate(f, path+".cookie")
	}
}

func (c *HashCookie) validate(f *faults, path string) {
	switch {
	case c.Name == nil:
		f.add(path+".name", "is required")
	case !token(*c.Name):
		f.add(path+".name", "%q can't be the name of a cookie", *c.Name)
	}
	f.visible(path+".path", c.Path)
	if c.Path != nil && c.TTL == nil {
		f.add(path+".path", "needs %s.ttl: without it no cookie is given", path)
	}
}
