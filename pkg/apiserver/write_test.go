package apiserver_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/api"
)

const (
	policies = "/api/v1/namespaces/shop/policies"
	services = "/api/v1/namespaces/shop/services"
)

func service(name, rest string) string {
	return fmt.Sprintf("apiVersion: breakwater/v1alpha1\nkind: Service\nmetadata: {namespace: shop, name: %s}\nspec: {protocol: http, port: 80%s}\n---\n", name, rest)
}

func policyDoc(name, rest string) string {
	return fmt.Sprintf("apiVersion: breakwater/v1alpha1\nkind: Policy\nmetadata: {namespace: shop, name: %s}\nspec:\n%s\n---\n", name, rest)
}

func TestCreateUpdateUnchangedDeleteRecreate(t *testing.T) {
	f := newFixture(t)
	f.apply(service("payments", "") + service("orders", ""))
	doc := policyDoc("p", "  to: {service: payments}\n  timeout: {request: 3s}")
	created := f.want(http.StatusCreated, "PUT", policies+"/p", doc)
	first := parse[api.PolicyResponse](t, created)
	if first.Metadata.Generation != 1 || first.Metadata.UID == "" || created.header.Get("ETag") != api.ETag(first.Metadata) {
		t.Errorf("created: metadata %+v, ETag %s", first.Metadata, created.header.Get("ETag"))
	}
	before := f.revision()
	again := parse[api.PolicyResponse](t, f.want(http.StatusOK, "PUT", policies+"/p", doc))
	if f.revision() != before || again.Metadata.Revision != first.Metadata.Revision {
		t.Errorf("a write that changes nothing moved the store %d -> %d, the object %d -> %d", before, f.revision(), first.Metadata.Revision, again.Metadata.Revision)
	}
	edited := parse[api.PolicyResponse](t, f.want(http.StatusOK, "PUT", policies+"/p", strings.ReplaceAll(doc, "3s", "4s")))
	if edited.Metadata.Generation != 2 || edited.Metadata.UID != first.Metadata.UID {
		t.Errorf("edited: metadata %+v, want generation 2 and uid %s", edited.Metadata, first.Metadata.UID)
	}
	f.want(http.StatusOK, "DELETE", policies+"/p", "")
	f.want(http.StatusNotFound, "GET", policies+"/p", "")
	f.want(http.StatusNotFound, "DELETE", policies+"/p", "")
	back := parse[api.PolicyResponse](t, f.want(http.StatusCreated, "PUT", policies+"/p", doc))
	if back.Metadata.Generation != 4 || back.Metadata.UID == first.Metadata.UID {
		t.Errorf("re-created: metadata %+v, want generation 4 (after the tombstone) and a new uid", back.Metadata)
	}
}
