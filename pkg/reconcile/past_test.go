package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/store"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

var bound = manifest.Key{Namespace: "shop", Name: "bound"}

// remember writes generations of the policy bound into its history: a timeout each; an empty one is a removal.
func (r *running) remember(timeouts ...string) {
	for i, timeout := range timeouts {
		was := world.Generation{Schema: 1, Generation: int64(i + 1), Deleted: timeout == ""}
		if !was.Deleted {
			d := manifest.Duration(timeout)
			was.Object = generation(r.t, was.Generation, policy.Kind, bound.Name, policy.Spec{To: policy.Target{Service: "payments"}, Sections: policy.Sections{Timeout: &policy.Timeout{Request: &d}}})
		}
		value, err := json.Marshal(was)
		if err != nil {
			r.t.Fatal(err)
		}
		r.put(store.HistoryKey(store.Policies, bound.Namespace, bound.Name, int64(i+1)), value)
	}
}

// poison makes that generation of bound one that can't be built: nothing that is stored could be so, unless this program has a fault.
func (r *running) poison(generation int64) {
	noText := "\xff"
	p := policy.Compile(&policy.Policy{
		APIVersion: manifest.APIVersion, Kind: policy.Kind, Metadata: manifest.Meta{Namespace: bound.Namespace, Name: bound.Name, Generation: generation},
		Spec: policy.Spec{To: policy.Target{Service: "payments"}, Sections: policy.Sections{Fallback: &policy.Fallback{Response: &policy.FallbackResponse{Body: &noText}}}},
	})
	c := world.Changes{Policies: map[manifest.Key]*policy.Compiled{bound: p}}
	if err := r.do(context.Background(), func(b *world.Builder, _ *members) { b.Update(b.World().With(b.World().Rev, c), c) }); err != nil {
		r.t.Fatal(err)
	}
	synctest.Wait()
}

// inForce is what holds in the place of quarantined policies.
func (r *running) inForce() string {
	var list []string
	for _, q := range r.Quarantined() {
		list = append(list, fmt.Sprintf("%s %d->%d", q.Key, q.Generation, q.InForce))
	}
	return strings.Join(list, ", ")
}

func (r *running) join() *world.Class {
	class, err := r.Join(context.Background(), ordersClass)
	if err != nil {
		r.t.Fatal(err)
	}
	return class
}

func TestQuarantinedPolicyIsReadFromItsHistory(t *testing.T) {
	for name, tt := range map[string]struct {
		history []string
		want    string
	}{
		"an earlier generation":  {[]string{"1s", "2s"}, "shop/bound 3->2"},
		"a later one, not yet":   {[]string{"1s", "2s", "3s", "4s"}, "shop/bound 3->2"},
		"none":                   {nil, "shop/bound 3->0"},
		"none since its removal": {[]string{"1s", ""}, "shop/bound 3->0"},
		"one that can't be read": {[]string{"1s", "soon"}, "shop/bound 3->1"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(r *running) {
				r.putService("orders")
				r.putService("payments")
				r.remember(tt.history...)
				r.settled(r.putTimeout("2s"))
				class := r.join()
				before := class.Head()
				r.poison(3)
				if got := r.inForce(); got != tt.want {
					t.Errorf("quarantined is %q, want %q", got, tt.want)
				}
				if same := class.Head().Views == before.Views; same != (tt.want == "shop/bound 3->2") {
					t.Errorf("what the class holds stays: %v, where %s", same, tt.want)
				}
				r.settled(r.putService("email"))
				r.settled(r.putService("payments"))
				if n := strings.Count(r.log.String(), "a policy is quarantined"); n != 1 || !strings.Contains(r.log.String(), "panic: pack") {
					t.Errorf("told %d times, want once, with the panic:\n%s", n, r.log)
				}
				r.settled(r.putTimeout("5s"))
				if got := r.inForce(); got != "" {
					t.Errorf("after a good edit %q is quarantined", got)
				}
			})
		})
	}
}

// A history that can't be read is read again.
func TestHistoryIsReadAgain(t *testing.T) {
	inBubble(t, func(r *running) {
		r.putService("orders")
		r.remember("1s", "2s")
		r.settled(r.putService("payments"))
		r.kv.Fail(errors.New("no quorum"))
		r.poison(3)
		r.join()
		synctest.Wait()
		if got := r.inForce(); got != "shop/bound 3->0" {
			t.Errorf("while the history can't be read %q is quarantined, want it left out", got)
		}
		r.kv.Fail(nil)
		time.Sleep(pastAgain + time.Second)
		if got := r.inForce(); got != "shop/bound 3->2" {
			t.Errorf("once the history can be read %q is quarantined, want generation 2 in its place", got)
		}
	})
}
