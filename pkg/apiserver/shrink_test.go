package apiserver_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/api"
)

// endpointsFrom are the specs of n static endpoints.
func endpointsFrom(n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("{address: 10.0.0.%d}", i+1)
	}
	return ", endpoints: [" + strings.Join(list, ", ") + "]"
}

// deletions are the parameters that delete services of shop.
func deletions(names ...string) string {
	var q strings.Builder
	for _, name := range names {
		q.WriteString("&delete=Service/shop/" + name)
	}
	return q.String()
}

func TestWriteThatTakesMuchOfANamespaceNeedsAllowShrink(t *testing.T) {
	f := newFixture(t)
	f.apply(service("a", "") + service("b", "") + service("c", "") + service("d", "") + service("e", "") + service("f", ""))
	f.want(http.StatusOK, "DELETE", services+"/f", "") // 1 of 6
	two := deletions("a", "b")
	before := f.revision()
	p := parse[api.Problem](t, f.want(http.StatusUnprocessableEntity, "POST", api.ApplyPath+"?force=true"+two, ""))
	if p.Type != api.Shrinks || !strings.Contains(p.Detail, "2 of the 5 services of namespace shop (a, b), which is more than 30 %") {
		t.Errorf("%s: %s, want shrinks with the names and how many of how many", p.Type, p.Detail)
	}
	// A service that takes the place of another does not make up for it: their callers are others.
	p = parse[api.Problem](t, f.want(http.StatusUnprocessableEntity, "POST", api.ApplyPath+"?force=true"+two, service("new-a", "")+service("new-b", "")))
	if p.Type != api.Shrinks {
		t.Errorf("two in the place of two: %s, want shrinks", p.Type)
	}
	for path, warnings := range map[string]func(reply) []api.Warning{
		api.ApplyPath + "?dryRun=true": func(r reply) []api.Warning { return parse[api.ApplyResult](t, r).Warnings },
		api.ValidatePath + "?":         func(r reply) []api.Warning { return parse[api.ValidateResult](t, r).Warnings },
	} {
		told := warnings(f.want(http.StatusOK, "POST", path+two, ""))
		if len(told) != 1 || told[0].Name != "a" || !strings.Contains(told[0].Message, "2 of the 5 services of namespace shop (a, b)") {
			t.Errorf("%s warns of %+v, want of what the write removes", path, told)
		}
	}
	if f.revision() != before {
		t.Error("a refused write, or a trial, has written")
	}
	f.want(http.StatusOK, "POST", api.ApplyPath+"?allowShrink=true"+two, "")
	f.want(http.StatusOK, "POST", api.ApplyPath+"?"+deletions("c", "d", "e"), "") // there were no more than three
}

func TestWriteThatTakesMuchOfAServiceNeedsAllowShrink(t *testing.T) {
	f := newFixture(t)
	f.apply(service("payments", endpointsFrom(10)) + service("small", endpointsFrom(3)))
	f.apply(service("payments", endpointsFrom(7)) + service("small", endpointsFrom(1))) // 30 %; and no more than three
	p := f.refused(http.StatusUnprocessableEntity, service("payments", endpointsFrom(4)))
	if p.Type != api.Shrinks || !strings.Contains(p.Detail, "3 of the 7 endpoints of Service shop/payments") {
		t.Errorf("%s: %s, want shrinks with the service and how many of how many", p.Type, p.Detail)
	}
	f.want(http.StatusUnprocessableEntity, "PUT", services+"/payments", service("payments", endpointsFrom(4)))
	told := parse[api.ApplyResult](t, f.want(http.StatusOK, "POST", api.ApplyPath+"?dryRun=true", service("payments", endpointsFrom(4)))).Warnings
	if len(told) != 1 || told[0].Name != "payments" || !strings.Contains(told[0].Message, "3 of the 7 endpoints of Service shop/payments") {
		t.Errorf("a dry run warns of %+v, want of what the write removes", told)
	}
	moved := strings.ReplaceAll(endpointsFrom(7), "10.0.0.", "10.0.1.")
	f.apply(service("payments", moved)) // as many, elsewhere
	f.want(http.StatusOK, "PUT", services+"/payments?allowShrink=true", service("payments", endpointsFrom(4)))
	f.apply(service("payments", ", discovery: {dns: {host: payments.internal}}")) // DNS says how many there are
}

// Registered endpoints count like those in the service's spec, and go with it.
func TestRegisteredEndpointsCountAsTheirServices(t *testing.T) {
	f := newFixture(t)
	f.apply(service("payments", endpointsFrom(2)) + service("billing", ""))
	one := func(i int) string { return fmt.Sprintf("%s/payments/endpoints/e%d", services, i) }
	for i := range 3 {
		f.want(http.StatusCreated, "PUT", one(i), fmt.Sprintf(`{"address":"10.1.0.%d"}`, i+1))
	}
	f.want(http.StatusOK, "DELETE", one(0), "") // an agent that goes is one at a time
	p := parse[api.Problem](t, f.want(http.StatusUnprocessableEntity, "DELETE", services+"/payments", ""))
	if p.Type != api.Shrinks || !strings.Contains(p.Detail, "4 of the 4 endpoints of Service shop/payments") {
		t.Errorf("%s: %s, want shrinks with all endpoints of the service", p.Type, p.Detail)
	}
	f.want(http.StatusOK, "DELETE", services+"/payments?allowShrink=true", "")
}
