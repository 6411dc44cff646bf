package envoy

import (
	"os"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// young are the fields of Envoy's API that Envoy 1.32 does not have, with the version that has them first. The file was made by
// comparing the releases of the API's Go module (1.32.4, 1.35.0 and on to 1.40.0: there is none of 1.33 and 1.34).
func young(t *testing.T) map[string]string {
	t.Helper()
	data, err := os.ReadFile("testdata/since.txt")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for line := range strings.Lines(string(data)) {
		name, version, _ := strings.Cut(strings.TrimSpace(line), " ")
		all[name] = version
	}
	return all
}

func TestFeaturesAgreeWithTheAPI(t *testing.T) {
	since := young(t)
	for _, f := range features {
		if _, err := protoregistry.GlobalFiles.FindDescriptorByName(f.api); err != nil {
			t.Errorf("%s: %v", f.api, err)
		}
		if got, want := minorText(f.since), since[string(f.api)]; got != want {
			t.Errorf("%s is said to be of Envoy %s, the API says %s", f.api, got, want)
		}
		if _, known := scopes[f.field]; !known && f.field != "" {
			t.Errorf("%s: %s is no field of the language", f.api, f.field)
		}
	}
}

func minorText(n int) string { return "1." + string(rune('0'+n/10)) + string(rune('0'+n%10)) }

// fieldsIn calls f with every field that is set anywhere in m.
func fieldsIn(m protoreflect.Message, f func(protoreflect.FullName)) {
	if a, ok := m.Interface().(*anypb.Any); ok {
		if inner, err := a.UnmarshalNew(); err == nil {
			fieldsIn(inner.ProtoReflect(), f)
		}
		return
	}
	m.Range(func(d protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		f(d.FullName())
		switch {
		case d.IsMap() && d.MapValue().Message() != nil:
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool { fieldsIn(v.Message(), f); return true })
		case d.IsList() && d.Message() != nil:
			for i := range v.List().Len() {
				fieldsIn(v.List().Get(i).Message(), f)
			}
		case !d.IsMap() && !d.IsList() && d.Message() != nil:
			fieldsIn(v.Message(), f)
		}
		return true
	})
}

// TestTrap36_NoEnvoyGetsWhatItDoesNotKnow compiles all goldens for old versions. A field that fails here needs a row in features.
func TestTrap36_NoEnvoyGetsWhatItDoesNotKnow(t *testing.T) {
	since := young(t)
	for _, version := range []string{"1.32", "1.35", "1.36", "1.37", "1.38", "1.39"} {
		seen := map[protoreflect.FullName]bool{}
		note := func(m proto.Message) { fieldsIn(m.ProtoReflect(), func(n protoreflect.FullName) { seen[n] = true }) }
		target := Target{Profile: Sidecar, Version: version}
		listener, err := Listener(target, "127.0.0.1:15001")
		if err != nil {
			t.Fatal(err)
		}
		note(messageOf(t, listener))
		eachGolden(t, func(g goldenCase) {
			c, err := Service(target, g.service, g.effective())
			if err != nil {
				t.Fatalf("for Envoy %s: %v", version, err)
			}
			for _, r := range slices.Concat(c.Subsets, c.Composites, []*view.Resource{c.Cluster, c.Route, c.Local}) {
				if r != nil {
					note(messageOf(t, r))
				}
			}
		})
		for name := range seen {
			if v := since[string(name)]; v > version {
				t.Errorf("Envoy %s gets %s, which is of Envoy %s", version, name, v)
			}
		}
	}
}

func TestAFieldIsLeftOutAndReported(t *testing.T) {
	eff := &policy.Effective{
		Sections: policy.Sections{
			Timeout:          &policy.Timeout{Request: new(manifest.Duration("1s")), Deadline: &policy.Deadline{Minimum: new(manifest.Duration("5ms"))}},
			Retry:            &policy.Retry{NumRetries: new(uint32(1)), RetryOn: []string{"5xx"}, BufferBytes: new(uint32(10)), Budget: &policy.Budget{Interval: new(manifest.Duration("1s"))}},
			OutlierDetection: &policy.OutlierDetection{Consecutive5xx: new(uint32(5)), DetectDegradedHosts: new(true), UseFailureCriteria: new(true)},
			Fallback:         &policy.Fallback{Service: new("shop/queue"), When: []string{"5xx"}},
			FailureCriteria:  &policy.FailureCriteria{},
		},
		Fields: []policy.Field{field("timeout.deadline", "{}"), field("fallback.service", "shop/queue"), field("retry.bufferBytes", 10), field("retry.budget.interval", "1s"), field("outlierDetection.detectDegradedHosts", true), field("outlierDetection.useFailureCriteria", true)},
	}
	for version, lacks := range map[string]string{
		"1.32": "fallback.service outlierDetection.detectDegradedHosts outlierDetection.useFailureCriteria retry.budget.interval retry.bufferBytes timeout.deadline",
		"1.36": "fallback.service outlierDetection.detectDegradedHosts retry.budget.interval timeout.deadline",
		"1.38": "retry.budget.interval timeout.deadline",
		"1.39": "timeout.deadline", "1.40": "", "1.41": "", "": "", "dev": "",
	} {
		target := Target{Profile: Sidecar, Version: version}
		var reported []string
		for _, f := range Report(target, payments(catalog.HTTP), eff) {
			if f.Level == Unsupported {
				reported = append(reported, f.Field)
			}
		}
		if got := strings.Join(reported, " "); got != lacks {
			t.Errorf("Envoy %q: reported %q, want %q", version, got, lacks)
		}
		c, err := Service(target, payments(catalog.HTTP), eff)
		if err != nil {
			t.Fatal(err)
		}
		held := map[protoreflect.FullName]bool{}
		for _, r := range append(c.Composites, c.Cluster, c.Route) {
			m := messageOf(t, r)
			fieldsIn(m.ProtoReflect(), func(n protoreflect.FullName) { held[n] = true })
		}
		for _, f := range features {
			if f.field != "" && held[f.api] == strings.Contains(lacks, f.field) {
				t.Errorf("Envoy %q: %s in the resources is %v", version, f.api, held[f.api])
			}
		}
	}
}

func TestVersionIsOfEnvoyAlone(t *testing.T) {
	for _, target := range []Target{{Profile: Agent, Version: "0.1"}, {Profile: GRPC, Version: "1.35"}} {
		if !target.knows("envoy.config.route.v3.Route.request_body_buffer_limit") {
			t.Errorf("%+v is taken for an old Envoy", target)
		}
	}
}
