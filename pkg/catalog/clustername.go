package catalog

import (
	"slices"
	"strings"
)

// maxClusterName is how many characters the name of a cluster may have.
const maxClusterName = 200

// ClusterName is what proxies with routes of their own call the cluster of svc.
func ClusterName(svc *Service) string {
	if svc.Spec.ClusterName != "" {
		return svc.Spec.ClusterName
	}
	return svc.Key().String()
}

// ClusterNames are all names that clusters of svc, without its subsets, have in some proxy. No other service has any of them.
func ClusterNames(svc *Service) []string {
	return slices.Compact([]string{svc.Key().String(), ClusterName(svc)})
}

// clusterName checks a name that stands in other people's routes. The marks that we put behind a name, for subsets and fallbacks, are
// in none.
func (f *faults) clusterName(name string) {
	allowed := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-/:", r)
	}
	if len(name) > maxClusterName || strings.ContainsFunc(name, func(r rune) bool { return !allowed(r) }) {
		f.add("spec.clusterName", "%.70q may have letters, digits and . _ - / : alone, at most %d of them", name, maxClusterName)
	}
}
