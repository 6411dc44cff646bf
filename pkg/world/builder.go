package world

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/envoy"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// Builder keeps every class's head equal to what the world asks for. It builds a resource once for each service, tier and set of
// applying policies, and touches only what a change touches. It belongs to one goroutine.
type Builder struct {
	Past  Past      // of policies; nil: none has any. To be set before the first use
	Seen  time.Time // when the change was seen that the next Update takes in, for the heads that it makes
	Knows int       // the last vintage that it can build; to be set before the first use
	// Reshape, which tests may set, stands for what another release makes of a service.
	Reshape func(envoy.Target, *envoy.Compiled)

	world    *World
	services map[manifest.Key]*serviceState
	classes  map[ClassKey]*classState
	problems map[manifest.Key]error // services whose last build failed: what was built before stays in force
	strays   map[manifest.Key]error // services of whose endpoints no assignment can be made: likewise
	clashes  map[manifest.Key]error // tcp services whose local port another one has, for some caller

	namesakes map[manifest.Key]error // services whose clusterName another one has

	quarantined map[manifest.Key][]Quarantined          // by service
	pasts       map[*policy.Compiled][]*policy.Compiled // of quarantined policies
	unknown     map[*policy.Compiled]bool               // quarantined policies whose past could not be read

	log   Log
	batch *Batch // the step that is being built, if it will be in the log
	seats []bool // taken, of classes

	outlooks map[outlook]*outlook
	peers    map[ClassKey]*classState // by their key without the service, the class that held most when it was built

	// Of the present update; empty between two.
	deltas  map[[2]*holding]*delta
	renewed map[*holding]*holding // by what was held before only endpoints changed
	taken   map[departure]taken
	move    move // of one class
	noted   map[[2]*view.View]struct{}

	layers [envoy.Layers]layer // each as it was built last: most classes have the same
}

// classState is what a class holds, by service.
type classState struct {
	class  *Class
	caller policy.Caller
	from   *outlook
	holds  map[manifest.Key]*holding
}

