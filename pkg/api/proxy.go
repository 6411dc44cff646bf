package api

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// Proxy is a connected xDS client.
type Proxy struct {
	ID        string      `json:"id"`
	Namespace string      `json:"namespace"` // of the caller
	Service   string      `json:"service"`   // the caller
	Dialect   string      `json:"dialect"`
	Version   string      `json:"version"`
	Profile   string      `json:"profile,omitempty"`
	Connected time.Time   `json:"connected"`
	Address   string      `json:"address,omitempty"`
	Stale     *time.Time  `json:"stale,omitempty"`   // what it is sent is as old as that: its replica can't hear the store
	Replica   string      `json:"replica,omitempty"` // to which it is connected
	Types     []ProxyType `json:"types"`

	Ejected map[string]int `json:"ejected"` // hosts by cluster, as the proxy last said; null: it does not say
}

// ProxyType is what a proxy said about one type of resource.
type ProxyType struct {
	Type       string      `json:"type"` // RTDS, CDS, EDS, LDS, SRDS, RDS
	Subscribed int         `json:"subscribed"`
	Acked      int         `json:"acked"`
	Pending    int         `json:"pending"`
	Rejected   []Rejection `json:"rejected,omitempty"`
}

// Rejection is a resource that a proxy refused, with its words.
type Rejection struct {
	Name     string   `json:"name"`
	Version  string   `json:"version,omitempty"`
	Message  string   `json:"message"`
	Policies []string `json:"policies,omitempty"` // that shaped it, as namespace/name
}

// ProxyList is all connected proxies, by id.
type ProxyList struct {
	Items    []Proxy `json:"items"`
	Revision int64   `json:"revision"`

	Unreachable []Unreachable `json:"unreachable,omitempty"` // replicas that did not say which proxies they have
}

// MergeProxies are the proxies that several replicas have, each a list of its own. Of one that several have, as it has moved, that with the
// newest stream counts.
func MergeProxies(lists ...[]Proxy) []Proxy { return newest(lists, Proxy.sighting) }

// EffectiveResponse is the merge of all policies that apply to calls from one caller to one service.
type EffectiveResponse struct {
	Service  string           `json:"service"` // namespace/name
	From     string           `json:"from,omitempty"`
	Subset   string           `json:"subset,omitempty"` // where only a part was asked for
	Route    string           `json:"route,omitempty"`  // likewise
	Revision int64            `json:"revision"`
	Policies []string         `json:"policies"` // that apply, least specific first
	Fields   []EffectiveField `json:"fields"`
	Observed []EffectiveField `json:"observed,omitempty"` // of sections that only observe: nothing of it is enforced
	Problems []string         `json:"problems,omitempty"`

	Guardrails []string `json:"guardrails,omitempty"` // that apply

	Expiring []Expiring `json:"expiring,omitempty"` // of the policies those that have an end
}

// Expiring is a policy that is removed at a moment that it names.
type Expiring struct {
	Policy    string           `json:"policy"` // namespace/name
	ExpiresAt manifest.Instant `json:"expiresAt"`
}

// EffectiveField is one field of an effective policy and where its value comes from.
type EffectiveField struct {
	Path   string           `json:"path"`
	Value  json.RawMessage  `json:"value"` // null where a section was switched off
	Origin Origin           `json:"origin"`
	Losers []EffectiveLoser `json:"losers,omitempty"`
}

// EffectiveLoser is a value that a more specific policy overrode.
type EffectiveLoser struct {
	Value  json.RawMessage `json:"value"`
	Origin Origin          `json:"origin"`
}

// Origin is the policy a value was written in, or the default.
type Origin struct {
	Policy   string `json:"policy,omitempty"` // namespace/name
	Revision int64  `json:"revision,omitempty"`
	Path     string `json:"path,omitempty"` // as written there
	Default  bool   `json:"default,omitempty"`

	// Where a guardrail has moved the value:
	ClampedFrom json.RawMessage `json:"clampedFrom,omitempty"` // what it would be, such as "unlimited"
	ClampedTo   json.RawMessage `json:"clampedTo,omitempty"`
	ClampedBy   string          `json:"clampedBy,omitempty"` // namespace/name of the guardrail
}

// Clamped says how a guardrail has moved the value, such as "200, clamped to 50 by shop/guard"; "" where none has.
func (o Origin) Clamped() string {
	if o.ClampedBy == "" {
		return ""
	}
	plain := func(raw json.RawMessage) string { return strings.Trim(string(raw), `"`) }
	return plain(o.ClampedFrom) + ", clamped to " + plain(o.ClampedTo) + " by " + o.ClampedBy
}

// String names the origin: "default", or "shop/payments (circuitBreaker.failureThreshold)".
func (o Origin) String() string {
	if o.Default || o.Policy == "" {
		return "default"
	}
	return o.Policy + " (" + o.Path + ")"
}

// ProxyConfig is what a proxy should hold and holds, by type and name.
type ProxyConfig struct {
	ID        string          `json:"id"`
	Resources []ProxyResource `json:"resources"`
}

// ProxyResource is one resource that a proxy should hold, or still holds.
type ProxyResource struct {
	Type     string        `json:"type"` // RTDS, CDS, EDS, LDS, SRDS, RDS
	Name     string        `json:"name"`
	Version  string        `json:"version,omitempty"` // as it should be; absent where it should go, or does not exist
	Acked    string        `json:"acked,omitempty"`   // the version that the proxy has accepted; absent where it has none
	State    DeliveryState `json:"state" enum:"acked,rejected,pending"`
	Rejected *Refused      `json:"rejected,omitempty"` // what the proxy said no to, for which this is not as it should be
	Policies []string      `json:"policies,omitempty"` // policies and guardrails that have a part in it, as namespace/name

	// Of a difference:
	Lines   []DiffLine `json:"lines,omitempty"`   // from what was accepted to what should be
	Unknown bool       `json:"unknown,omitempty"` // of what was accepted the version alone is known: it came with the proxy
}
