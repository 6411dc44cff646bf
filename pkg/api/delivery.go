package api

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// DeliveryState says how far something has come, with one proxy or with all that it concerns.
type DeliveryState string

// The states. Of all proxies the first of these that holds: quarantined, rejected, superseded, pending, unconcerned, acked.
const (
	DeliveryAcked       DeliveryState = "acked"       // accepted
	DeliveryRejected    DeliveryState = "rejected"    // a proxy said no
	DeliverySuperseded  DeliveryState = "superseded"  // a proxy said no to something newer of the same resources
	DeliveryPending     DeliveryState = "pending"     // not answered yet
	DeliveryJoining     DeliveryState = "joining"     // of a proxy: it has just come, and what it holds is not known yet
	DeliveryOffline     DeliveryState = "offline"     // of a proxy: it went, not long ago; nobody waits for it
	DeliveryUnsupported DeliveryState = "unsupported" // of a proxy: it can enforce nothing of the policy
	DeliveryQuarantined DeliveryState = "quarantined" // of all: something can't be built with it, so that proxies are served what was before
	DeliveryUnconcerned DeliveryState = "unconcerned" // of all: no connected proxy has anything of it
)

// Delivery says how far a revision of the store, or one object, has come with the proxies that it concerns.
type Delivery struct {
	Revision int64         `json:"revision"` // what was asked for; of an object, that of its last edit
	World    int64         `json:"world"`    // the revision that proxies are served from
	State    DeliveryState `json:"state" enum:"acked,quarantined,rejected,superseded,pending,unconcerned"`
	Message  string        `json:"message"`

	Concerned   int `json:"concerned"` // connected: acked, rejected, pending and joining
	Acked       int `json:"acked"`
	Rejected    int `json:"rejected"`
	Pending     int `json:"pending"`
	Joining     int `json:"joining"`
	Offline     int `json:"offline"`
	Unsupported int `json:"unsupported"`

	Proxies []ProxyDelivery `json:"proxies"`        // those that have not accepted it, the worst first; or all if so asked
	More    int             `json:"more,omitempty"` // that are left out

	Quarantined []string      `json:"quarantined,omitempty"` // of a revision: what it wrote and some service can't be built with, and why
	Stale       *time.Time    `json:"stale,omitempty"`       // it is told from what was read up to then: a replica can't hear the store
	Unreachable []Unreachable `json:"unreachable,omitempty"` // replicas that did not say what their proxies hold; while there is one, nothing is acked
}

// ObjectDelivery is how far a policy or a guardrail has come.
type ObjectDelivery struct {
	Kind      string   `json:"kind" enum:"Policy,Guardrail"`
	Namespace string   `json:"namespace"`
	Name      string   `json:"name"`
	Delivery  Delivery `json:"delivery"`
}

// DeliveryList is how far policies and guardrails have come, the policies first, by name.
type DeliveryList struct {
	Items    []ObjectDelivery `json:"items"`
	Revision int64            `json:"revision"`
}

// ProxyDelivery is how far something has come with one proxy.
type ProxyDelivery struct {
	ID        string        `json:"id"`
	Namespace string        `json:"namespace"` // of the caller
	Service   string        `json:"service"`   // the caller
	Dialect   string        `json:"dialect"`
	Version   string        `json:"version,omitempty"`
	Profile   string        `json:"profile,omitempty"`
	Address   string        `json:"address,omitempty"`
	Replica   string        `json:"replica,omitempty"`   // to which it is connected, where several were asked
	Connected *time.Time    `json:"connected,omitempty"` // since when it is connected
	State     DeliveryState `json:"state" enum:"acked,rejected,superseded,pending,joining,offline,unsupported"`
	Since     *time.Time    `json:"since,omitempty"`   // since when it is offline
	Waiting   []string      `json:"waiting,omitempty"` // resources that it has not answered, or was not sent yet
	Rejected  []Refused     `json:"rejected,omitempty"`
}

// Refused is a resource that a proxy said no to, with its words.
type Refused struct {
	Type    string `json:"type"` // RTDS, CDS, EDS, LDS, SRDS, RDS
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
	Message string `json:"message"`
}

