package lint

import (
	"fmt"
	"strings"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// inVain finds what is observed beside the same section in force: proxies have one detection and one rate limit, and count nothing
// beside it.
func (l *spots) inVain(c *call) {
	l.observed(c, c.cluster, "outlierDetection", c.cluster.OutlierDetection != nil)
	l.observed(c, c.side, "rateLimit", c.RateLimit != nil)
}

func (l *spots) observed(c *call, s *side, section string, enforced bool) {
	if s.Observed == nil || !enforced {
		return
	}
	object, path, ok := observedAt(s.Observed.Fields, section)
	if !ok {
		return
	}
	by := "another policy"
	for _, f := range s.Fields {
		if strings.HasPrefix(f.Path, section+".") && !f.Origin.Default && f.Value != nil {
			by = named(f.Origin.Policy)
			break
		}
	}
	l.add(c.to, Finding{
		Code: ObservedInVain, Severity: Info, Kind: policy.Kind, Object: object, Path: path, Calls: c.hops(),
		Why:     fmt.Sprintf("%s enforces %s for these calls, and a proxy counts no other beside it", by, section),
		Instead: "to or from of calls for which it is not enforced, or disabled: true there first",
	})
}

// observedAt is where a section was written that observes; ok is false where none is.
func observedAt(fields []policy.Field, section string) (key manifest.Key, path string, ok bool) {
	for _, f := range fields {
		if strings.HasPrefix(f.Path, section+".") && !f.Origin.Default && f.Value != nil {
			written, _, _ := strings.Cut(f.Origin.Path, ".")
			return f.Origin.Policy, "spec." + written, true
		}
	}
	return manifest.Key{}, "", false
}
