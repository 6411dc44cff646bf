package envoy

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// The minor versions of Envoy 1 that are served.
const (
	oldestServed = 32
	newestServed = 40
)

// ServedVersions are the oldest and the newest Envoy that is served, such as 1.32.
func ServedVersions() (oldest, youngest string) {
	return fmt.Sprintf("1.%d", oldestServed), fmt.Sprintf("1.%d", newestServed)
}

// Serves reports whether version, with or without a patch number, is that of an Envoy that is served.
func Serves(version string) bool {
	parts := strings.Split(version, ".")
	if len(parts) < 2 || len(parts) > 3 || parts[0] != "1" {
		return false
	}
	for _, part := range parts[1:] {
		if n, err := strconv.ParseUint(part, 10, 16); err != nil || strconv.FormatUint(n, 10) != part {
			return false
		}
	}
	minor, _ := strconv.Atoi(parts[1])
	return minor >= oldestServed && minor <= newestServed
}

// feature is a field of Envoy's API that is younger than oldestServed. An older Envoy takes a resource with
// it and does nothing about it, or refuses the resource; so it is left out there, and reported.
type feature struct {
	api     protoreflect.FullName
	since   int    // minor version of Envoy 1 that knows it first
	whole   bool   // without it the message that it is in means nothing, or breaks a rule: all of that is left out
	field   string // of the language, and all below it; "" where no policy asks for it
	without string // what an older Envoy does
}

var features = []feature{
	{api: "envoy.config.route.v3.Route.request_body_buffer_limit", since: 36, field: "retry.bufferBytes",
		without: "a request with a body over 1 MiB is not retried"},
	{api: "envoy.config.cluster.v3.CircuitBreakers.Thresholds.RetryBudget.budget_interval", since: 39, field: "retry.budget.interval",
		without: "retries are held against the requests that are under way at the moment"},
	{api: "envoy.config.cluster.v3.OutlierDetection.detect_degraded_hosts", since: 38, field: "outlierDetection.detectDegradedHosts",
		without: "a host that calls itself degraded gets its full share of calls"},
	// Without it the application's x-envoy- headers stay; no address being internal, Envoy itself drops those that steer it.
	{api: "envoy.config.common.mutation_rules.v3.HeaderMutation.remove_on_match", since: 36, whole: true},
	{api: "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit.enable_retry_after_header", since: 40},
	{api: "envoy.extensions.http.custom_response.local_response_policy.v3.LocalResponsePolicy.response_code_details", since: 40},
	{api: "envoy.extensions.filters.http.header_mutation.v3.Mutations.formatters", since: 40, field: "timeout.deadline",
		without: "a call has timeout.request, whatever its caller has left"},
	{api: "envoy.extensions.clusters.composite.v3.ClusterConfig.clusters", since: 37, field: "fallback.service",
		without: "a call whose every try failed is not sent to the fallback"},
	{api: "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.retry_policy", since: 37},
	{api: "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.outlier_detection", since: 36, field: "outlierDetection.useFailureCriteria",
		without: "5xx are the failures"},
}

var featureOf = func() map[protoreflect.FullName]feature {
	all := make(map[protoreflect.FullName]feature, len(features))
	for _, f := range features {
		all[f.api] = f
	}
	return all
}()

// youngest is the first version that lacks no feature.
var youngest = slices.MaxFunc(features, func(a, b feature) int { return cmp.Compare(a.since, b.since) }).since

// newest is the version that lacks no feature: an Envoy that does not say its version, and what is no Envoy, count as that.
const newest = math.MaxInt

// minor is the version of an Envoy 1, as far as it decides what the proxy understands.
func (t Target) minor() int {
	major, minor, _ := strings.Cut(t.Version, ".")
	n, err := strconv.Atoi(minor)
	if t.audience()&envoys == 0 || major != "1" || err != nil {
		return newest
	}
	return n
}

// knows reports whether t takes a field of Envoy's API. It is for what can't be left out without something in its place.
func (t Target) knows(api protoreflect.FullName) bool { return featureOf[api].since <= t.minor() }

// tooOld is the feature that f needs and t lacks.
func (t Target) tooOld(f policy.Field) (feature, bool) {
	for _, feat := range features {
		if feat.field != "" && feat.since > t.minor() && below(f.Path, feat.field) {
			return feat, true
		}
	}
	return feature{}, false
}

func (f feature) fidelity(field string, minor int) Fidelity {
	return Fidelity{
		Field: field, Level: Unsupported, Reason: fmt.Sprintf("Envoy 1.%d does not know it: %s", minor, f.without),
		Instead: fmt.Sprintf("Envoy 1.%d or newer", f.since),
	}
}

// resource is m without what t does not know. m must be made for this one use.
func (t Target) resource(typ view.Type, name string, m message, needs ...view.ID) (*view.Resource, error) {
	if minor := t.minor(); minor < youngest {
		strip(m.ProtoReflect(), minor)
	}
	return resource(typ, name, m, needs...)
}

// strip reports whether m itself is to be left out.
func strip(m protoreflect.Message, minor int) (gone bool) {
	if a, ok := m.Interface().(*anypb.Any); ok {
		stripPacked(a, minor)
		return false
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		feat, young := featureOf[f.FullName()]
		switch {
		case young && feat.since > minor:
			m.Clear(f)
			gone = gone || feat.whole
		case f.IsMap() && f.MapValue().Message() != nil:
			v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
				strip(v.Message(), minor)
				return true
			})
		case f.IsMap() || f.Message() == nil:
		case f.IsList():
			stripList(v.List(), minor)
		case strip(v.Message(), minor):
			m.Clear(f)
		}
		return true
	})
	return gone
}

func stripList(l protoreflect.List, minor int) {
	kept := 0
	for i := range l.Len() {
		if v := l.Get(i); !strip(v.Message(), minor) {
			l.Set(kept, v)
			kept++
		}
	}
	l.Truncate(kept)
}

// stripPacked packs anew only what changes.
func stripPacked(a *anypb.Any, minor int) {
	inner, err := a.UnmarshalNew()
	if err != nil {
		return // validation will say so
	}
	before := proto.Clone(inner)
	if strip(inner.ProtoReflect(), minor); !proto.Equal(before, inner) {
		a.Value = pack(inner).Value
	}
}

// YoungField is a field of the language that an old Envoy does without.
type YoungField struct {
	Field   string // such as retry.budget.interval
	API     string // the field of Envoy's API that carries it
	Since   string // the version of Envoy that has it first, such as 1.39
	Without string // what an older one does
}

// YoungFields are all there are.
func YoungFields() []YoungField {
	var list []YoungField
	for _, f := range features {
		if f.field != "" {
			list = append(list, YoungField{f.field, string(f.api), fmt.Sprintf("1.%d", f.since), f.without})
		}
	}
	return list
}
