package apiserver_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/api"
)

func labelled(name, labels string) string {
	return strings.Replace(service(name, ""), "name: "+name, "name: "+name+", labels: {"+labels+"}", 1)
}

// wantWarning fails the test unless there is one warning, of that object, that has all words.
func wantWarning(t *testing.T, got []api.Warning, object string, words ...string) {
	t.Helper()
	if len(got) != 1 || got[0].Kind+" "+got[0].Namespace+"/"+got[0].Name != object {
		t.Fatalf("warnings %+v, want one of %s", got, object)
	}
	for _, word := range words {
		if !strings.Contains(got[0].Message, word) {
			t.Errorf("warning %q does not name %s", got[0].Message, word)
		}
	}
}

func TestLabelsThatBringPoliciesTogether(t *testing.T) {
	f := newFixture(t)
	f.apply(labelled("payments", "tier: back") + service("orders", "") +
		doc("shop", "a", "to: {selector: {tier: back}}, timeout: {request: 3s}") +
		doc("shop", "b", "to: {selector: {team: pay}}, timeout: {request: 5s}") +
		doc("shop", "c", "to: {service: payments}, from: {selector: {tier: front}}, limits: {maxRequests: 5}") +
		doc("shop", "d", "to: {service: payments}, from: {selector: {team: web}}, limits: {maxRequests: 6}"))
	both := labelled("payments", "tier: back, team: pay")
	tried := parse[api.ValidateResult](t, f.want(http.StatusOK, "POST", api.ValidatePath, both))
	wantWarning(t, tried.Warnings, "Service shop/payments", "shop/a", "shop/b", "timeout.request")
	wantWarning(t, f.apply(both).Warnings, "Service shop/payments", "shop/a", "shop/b", "timeout.request")
	if status, _ := f.condition("a", api.Effective); status != "False Conflicted" {
		t.Errorf("policy a is Effective %s, want False Conflicted", status)
	}
	if again := f.apply(both + labelled("orders", "tier: front")); len(again.Warnings) != 0 {
		t.Errorf("warnings %+v of a conflict that was there before", again.Warnings)
	}
	// As a caller too.
	wantWarning(t, f.apply(labelled("orders", "tier: front, team: web")).Warnings, "Service shop/orders", "shop/c", "shop/d", "limits.maxRequests")
}

func TestWriteAfterWhichAMergeFallsBack(t *testing.T) {
	f := newFixture(t)
	f.apply(labelled("payments", "tier: back") +
		doc("shop", "a", "to: {selector: {tier: back}}, timeout: {request: 3s}") +
		doc("shop", "b", "to: {selector: {team: pay}}, precedence: 1, timeout: {perTry: 5s}"))
	wantWarning(t, f.apply(labelled("payments", "tier: back, team: pay")).Warnings, "Service shop/payments", "shop/a", "shop/b", "timeout.perTry")
}

func TestDeletedPolicyThatHidAnother(t *testing.T) {
	f := newFixture(t)
	f.apply(labelled("payments", "tier: back") +
		doc("shop", "a", "to: {selector: {tier: back}}, timeout: {request: 3s}") +
		doc("shop", "b", "to: {selector: {team: pay}}, precedence: 1, timeout: {perTry: 5s}") +
		doc("shop", "hides", "to: {service: payments}, timeout: {perTry: 1s}"))
	if got := f.apply(labelled("payments", "tier: back, team: pay")).Warnings; len(got) != 0 {
		t.Fatalf("warnings %+v, want none: the clash is hidden", got)
	}
	gone := parse[api.ApplyResult](t, f.want(http.StatusOK, "DELETE", policies+"/hides", ""))
	wantWarning(t, gone.Warnings, "Policy shop/hides", "shop/a", "shop/b", "timeout.perTry")
}
