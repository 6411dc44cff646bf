package apiserver

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/store"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// endpointKind is the kind of an endpoint in results; there is no manifest of that kind.
const endpointKind = "Endpoint"

// change is what a request asks for one object. Without a policy, guardrail, service or endpoint it asks for its removal.
type change struct {
	kind      string
	key       manifest.Key
	id        string // of an endpoint
	policy    *policy.Policy
	guardrail *policy.Guardrail
	service   *catalog.Service
	endpoint  *catalog.EndpointSpec
	lease     time.Duration // of the endpoint; 0: it has none
	granted   store.LeaseID // by the store, for this change
	place     place         // where the document stands
	image     []byte        // the stored form that is written anew by a rollback, for what this version does not know of it
}

// renew puts a copy of the object in its place, to be changed: an attempt before this one may have put the object into a world, and lint
// remembers one.
func (c *change) renew() {
	switch {
	case c.policy != nil:
		c.policy = new(*c.policy)
	case c.guardrail != nil:
		c.guardrail = new(*c.guardrail)
	case c.service != nil:
		c.service = new(*c.service)
	}
}

func (c *change) removes() bool {
	return c.policy == nil && c.guardrail == nil && c.service == nil && c.endpoint == nil
}

func (c *change) name() string {
	if c.kind == endpointKind {
		return c.key.Name + "/" + c.id
	}
	return c.key.Name
}

func (c *change) storeKey() string {
	switch c.kind {
	case policy.Kind:
		return store.PolicyKey(c.key.Namespace, c.key.Name)
	case policy.GuardrailKind:
		return store.GuardrailKey(c.key.Namespace, c.key.Name)
	case catalog.Kind:
		return store.ServiceKey(c.key.Namespace, c.key.Name)
	}
	return store.EndpointKey(c.key.Namespace, c.key.Name, c.id)
}

// historyKind is the word by which the keys of the history name a kind.
func historyKind(kind string) store.Kind {
	switch kind {
	case policy.Kind:
		return store.Policies
	case policy.GuardrailKind:
		return store.Guardrails
	}
	return store.Services
}

func (c *change) meta() *manifest.Meta {
	switch {
	case c.policy != nil:
		return &c.policy.Metadata
	case c.guardrail != nil:
		return &c.guardrail.Metadata
	case c.service != nil:
		return &c.service.Metadata
	}
	return &manifest.Meta{}
}

// step is a change beside what the store holds, and what it will write.
type step struct {
	*change
	old          store.Entry
	live         store.Entry // of an endpoint: the sign of life of its agent, or the mark
	oldLease     time.Duration
	oldMeta      manifest.Meta
	oldPolicy    *policy.Policy
	oldGuardrail *policy.Guardrail
	oldService   *catalog.Service // of an endpoint: its service
	lastGen      int64            // of the object, or of the tombstone of an earlier one
	expired      *expired         // what of this name has expired last, where that is all there is
	over         string           // what is to be told of a policy whose time is over
	action       api.Action
	generation   int64
	value        []byte // what will be stored; nil for a removal
}

// plan is everything one transaction will do.
type plan struct {
	steps    []*step
	world    *world.World // as it will be
	txn      store.Txn
	warnings []api.Warning
	findings []api.Finding // of lint
	impact   *api.Impact   // of a dry run; nil: it was not asked for
	newest   int64         // revision of the youngest object involved
	signs    bool          // an agent's sign of life is written anew
}

// changes reports whether anything of the configuration does.
func (p *plan) changes() bool {
	return slices.ContainsFunc(p.steps, func(s *step) bool { return s.action != api.Unchanged })
}

func (p *plan) results() []api.Result {
	list := make([]api.Result, 0, len(p.steps))
	for _, s := range p.steps {
		list = append(list, api.Result{Kind: s.kind, Namespace: s.key.Namespace, Name: s.name(), Action: s.action, Generation: s.generation})
	}
	return list
}

// load reads what the store holds of every object that changes touch.
func (w *writer) load(ctx context.Context, changes []*change) (*plan, error) {
	p := &plan{}
	for _, c := range changes {
		s := &step{change: c}
		var err error
		if s.old, err = w.kv.Get(ctx, c.storeKey()); err != nil {
			return nil, err
		}
		if c.kind == endpointKind {
			if s.live, err = w.kv.Get(ctx, c.liveKey()); err != nil {
				return nil, err
			}
		}
		if err := s.readOld(); err != nil {
			return nil, err
		}
		if s.old.Revision == 0 && c.kind != endpointKind {
			if err := w.recall(ctx, s); err != nil {
				return nil, err
			}
		}
		p.newest = max(p.newest, s.old.Revision)
		p.steps = append(p.steps, s)
	}
	return p, nil
}

// guard checks the preconditions of a request for one object.
func (s *step) guard(o options) error {
	exists := s.old.Revision > 0
	if o.createOnly && exists {
		return preconditionFailed(fmt.Sprintf("%s %s exists already, at revision %d", s.kind, s.key, s.old.Revision), s.old.Revision)
	}
	if o.ifMatch == "" {
		return nil
	}
	if !exists {
		return preconditionFailed(fmt.Sprintf("%s %s does not exist", s.kind, s.key), 0)
	}
	if tag := api.ETag(s.oldMeta); !matches(o.ifMatch, tag) {
		return preconditionFailed(fmt.Sprintf("%s %s is at %s", s.kind, s.key, tag), s.old.Revision)
	}
	return nil
}

// matches compares an If-Match header with an entity tag, strongly.
func matches(header, tag string) bool {
	for candidate := range strings.SplitSeq(header, ",") {
		if c := strings.TrimSpace(candidate); c == "*" || c == tag {
			return true
		}
	}
	return false
}

func (p *plan) cond(e store.Entry) {
	p.txn.Conds = append(p.txn.Conds, store.Cond{Key: e.Key, Revision: e.Revision})
}

// write adds the object and its history to the transaction.
func (p *plan) write(s *step, record historyRecord) error {
	p.cond(s.old)
	if s.action == api.Unchanged {
		return nil
	}
	if s.kind == endpointKind {
		p.txn.Ops = append(p.txn.Ops, store.Op{Key: s.storeKey(), Value: s.value, Delete: s.removes()})
		return nil
	}
	p.txn.Ops = append(p.txn.Ops, store.Op{Key: s.storeKey(), Value: s.value, Delete: s.removes()})
	record.Generation, record.Deleted, record.Object = s.generation, s.removes(), s.value
	value, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("write the history of %s %s: %w", s.kind, s.key, err)
	}
	key := store.HistoryKey(historyKind(s.kind), s.key.Namespace, s.key.Name, s.generation)
	p.txn.Conds = append(p.txn.Conds, store.Cond{Key: key})
	p.txn.Ops = append(p.txn.Ops, store.Op{Key: key, Value: value})
	return nil
}
