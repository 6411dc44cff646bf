package api

// ProxyClass is the connected proxies that get the same resources.
type ProxyClass struct {
	Namespace  string         `json:"namespace"` // of the caller
	Service    string         `json:"service"`   // the caller
	Dialect    string         `json:"dialect"`
	Profile    string         `json:"profile"`
	Version    string         `json:"version"`              // tier
	Outbound   string         `json:"outbound,omitempty"`   // where they listen for the application's calls
	Runtime    bool           `json:"runtime,omitempty"`    // they have our runtime layers
	Edge       bool           `json:"edge,omitempty"`       // who calls through them is outside
	OwnRetries bool           `json:"ownRetries,omitempty"` // where the routes are their owner's: so are the retries
	Proxies    int            `json:"proxies"`
	Reporting  int            `json:"reporting"`         // of those, that say what they have ejected
	Ejected    map[string]int `json:"ejected,omitempty"` // hosts that those have ejected, together, by cluster as Envoy's statistics call it
}

// ClassList is the classes of all connected proxies. A proxy that two replicas have, as it has just moved, counts twice.
type ClassList struct {
	Items []ProxyClass `json:"items"`

	Unreachable []Unreachable `json:"unreachable,omitempty"` // replicas of whose proxies nothing is known
}
