package api

import (
	"encoding/json"
	"net/url"
	"strings"
)

// WatchPath is where changes are told as they come.
const WatchPath = Base + "/watch"

// What can be watched, beside Policies, Guardrails and Services.
const (
	Proxies    = "proxies"
	Deliveries = "delivery"
)

// Watchable is all that can be watched.
var Watchable = []string{Policies, Guardrails, Services, Proxies, Deliveries}

// The kinds of what is watched and is no manifest.
const (
	ProxyKind    = "Proxy"
	DeliveryKind = "Delivery"

	UnreachableKind = "Unreachable" // a replica that does not say which proxies it has: what is told of those is what it said last
)

// Change says what an event of a watch tells. It is the event's name.
type Change string

// The changes.
const (
	Put    Change = "put"    // it is there, and looks so now
	Delete Change = "delete" // it is no more
	Resync Change = "resync" // forget what you know of Kinds: what follows, up to synced, is all there is
	Synced Change = "synced" // all that there is has been told, up to Revision
)

// Watched is one event of a watch.
type Watched struct {
	Change Change `json:"-"` // the name of the event
	ID     string `json:"-"` // to go on after this event; "" where a watch can't go on here

	// Of a put or delete:
	Kind      string          `json:"kind,omitempty"` // Policy, Guardrail, Service, Proxy, Delivery, Unreachable
	Of        string          `json:"of,omitempty"`   // of a delivery, the kind of the object
	Namespace string          `json:"namespace,omitempty"`
	Name      string          `json:"name,omitempty"`     // of a proxy its node id; of a replica its id
	Object    json.RawMessage `json:"object,omitempty"`   // of a put
	Revision  int64           `json:"revision,omitempty"` // of the object's last edit or its end; of synced, what has been told

	// Of a resync or synced:
	Kinds  []string `json:"kinds,omitempty"`
	Reason string   `json:"reason,omitempty"`
}

// WatchQuery says what is watched.
type WatchQuery struct {
	Kinds     []string // some of Watchable; none: the policies, guardrails and services
	Namespace string   // "": all
}

// WatchFor watches what q says.
func WatchFor(q WatchQuery) string {
	values := url.Values{}
	if len(q.Kinds) > 0 {
		values.Set("kinds", strings.Join(q.Kinds, ","))
	}
	if q.Namespace != "" {
		values.Set("namespace", q.Namespace)
	}
	if len(values) == 0 {
		return WatchPath
	}
	return WatchPath + "?" + values.Encode()
}
