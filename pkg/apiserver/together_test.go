package apiserver_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/envoy"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// bare is a service without a port.
func bare(name, rest string) string {
	return fmt.Sprintf("apiVersion: breakwater/v1alpha1\nkind: Service\nmetadata: {namespace: shop, name: %s}\nspec: {protocol: http%s}\n---\n", name, rest)
}

// wantAssignment fails the test if no assignment can be made of a service, or not of all of its endpoints.
func (f *fixture) wantAssignment(name string) {
	f.t.Helper()
	w, key := f.loop.World(), manifest.Key{Namespace: "shop", Name: name}
	svc, ok := w.Service(key)
	if !ok {
		f.t.Fatalf("there is no service %s", key)
	}
	if _, err := envoy.Assignment(svc, w.Endpoints(key)); err != nil {
		f.t.Errorf("assignment of %s: %v", key, err)
	}
}

func TestServicePortThatAnEndpointNeeds(t *testing.T) {
	f := newFixture(t)
	f.apply(service("payments", "") + bare("other", ""))
	f.want(http.StatusCreated, "PUT", services+"/payments/endpoints/e1", "{address: 127.0.0.1}")
	p := f.refused(http.StatusUnprocessableEntity, bare("payments", ""))
	if len(p.Errors) != 1 || p.Errors[0].Field != "spec.port" || !strings.Contains(p.Errors[0].Message, "endpoint e1 ") {
		t.Errorf("problem %+v, want one fault of spec.port that names e1", p)
	}
	f.wantAssignment("payments")
	refused := parse[api.Problem](t, f.want(http.StatusUnprocessableEntity, "PUT", services+"/other/endpoints/e1", "{address: 127.0.0.1}"))
	if len(refused.Errors) != 1 || refused.Errors[0].Field != "port" {
		t.Errorf("problem %+v, want one fault of port", refused)
	}
	f.want(http.StatusOK, "PUT", services+"/payments/endpoints/e1", "{address: 127.0.0.1, port: 81}")
	f.apply(bare("payments", "")) // nobody needs it any more
	f.wantAssignment("payments")
}

func TestOneAddressIsOneEndpoint(t *testing.T) {
	f := newFixture(t)
	f.apply(service("payments", ", endpoints: [{address: 10.0.0.1}]"))
	put := func(status int, id, body, names string) {
		t.Helper()
		r := f.want(status, "PUT", services+"/payments/endpoints/"+id, body)
		if p := parse[api.Problem](t, r); status == http.StatusConflict && (p.Type != api.EndpointConflict || len(p.Conflicts) != 1 || !strings.HasPrefix(p.Conflicts[0].Message, names+" of Service shop/payments ")) {
			t.Errorf("problem %+v, want a conflict with %s", p, names)
		}
	}
	put(http.StatusConflict, "e1", "{address: 10.0.0.1, port: 80}", "spec.endpoints[0]")
	put(http.StatusCreated, "e2", "{address: 10.0.0.2}", "")
	put(http.StatusConflict, "e1", "{address: 10.0.0.2, port: 80}", "endpoint e2")
	put(http.StatusConflict, "e3", "{address: 10.0.0.2, port: 80}", "endpoint e2")
	put(http.StatusCreated, "e1", "{address: 10.0.0.2, port: 81}", "")
	put(http.StatusOK, "e2", "{address: 10.0.0.2, weight: 2}", "")
	p := f.refused(http.StatusConflict, service("payments", ", endpoints: [{address: 10.0.0.2, port: 81}]"))
	if len(p.Conflicts) != 1 || p.Conflicts[0].Name != "payments/e1" {
		t.Errorf("problem %+v, want a conflict with e1", p)
	}
	// A new port of the service moves e2 onto e1.
	f.refused(http.StatusConflict, strings.ReplaceAll(service("payments", ""), "port: 80", "port: 81"))
	f.wantAssignment("payments")
	f.apply(service("payments", ""))
}

func TestWeightsThatEnvoyCannotAdd(t *testing.T) {
	f := newFixture(t)
	var list strings.Builder
	for i := range 4294 {
		fmt.Fprintf(&list, "{address: 10.0.%d.%d, weight: 1000000},", i/250, i%250+1)
	}
	f.apply(service("payments", ", endpoints: ["+list.String()+"]"))
	r := parse[api.Problem](t, f.want(http.StatusUnprocessableEntity, "PUT", services+"/payments/endpoints/e1", "{address: 10.1.0.1, weight: 1000000}"))
	if len(r.Errors) != 1 || r.Errors[0].Field != "weight" {
		t.Errorf("problem %+v, want a fault of weight", r)
	}
	f.want(http.StatusCreated, "PUT", services+"/payments/endpoints/e1", "{address: 10.1.0.1, weight: 1000000, locality: {region: a}}")
	f.refused(http.StatusUnprocessableEntity, service("payments", ", endpoints: ["+list.String()+"{address: 10.1.0.2, weight: 1000000}]"))
}

func TestTooManyEndpointsTogether(t *testing.T) {
	f := newFixture(t)
	var list strings.Builder
	for i := range 9999 {
		fmt.Fprintf(&list, "{address: 10.0.%d.%d},", i/250, i%250+1)
	}
	f.apply(service("payments", ", endpoints: ["+list.String()+"]"))
	f.want(http.StatusCreated, "PUT", services+"/payments/endpoints/e1", "{address: 10.1.0.1}")
	r := parse[api.Problem](t, f.want(http.StatusUnprocessableEntity, "PUT", services+"/payments/endpoints/e2", "{address: 10.1.0.2}"))
	if len(r.Errors) != 1 || !strings.Contains(r.Errors[0].Message, "10000 endpoints already") {
		t.Errorf("problem %+v, want one fault that says how many there are", r)
	}
	f.want(http.StatusOK, "PUT", services+"/payments/endpoints/e1", "{address: 10.1.0.3}")
	f.refused(http.StatusUnprocessableEntity, service("payments", ", endpoints: ["+list.String()+"{address: 10.1.0.4}]"))
}

// What DNS names are all endpoints there are: none registers beside them, and none may be left when they come by DNS.
func TestNoEndpointRegistersBesideDNS(t *testing.T) {
	f := newFixture(t)
	const byDNS = ", port: 80, discovery: {dns: {host: pay.test}}"
	f.apply(bare("payments", byDNS) + bare("other", ", port: 80"))
	p := parse[api.Problem](t, f.want(http.StatusUnprocessableEntity, "PUT", services+"/payments/endpoints/e1", "{address: 127.0.0.1}"))
	if len(p.Errors) != 1 || !strings.Contains(p.Errors[0].Message, "spec.discovery.dns") {
		t.Errorf("problem %+v, want one that names spec.discovery.dns", p)
	}
	f.want(http.StatusCreated, "PUT", services+"/other/endpoints/e1", "{address: 127.0.0.1}")
	p = f.refused(http.StatusUnprocessableEntity, bare("other", byDNS))
	if len(p.Errors) != 1 || p.Errors[0].Field != "spec.discovery.dns" || !strings.Contains(p.Errors[0].Message, "such as e1: delete them first") {
		t.Errorf("problem %+v, want one of spec.discovery.dns that names e1", p)
	}
	f.want(http.StatusOK, "DELETE", services+"/other/endpoints/e1", "")
	f.apply(bare("other", byDNS))
}
