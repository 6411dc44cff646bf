package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/integration/harness"
	"github.com/breakwater-mesh/breakwater/internal/testkit/fields"
	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// A change of each field of the language does to a live Envoy what the language says of it: Envoy's own counters tell what it built anew. Where
// that is nothing, an ejected host stays out, a call under way goes on, and no connection is closed.
func TestEveryFieldActsAsItSays(t *testing.T) {
	t.Parallel()
	e := newEffects(t)
	list := changes(t)
	slices.SortStableFunc(list, func(a, b change) int { // what is in place first: there is less to eject again
		return strings.Compare(a.effect, b.effect)
	})
	for _, c := range list {
		t.Run(c.name, func(t *testing.T) { e.act(t, c) })
	}
}

const (
	inPlace = "in place"
	drains  = "drains the application's connections"
)

// change is an edit of a policy, and what it should do.
type change struct {
	name          string
	protocol      string // of the service
	before, after map[string]any
	effect        string // inPlace, drains or fields.Rebuilds
	carrier       string // what Envoy must take over
	alone         bool   // and nothing beside it
}

// changes are edits of each field from one value to another; where another place reaches for the field, also there; and of the marks of
// each section, over a field of each carrier in it.
func changes(t *testing.T) []change {
	said := map[string]string{}
	for _, d := range manifest.Describe[policy.Sections]("") {
		said[d.Path] = d.Effect
	}
	var list []change
	marked := map[string]bool{}
	for _, f := range fields.All {
		spec := func(value string, further ...string) map[string]any { return must(f.Spec(value, further...))(t) }
		always, where, _ := strings.Cut(said[f.Path], "; ")
		list = append(list, change{f.Path, f.Protocol(), spec(f.First), spec(f.Second), always, f.Carrier, true})
		for _, p := range fields.Elsewhere[f.Section()] {
			if !strings.HasPrefix(where, fields.Rebuilds) {
				t.Errorf("%s says %q, and is in %s too", f.Path, said[f.Path], p.At)
			}
			if f.In(p) {
				list = append(list, change{f.Path + " in " + p.At, "", spec(f.First, p.With), spec(f.Second, p.With), fields.Rebuilds, fields.Cluster, false})
			}
		}
		if of := f.Section() + " in the " + f.Carrier; !marked[of] && f.Carrier != fields.Nothing {
			marked[of] = true
			list = append(list, marks(f, said, spec)...)
		}
	}
	return list
}

// marks are the edits that switch a section off, and that enforce what was only observed.
func marks(f fields.Field, said map[string]string, spec func(string, ...string) map[string]any) (list []change) {
	add := func(mark string, before, after map[string]any) {
		effect, _, _ := strings.Cut(said[f.Section()+"."+mark], "; ")
		if f.Rebuilds(said[f.Section()+"."+mark]) {
			effect = fields.Rebuilds
		}
		list = append(list, change{f.Section() + "." + mark + " over " + f.Path, f.Protocol(), before, after, effect, f.Carrier, false})
	}
	add("disabled", spec(f.First), f.Off())
	if said[f.Section()+".observe"] != "" {
		observed := spec(f.First)
		observed[f.Section()].(map[string]any)["observe"] = true
		add("observe", observed, spec(f.First))
	}
	return list
}

// effects is an Envoy of which one policy is edited.
type effects struct {
	*mesh
	orders    *sidecar
	good, bad *harness.Host
}

func newEffects(t *testing.T) *effects {
	m := newMesh(t)
	hosts := m.service("payments", 2)
	m.hosts["ledger"] = hosts
	m.apply(m.manifest("orders", "dependsOn: [payments, ledger, queue, depot/queue]"),
		strings.ReplaceAll(m.manifest("ledger"), "protocol: http", "protocol: http2"),
		m.manifest("queue"), strings.ReplaceAll(m.manifest("queue"), "namespace: shop", "namespace: depot"),
		policyFor("eject", `"*"`, strings.Replace(outlier, "baseEjectionTime: 60s", "baseEjectionTime: 40s", 1)))
	e := &effects{m, m.envoy("orders"), hosts[0], hosts[1]}
	m.programmed("eject")
	return e
}