// Done reports whether nothing more is to be waited for: it has arrived with all, of whom there are at least so many, or it never will.
func (d *Delivery) Done(minAcked int) bool {
	switch d.State {
	case DeliveryQuarantined, DeliveryRejected, DeliverySuperseded:
		return true
	case DeliveryAcked, DeliveryUnconcerned:
		return d.Acked >= minAcked
	}
	return false
}

// MergeDeliveries is what several replicas say of one revision or object, each with all its proxies, summed up. Of a proxy that several have,
// as it has moved, counts what the one with its newest stream says; it is offline only if all have lost it.
func MergeDeliveries(list ...Delivery) Delivery {
	var d Delivery
	proxies := make([][]ProxyDelivery, len(list))
	for i, of := range list {
		d.reach(of, i == 0)
		proxies[i] = of.Proxies
	}
	d.Proxies = newest(proxies, ProxyDelivery.sighting)
	for _, p := range d.Proxies {
		if p.State == DeliveryAcked {
			d.Acked++
		}
	}
	d.Sum()
	return d
}

// AddDeliveries is what several replicas say of one object, each of its own proxies, of whom it names some alone. Offline proxies are left out: they
// may be connected to another one. A proxy that two have counts twice, until the stream has ended that it has left.
func AddDeliveries(list ...Delivery) Delivery {
	var d Delivery
	for i, of := range list {
		d.reach(of, i == 0)
		d.Acked, d.Rejected, d.Pending, d.Joining = d.Acked+of.Acked, d.Rejected+of.Rejected, d.Pending+of.Pending, d.Joining+of.Joining
		d.Unsupported, d.Concerned, d.More = d.Unsupported+of.Unsupported, d.Concerned+of.Concerned, d.More+of.More
		for _, p := range of.Proxies {
			if p.State != DeliveryOffline {
				d.Proxies = append(d.Proxies, p)
			}
		}
		d.State = cmp.Or(d.State, of.State)
		if slices.Index(worst, of.State) < slices.Index(worst, d.State) {
			d.State = of.State
		}
	}
	d.tidy()
	if (d.World < d.Revision || len(d.Unreachable) > 0) && slices.Index(worst, DeliveryPending) < slices.Index(worst, d.State) {
		d.State = DeliveryPending
	}
	return d
}

// reach takes in how far another replica is, which may be the first.
func (d *Delivery) reach(of Delivery, first bool) {
	if d.Revision = max(d.Revision, of.Revision); first || of.World < d.World {
		d.World = of.World
	}
	if of.Stale != nil && (d.Stale == nil || of.Stale.Before(*d.Stale)) {
		d.Stale = of.Stale
	}
	d.Unreachable = append(d.Unreachable, of.Unreachable...)
	d.Quarantined = append(d.Quarantined, of.Quarantined...)
}

// worst are the states of all proxies, that first which counts where replicas differ.
var worst = []DeliveryState{DeliveryQuarantined, DeliveryRejected, DeliverySuperseded, DeliveryPending, DeliveryAcked, DeliveryUnconcerned}

// Sum works out the numbers, all but Acked, and the state. Of the proxies those must be there that have not accepted it.
func (d *Delivery) Sum() {
	n := map[DeliveryState]int{}
	for _, p := range d.Proxies {
		n[p.State]++
	}
	d.Rejected, d.Pending, d.Joining = n[DeliveryRejected]+n[DeliverySuperseded], n[DeliveryPending], n[DeliveryJoining]
	d.Offline, d.Unsupported = n[DeliveryOffline], n[DeliveryUnsupported]
	d.Concerned = d.Acked + d.Rejected + d.Pending + d.Joining
	d.tidy()
	switch {
	case len(d.Quarantined) > 0:
		d.State = DeliveryQuarantined
	case n[DeliveryRejected] > 0:
		d.State = DeliveryRejected
	case n[DeliverySuperseded] > 0:
		d.State = DeliverySuperseded
	case d.Pending+d.Joining > 0 || d.World < d.Revision || len(d.Unreachable) > 0:
		d.State = DeliveryPending
	case d.Concerned == 0:
		d.State = DeliveryUnconcerned
	default:
		d.State = DeliveryAcked
	}
}

