package apiserver_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/apiserver"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// faulty are worlds with policies of shop beside those that are stored: such as nobody could write, unless this program has a fault.
type faulty struct {
	apiserver.Worlds
	specs map[string]policy.Spec
}

func (f *faulty) World() *world.World {
	w := f.Worlds.World()
	c := world.Changes{Policies: map[manifest.Key]*policy.Compiled{}}
	for name, spec := range f.specs {
		m := manifest.Meta{Namespace: "shop", Name: name, Generation: 1, Revision: 1}
		c.Policies[m.Key()] = policy.Compile(&policy.Policy{APIVersion: manifest.APIVersion, Kind: policy.Kind, Metadata: m, Spec: spec})
	}
	return w.With(w.Rev, c)
}

// What would put a policy into quarantine is refused, with a proxy concerned or without. What is in quarantine already holds up no write, and can
// be mended.
func TestWhatCannotBeBuiltIsRefused(t *testing.T) {
	noText := "\xff"
	worlds := &faulty{}
	connected := map[string]int{"orders": 20}
	f := newFixture(t, func(c *apiserver.Config) {
		worlds.Worlds, c.Worlds = c.Worlds, worlds
		c.Classes = func() map[world.ClassKey]int {
			var now apiserver.Config
			withClasses(connected)(&now)
			return now.Classes()
		}
	})
	f.apply(service("payments", "") + service("billing", ""))
	body := policy.Sections{Fallback: &policy.Fallback{Response: &policy.FallbackResponse{Body: &noText}}}
	byNothing := policy.Sections{LoadBalancing: &policy.LoadBalancing{HashOn: []policy.HashKey{{Header: &noText}}}}
	worlds.specs = map[string]policy.Spec{
		"p": {To: policy.Target{Service: "email"}, Sections: body},
		"q": {To: policy.Target{Service: "billing"}, From: &policy.Source{Service: "orders"}, Sections: byNothing},
	}
	hashes := doc("shop", "r", "to: {service: billing}, loadBalancing: {algorithm: ring-hash, hashOn: [{header: x-user}]}")
	for _, tt := range []struct {
		write     string
		connected map[string]int
		want      string
		line      int
	}{
		{hashes, map[string]int{"orders": 20}, "with Policy shop/r calls of shop/orders to shop/billing can't be built: ", 1},
		{service("email", ""), nil, "with Policy shop/p calls of any caller in shop to shop/email can't be built: panic: ", 0},
	} {
		connected = tt.connected
		p := f.refused(http.StatusUnprocessableEntity, tt.write)
		if p.Type != api.Unbuildable || len(p.Errors) != 1 || !strings.HasPrefix(p.Errors[0].Message, tt.want) || p.Errors[0].Line != tt.line {
			t.Errorf("%+v, want %s at line %d", p, tt.want, tt.line)
		}
		f.want(http.StatusUnprocessableEntity, "POST", api.ValidatePath, tt.write)
	}
	f.want(http.StatusCreated, "PUT", policies+"/r", hashes) // nobody calls so
	f.want(http.StatusOK, "DELETE", policies+"/r", "")
	connected = map[string]int{"orders": 1}
	f.want(http.StatusUnprocessableEntity, "PUT", policies+"/r?wide=true", hashes)

	worlds.specs = map[string]policy.Spec{"p": {To: policy.Target{Service: "payments"}, Sections: body}}
	f.apply(service("payments", ", hosts: [pay.example.com]") + doc("shop", "r", "to: {service: payments}, limits: {maxRequests: 7}"))
	f.apply(doc("shop", "p", "to: {service: payments}, timeout: {request: 2s}"))
	f.want(http.StatusOK, "DELETE", policies+"/p", "")
}