// act makes an edit and looks at what it does.
func (e *effects) act(t *testing.T, c change) {
	e.write(t, c.protocol, c.before)
	if c.effect != fields.Rebuilds {
		e.ready(t)
	}
	before := e.counts(t)
	e.write(t, c.protocol, c.after)
	after := e.counts(t)
	rose := func(counter string) int64 { return after[counter] - before[counter] }
	effects := map[string]string{fields.Rebuilds: fields.Cluster, drains: fields.Listener}
	if _, known := effects[c.effect]; !known && c.effect != inPlace {
		t.Fatalf("the language says %q", c.effect)
	}
	for effect, counter := range effects {
		if n := rose(counter); (n == 1) != (c.effect == effect) || n > 1 {
			t.Errorf("it %s %d times, but the language says %q", effect, n, c.effect)
		}
	}
	for _, carrier := range []string{fields.Cluster, fields.Route, fields.Runtime, fields.Listener} {
		if n := rose(carrier); n > 0 && c.alone && carrier != c.carrier || n == 0 && carrier == c.carrier {
			t.Errorf("Envoy took over %d times what is in the %s, want it of the %s", n, carrier, c.carrier)
		}
	}
	if c.effect == fields.Rebuilds {
		return
	}
	if out, closed, active := after[ejected], rose(destroyed), e.good.Active(); out != 1 || closed != 0 || active != 1 {
		t.Errorf("%d hosts are ejected, %d connections were closed and %d calls are under way; want 1, none and 1", out, closed, active)
	}
}

const destroyed = payments + "upstream_cx_destroy"

// counts are Envoy's own: what it took over so far, by what carries it, and what it has of payments.
func (e *effects) counts(t *testing.T) map[string]int64 {
	t.Helper()
	counts := map[string]int64{}
	for name, n := range must(e.orders.Stats(""))(t) {
		switch {
		case name == "cluster_manager.cluster_modified":
			counts[fields.Cluster] = n
		case name == "listener_manager.listener_modified":
			counts[fields.Listener] = n
		case name == "runtime.load_success":
			counts[fields.Runtime] = n
		case strings.Contains(name, ".rds.") && strings.HasSuffix(name, ".config_reload"):
			counts[fields.Route] += n
		case name == ejected || name == destroyed:
			counts[name] = n
		}
	}
	return counts
}

// write makes spec the policy of the service that speaks the protocol, and waits until Envoy has accepted all that comes of it.
func (e *effects) write(t *testing.T, protocol string, spec map[string]any) {
	t.Helper()
	name := "edit"
	if protocol != "" {
		name, spec["to"] = "edit-ledger", map[string]any{"service": "ledger"}
	}
	document := map[string]any{"apiVersion": manifest.APIVersion, "kind": policy.Kind, "metadata": map[string]string{"namespace": "shop", "name": name}, "spec": spec}
	if err := e.cp.Apply(string(must(json.Marshal(document))(t))); err != nil {
		t.Fatal(err)
	}
	path := api.DeliveryFor(api.DeliveryQuery{Revision: e.revision(), Wait: 10 * time.Second})
	eventually(t, func() error { // what is left of an edit is of no policy any more, and counts too
		_, answer, err := e.cp.Do(http.MethodGet, path, "")
		if err != nil {
			return err
		}
		var d api.Delivery
		if err := json.Unmarshal([]byte(answer), &d); err != nil {
			return err
		}
		if !d.Done(0) {
			return fmt.Errorf("%s is not delivered: %s", name, d.Message)
		}
		return nil
	})
}

// ready makes sure that a host is ejected, a call is under way at the other, and a connection without a call is open.
func (e *effects) ready(t *testing.T) {
	t.Helper()
	eventually(t, func() error {
		got := must(e.orders.Stats(payments))(t)
		if got[ejected] == 1 && got[payments+"upstream_cx_active"] > 1 && e.good.Active() > 0 {
			return nil
		}
		e.bad.Set(harness.Behaviour{Status: http.StatusServiceUnavailable})
		if got[ejected] == 1 && e.good.Active() == 0 {
			e.good.Set(harness.Behaviour{Hang: true})
			go e.orders.GetContext(context.WithoutCancel(e.t.Context()), "payments", "/")
			underWay(t, e.good, 1)
			e.good.Set(harness.Behaviour{})
		}
		e.orders.Get("payments", "/")
		return fmt.Errorf("not ready: %v", got)
	})
}