func (d *Delivery) tidy() {
	slices.SortFunc(d.Unreachable, func(a, b Unreachable) int { return cmp.Compare(a.Replica, b.Replica) })
	slices.Sort(d.Quarantined)
	d.Quarantined = slices.Compact(d.Quarantined)
}

// stateOrder is what an operator looks at first.
var stateOrder = []DeliveryState{
	DeliveryRejected, DeliverySuperseded, DeliveryPending, DeliveryJoining, DeliveryUnsupported, DeliveryOffline, DeliveryAcked,
}

// mostTold is how many proxies a message names.
const mostTold = 5

// Tell puts the proxies in order, says in words what has come of it, and leaves out those that have accepted it, and what is more than
// most. With all, nobody else is left out.
func (d *Delivery) Tell(most int, all bool) {
	slices.SortFunc(d.Proxies, func(a, b ProxyDelivery) int {
		return cmp.Or(cmp.Compare(slices.Index(stateOrder, a.State), slices.Index(stateOrder, b.State)),
			cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Service, b.Service), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Address, b.Address))
	})
	d.Message = d.message()
	if !all {
		d.Proxies = slices.DeleteFunc(d.Proxies, func(p ProxyDelivery) bool { return p.State == DeliveryAcked })
		if len(d.Proxies) > most {
			d.More, d.Proxies = d.More+len(d.Proxies)-most, d.Proxies[:most:most]
		}
	}
	if d.Proxies == nil {
		d.Proxies = []ProxyDelivery{}
	}
}

func (d *Delivery) message() string {
	var text string
	switch {
	case d.World < d.Revision:
		text = fmt.Sprintf("revision %d was not seen yet: proxies are served from %d", d.Revision, d.World)
	case d.State == DeliveryQuarantined:
		text = strings.Join(d.Quarantined, "; ")
	case d.State == DeliveryRejected || d.State == DeliverySuperseded:
		text = fmt.Sprintf("%d acked, %d pending; %s", d.Acked, d.Pending+d.Joining, strings.Join(d.words(), "; "))
	case d.Pending+d.Joining == 0 && len(d.Unreachable) > 0:
		text = fmt.Sprintf("%d acked", d.Acked)
	case d.State == DeliveryPending:
		text = fmt.Sprintf("%d acked; waiting for %s", d.Acked, strings.Join(d.names(), ", "))
	case d.State == DeliveryUnconcerned:
		text = "no connected proxy makes calls that it concerns"
	default:
		text = fmt.Sprintf("acked by %d of %d connected proxies", d.Acked, d.Concerned)
	}
	if d.Unsupported > 0 {
		text += fmt.Sprintf("; %d can't enforce any of it", d.Unsupported)
	}
	if len(d.Unreachable) > 0 {
		text += "; no answer from " + unreachableNames(d.Unreachable)
	}
	if d.Stale != nil {
		text += "; the store was last heard at " + d.Stale.Format(time.RFC3339)
	}
	return text
}

// words are what proxies said no with.
func (d *Delivery) words() []string {
	var list []string
	more := 0
	for _, p := range d.Proxies {
		for _, r := range p.Rejected {
			if len(list) == mostTold {
				more++
				continue
			}
			newer := ""
			if p.State == DeliverySuperseded {
				newer = "a newer "
			}
			list = append(list, fmt.Sprintf("%s rejected %s%s %s: %s", p.ID, newer, typeWords[r.Type], r.Name, r.Message))
		}
	}
	if more > 0 {
		list = append(list, fmt.Sprintf("and %d more", more))
	}
	return list
}

// names are the proxies that are waited for.
func (d *Delivery) names() []string {
	var list []string
	for _, p := range d.Proxies {
		if (p.State == DeliveryPending || p.State == DeliveryJoining) && len(list) < mostTold {
			list = append(list, p.ID)
		}
	}
	if more := d.Pending + d.Joining - len(list); more > 0 {
		list = append(list, fmt.Sprintf("%d more", more))
	}
	return list
}

// typeWords are the types of resources as people call them.
var typeWords = map[string]string{
	"RTDS": "runtime layer", "CDS": "cluster", "EDS": "assignment", "LDS": "listener", "SRDS": "scope", "RDS": "route configuration",
}
