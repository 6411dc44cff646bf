package apiserver_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// BenchmarkPolicyWrite is the cost of a write of one policy among 500 for 1,000 services, with all that is checked and looked at before it, on
// a store in memory.
func BenchmarkPolicyWrite(b *testing.B) {
	f := newFixture(b)
	var text strings.Builder
	for i := range 1000 {
		var deps []string
		for k := 1; k <= 3 && i+k*k < 1000; k++ {
			deps = append(deps, fmt.Sprintf("n%d/s%d", (i+k*k)%10, i+k*k))
		}
		fmt.Fprintf(&text, "apiVersion: breakwater/v1alpha1\nkind: Service\nmetadata: {namespace: n%d, name: s%d}\nspec: {port: 80, dependsOn: [%s], endpoints: [{address: 10.0.0.1}]}\n---\n",
			i%10, i, strings.Join(deps, ", "))
	}
	f.apply(text.String())
	text.Reset()
	spec := func(service, seconds int) string {
		return fmt.Sprintf("to: {service: s%d}, timeout: {request: %ds, perTry: 900ms}, retry: {numRetries: 2, retryOn: [gateway-error]}, %s", service, seconds, breaker)
	}
	for i := range 500 {
		text.WriteString(doc(fmt.Sprintf("n%d", i%10), fmt.Sprintf("p%d", i), spec(i, 2)))
	}
	f.apply(text.String())
	for n := 0; b.Loop(); n++ {
		f.want(http.StatusOK, "PUT", "/api/v1/namespaces/n3/policies/p3", doc("n3", "p3", spec(3, 3+n%2)))
	}
}
