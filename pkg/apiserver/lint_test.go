package apiserver_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/api"
)

const (
	fourHosts = ", endpoints: [{address: 10.0.0.1}, {address: 10.0.0.2}, {address: 10.0.0.3}, {address: 10.0.0.4}]"
	neverOut  = "to: {service: payments}, outlierDetection: {consecutive5xx: 5, maxEjectionPercent: 10}"
)

func codes(list []api.Finding) []string {
	var found []string
	for _, f := range list {
		found = append(found, f.Code)
	}
	return found
}

func TestApplyTellsWhatLintFinds(t *testing.T) {
	f := newFixture(t)
	if found := f.apply(service("payments", fourHosts)).Findings; len(found) != 0 {
		t.Errorf("a service alone: %+v", found)
	}
	if found := f.apply(doc("shop", "p", neverOut)).Findings; !slices.Equal(codes(found), []string{"never-ejects"}) {
		t.Errorf("found %v, want never-ejects", codes(found))
	}
	// What a write brings about elsewhere is told, once.
	fine := strings.Replace(neverOut, "10", "34", 1)
	f.apply(doc("shop", "p", fine))
	if found := parse[api.ApplyResult](t, f.want(http.StatusOK, "POST", api.ApplyPath+"?allowShrink=true", service("payments", endpointsFrom(2)))).Findings; !slices.Equal(codes(found), []string{"never-ejects"}) {
		t.Errorf("with two hosts fewer: found %v, want never-ejects of the policy", codes(found))
	}
	if found := f.apply(service("orders", "")).Findings; len(found) != 0 {
		t.Errorf("told again by another write: %v", codes(found))
	}
	put := f.want(http.StatusOK, "PUT", policies+"/p", doc("shop", "p", neverOut))
	if got := put.header.Values("X-Breakwater-Warning"); len(got) != 1 || !strings.HasSuffix(got[0], "[never-ejects]") {
		t.Errorf("warnings of a PUT: %q, want one that ends in [never-ejects]", got)
	}
}

func TestStrictRefusesLintErrors(t *testing.T) {
	f := newFixture(t)
	f.apply(service("payments", fourHosts))
	for _, path := range []string{api.ApplyPath, api.ValidatePath} {
		p := parse[api.Problem](t, f.want(http.StatusUnprocessableEntity, "POST", path+"?strict=true", doc("shop", "p", neverOut)))
		if p.Type != api.LintErrors || len(p.Errors) != 1 || p.Errors[0].Field != "spec.outlierDetection.maxEjectionPercent" || p.Errors[0].Line == 0 {
			t.Errorf("%s: %+v, want lint-errors at the field", path, p)
		}
	}
	f.want(http.StatusNotFound, "GET", policies+"/p", "")
	panics := strings.Replace(neverOut, "10", "100", 1)
	f.want(http.StatusOK, "POST", api.ApplyPath+"?strict=true", doc("shop", "p", panics))
}

func TestLintIsAskedByNamespaceAndSeverity(t *testing.T) {
	f := newFixture(t)
	f.apply(service("payments", fourHosts))
	f.apply(doc("shop", "p", neverOut+", timeout: {request: 1s, perTry: 900ms}, retry: {numRetries: 3}"))
	f.apply(doc("else", "q", "to: {service: \"*\"}, timeout: {request: 1s}"))
	for query, want := range map[string][]string{
		"":                               {"never-ejects", "matches-nothing", "tries-exceed-request"},
		"?namespace=shop":                {"never-ejects", "tries-exceed-request"},
		"?severity=warning":              {"never-ejects", "matches-nothing"},
		"?severity=error&namespace=else": nil,
	} {
		list := parse[api.LintResponse](t, f.want(http.StatusOK, "GET", api.LintPath+query, ""))
		if got := codes(list.Items); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
	f.want(http.StatusUnprocessableEntity, "GET", api.LintPath+"?severity=bad", "")
}