// heldWith are the services, in order, of which what is held is so.
func (cs *classState) heldWith(so func(*holding) bool) []manifest.Key {
	var keys []manifest.Key
	for key, held := range cs.holds {
		if so(held) {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, manifest.Key.Compare)
	return keys
}

// NewBuilder is a builder of an empty world.
func NewBuilder() *Builder {
	return &Builder{
		Knows:    envoy.Vintage,
		world:    &World{},
		services: map[manifest.Key]*serviceState{},
		classes:  map[ClassKey]*classState{},
		problems: map[manifest.Key]error{},
		strays:   map[manifest.Key]error{},
		clashes:  map[manifest.Key]error{},

		namesakes: map[manifest.Key]error{},

		quarantined: map[manifest.Key][]Quarantined{},
		pasts:       map[*policy.Compiled][]*policy.Compiled{},
		unknown:     map[*policy.Compiled]bool{},

		deltas:  map[[2]*holding]*delta{},
		renewed: map[*holding]*holding{},
		taken:   map[departure]taken{},
		noted:   map[[2]*view.View]struct{}{},

		outlooks: map[outlook]*outlook{},
		peers:    map[ClassKey]*classState{},
	}
}

// World is the world that the heads were built from.
func (b *Builder) World() *World { return b.world }

// Problems are the services whose last build failed, with the reason.
func (b *Builder) Problems() map[manifest.Key]error {
	all := maps.Clone(b.problems)
	for _, more := range []map[manifest.Key]error{b.strays, b.clashes, b.namesakes} {
		for key, err := range more {
			all[key] = errors.Join(all[key], err)
		}
	}
	return all
}

// Update moves every class from the present world to next, which came about by c, and publishes the new heads.
func (b *Builder) Update(next *World, c Changes) {
	t := touch(b.world, next, c)
	renewed := t.revintage(b.world, next)
	if t.catalogue {
		b.clashes = map[manifest.Key]error{} // each class says anew what it meets
	}
	b.open(next)
	b.world = next
	b.forget(c)
	b.refreshServices(t)
	list := b.rebuilds(t)
	for _, cs := range b.classes {
		if renewed {
			b.renew(cs)
		} else {
			b.updateClass(cs, t, list)
		}
	}
	clear(b.deltas)
	clear(b.renewed)
	clear(b.taken)
	clear(b.move.deltas[:cap(b.move.deltas)])
	b.close()
}

// Join returns the class of that key, building it if no proxy has asked for it before.
func (b *Builder) Join(key ClassKey) *Class {
	if cs, ok := b.classes[key]; ok {
		return cs.class
	}
	cs := b.emptyClass(key)
	cs.class.seat, cs.class.born = b.seat(), b.world.Rev
	b.classes[key] = cs
	b.fill(cs)
	return cs.class
}

// fill builds everything that a new class holds. Where another one holds the same, it has the same head.
func (b *Builder) fill(cs *classState) {
	s := &move{framed: true}
	b.sync(cs, b.world.roles(cs.caller.Key), s)
	s.own = b.relisten(cs)
	if cs.from.target.Layered() {
		s.layers = allLayers
	}
	peers := cs.class.Key.peers()
	peer := b.peers[peers]
	if peer != nil && maps.Equal(peer.holds, cs.holds) {
		cs.class.Publish(&Head{Rev: b.world.Rev, Views: peer.class.Head().Views, Seen: b.Seen})
	} else {
		cs.class.Publish(b.head(cs, s))
	}
	if peer == nil || len(peer.holds) < len(cs.holds) {
		b.peers[peers] = cs
	}
}

// emptyClass is a class that holds nothing yet.
func (b *Builder) emptyClass(key ClassKey) *classState {
	from := outlook{b.target(key), key.Namespace}
	if b.outlooks[from] == nil {
		b.outlooks[from] = &from
	}
	caller := b.world.Caller(manifest.Key{Namespace: key.Namespace, Name: key.Service})
	return &classState{class: NewClass(key, &Head{}), caller: caller, from: b.outlooks[from], holds: map[manifest.Key]*holding{}}
}

// Drop forgets a class that no proxy belongs to any more.
func (b *Builder) Drop(key ClassKey) {
	if cs, ok := b.classes[key]; ok {
		b.seats[cs.class.seat] = false
		delete(b.classes, key)
		if peers := key.peers(); b.peers[peers] == cs {
			b.findPeer(peers)
		}
	}
}

// findPeer looks among all classes for that which holds most.
func (b *Builder) findPeer(peers ClassKey) {
	delete(b.peers, peers)
	for key, cs := range b.classes {
		if peer := b.peers[peers]; key.peers() == peers && (peer == nil || len(peer.holds) < len(cs.holds)) {
			b.peers[peers] = cs
		}
	}
}

// refreshServices brings the states of touched services up to the present world and forgets what was built for them.
func (b *Builder) refreshServices(t touched) {
	for key := range t.services {
		delete(b.quarantined, key)
		if s, ok := b.world.Service(key); ok {
			called := calledService(s)
			routed, fault := b.world.called(b.world.routed(s))
			if delete(b.namesakes, key); fault != nil {
				b.namesakes[key] = fault
			}
			state := &serviceState{service: routed, called: called, policies: b.world.Matching(called), built: map[variant]*built{}, holdings: map[holder]*holding{}, aliases: map[alias]*view.Resource{}}
			for _, p := range state.policies {
				if !p.ForEvery() {
					state.sourced = append(state.sourced, p)
				}
			}
			if old, ok := b.services[key]; ok {
				state.assignments, state.aliases = old.assignments, old.aliases
			}
			b.services[key] = state
		} else {
			delete(b.services, key)
			delete(b.problems, key)
			delete(b.strays, key)
			delete(b.namesakes, key)
		}
	}
	for key := range t.endpoints {
		if state, ok := b.services[key]; ok {
			b.assign(state)
		}
	}
}

// assign makes the assignments of a service. Where an endpoint can't be built, what was built before stays in force, and at a start
// the others go without it.
func (b *Builder) assign(state *serviceState) {
	key := state.service.Key()
	endpoints := b.world.Serving(key)
	delete(b.strays, key)
	var fresh assignments
	err := Safely(func() (err error) { fresh, err = assignmentsOf(state.service, endpoints); return err })
	broken := err != nil
	if broken {
		b.strays[key] = fmt.Errorf("endpoints of %s: %w", key, err)
		if fresh, err = assignmentsOf(state.service, sound(state.service, endpoints)); err != nil {
			return
		}
	}
	fresh.keep(state.assignments, broken)
	state.assignments = fresh
	for who, held := range state.holdings {
		now := state.holding(b.world, who.from, who.as, held.built)
		state.holdings[who] = now
		b.renewed[held] = now
	}
}

// sound are the endpoints of svc that can be built.
func sound(svc *catalog.Service, endpoints []catalog.Endpoint) []catalog.Endpoint {
	var list []catalog.Endpoint
	for _, e := range endpoints {
		if _, err := envoy.Assignment(svc, []catalog.Endpoint{e}); err == nil {
			list = append(list, e)
		}
	}
	return list
}

func (b *Builder) updateClass(cs *classState, t touched, list []rebuild) {
	s := &b.move
	*s = move{deltas: s.deltas[:0]}
	self := t.callers[cs.caller.Key]
	if self {
		cs.caller = b.world.Caller(cs.caller.Key)
	}
	if t.catalogue || self {
		b.sync(cs, b.world.roles(cs.caller.Key), s)
		s.listen = true
	}
	if self { // its labels may have moved it in or out of a policy's from
		list = nil
		for _, key := range cs.heldWith(func(*holding) bool { return true }) {
			list = append(list, rebuild{key, b.services[key], true})
		}
	}
	for _, r := range list {
		held := cs.holds[r.key]
		switch {
		case held == nil:
		case r.whole:
			s.add(b.hold(cs, r.key, r.state, held.as))
		default:
			s.add(b.reassign(cs, r.key, r.state, held))
		}
	}
	if s.listen {
		s.own = b.relisten(cs)
	}
	b.publish(cs, s)
}

// sync makes cs hold exactly the services that have a role for it.
func (b *Builder) sync(cs *classState, roles map[manifest.Key]role, s *move) {
	var changed []manifest.Key
	for key, as := range roles {
		if held := cs.holds[key]; held == nil || held.as != as {
			changed = append(changed, key)
		}
	}
	for key := range cs.holds {
		if _, keep := roles[key]; !keep {
			changed = append(changed, key)
		}
	}
	slices.SortFunc(changed, manifest.Key.Compare)
	for _, key := range changed {
		if as, keep := roles[key]; keep {
			s.add(b.hold(cs, key, b.state(key), as))
		} else {
			s.add(b.delta(cs.holds[key], nil))
			delete(cs.holds, key)
		}
	}
}

// state is that of a service, which is made as the first class asks for it.
func (b *Builder) state(key manifest.Key) *serviceState {
	if _, ok := b.services[key]; !ok {
		b.refreshServices(touched{services: map[manifest.Key]bool{key: true}, endpoints: map[manifest.Key]bool{key: true}})
	}
	return b.services[key]
}

// hold has cs hold what is to be held of a service now, and says what that changes. A build that fails leaves what was built before in force.
func (b *Builder) hold(cs *classState, key manifest.Key, state *serviceState, as role) *delta {
	old := cs.holds[key]
	now, err := b.holding(state, cs, as)
	switch {
	case err == nil:
		delete(b.problems, key)
	case old == nil:
		b.problems[key] = err
		return nil
	default:
		b.problems[key] = err
		now = state.holding(b.world, cs.from, as, old.built)
	}
	cs.holds[key] = now
	return b.delta(old, now)
}

// reassign is hold where nothing but the endpoints of a service has changed.
func (b *Builder) reassign(cs *classState, key manifest.Key, state *serviceState, old *holding) *delta {
	now := b.renewed[old]
	if now == nil { // it is not what every caller holds under these policies
		now = state.holding(b.world, cs.from, old.as, old.built)
	}
	cs.holds[key] = now
	return b.delta(old, now)
}

// delta is what leads from one holding of a service to another, or to none.
func (b *Builder) delta(old, now *holding) *delta {
	switch {
	case old == now:
		return nil
	case old == nil:
		if now.arrival == nil {
			now.arrival = newDelta(nil, now)
		}
		return now.arrival
	}
	ends := [2]*holding{old, now}
	d := b.deltas[ends]
	if d == nil {
		d = newDelta(old, now)
		b.deltas[ends] = d
	}
	return d
}

// holding is what cs is to hold of a service, made once for all that are to hold the same.
func (b *Builder) holding(state *serviceState, cs *classState, as role) (*holding, error) {
	mask := make([]byte, 0, 64)
	for _, p := range state.sourced {
		bit := byte('-')
		if p.Applies(state.called, cs.caller) {
			bit = 'x'
		}
		mask = append(mask, bit)
	}
	if held := state.holdings[holder{cs.from, as, string(mask)}]; held != nil {
		return held, nil
	}
	who := holder{cs.from, as, string(mask)}
	built, shared, err := b.build(state, cs, who)
	if err != nil {
		return nil, err
	}
	held := state.holding(b.world, cs.from, as, built)
	if shared {
		state.holdings[who] = held
	}
	return held, nil
}

// build makes the resources of a service as cs sees it, once for each tier, role and set of policies. Those that make that fail are
// quarantined. Shared: they are the same for all that have these in common.
func (b *Builder) build(state *serviceState, cs *classState, who holder) (now *built, shared bool, err error) {
	id := variant{who.from.target, who.as.backend, who.as.spare, who.mask}
	if found, ok := state.built[id]; ok {
		return found, true, nil
	}
	var applied []*policy.Compiled
	for _, p := range state.policies {
		if p.Applies(state.called, cs.caller) {
			applied = append(applied, p)
		}
	}
	shared = true
	if now, err = b.compile(state, cs, who.as, applied); err != nil {
		now, shared, err = b.contain(state, cs, who.as, applied, err)
	}
	if err != nil {
		return nil, false, fmt.Errorf("compile %s for %s: %w", state.service.Key(), cs.caller.Key, err)
	}
	if shared {
		state.built[id] = now
	}
	return now, shared, nil
}

// compile makes the resources of a service as cs sees it under these policies.
func (b *Builder) compile(state *serviceState, cs *classState, as role, applied []*policy.Compiled) (now *built, err error) {
	target, compile := cs.from.target, envoy.Service
	if as.backend {
		compile = envoy.Backend
	}
	err = Safely(func() error {
		taken := make([]*policy.Compiled, len(applied))
		for i, p := range applied {
			taken[i] = target.Taken(p)
		}
		effective := policy.Result(state.called, taken)
		b.world.dropMissing(effective)
		compiled, err := compile(target, state.service, effective)
		if err == nil && as.spare {
			err = compiled.Spare(target, state.service, effective)
		}
		if err == nil && b.Reshape != nil {
			b.Reshape(target, &compiled)
		}
		now = &built{Compiled: compiled, policies: effective.AllPolicies(), guardrails: effective.AllGuardrails(), layer: envoy.LayerOf(state.service.Key().String())}
		return err
	})
	if p := state.service.Spec.LocalPort; p != nil && now != nil {
		now.port = *p
	}
	return now, err
}
