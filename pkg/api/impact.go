package api

// Impact is what a write would do to the connected proxies. While a replica is silent, what would be sent to a sidecar of the callers that the write
// names is told too.
type Impact struct {
	Connected int             `json:"connected"` // proxies
	Proxies   int             `json:"proxies"`   // of them, that would be sent anything
	Services  []string        `json:"services"`  // of which they would be sent anything, as namespace/name
	Classes   []ClassImpact   `json:"classes"`   // that would change
	Rebuilt   []RebuiltImpact `json:"rebuilt"`   // clusters that would be built anew: their ejections, counters and connections start from nothing
	Drained   int             `json:"drained"`   // proxies of which a listener would change: the connections of the applications beside them drain
	Changes   []ChangeImpact  `json:"changes"`   // of resources, each with all those to which it happens alike
	Wide      bool            `json:"wide"`      // the write needs ?wide=true

	Unreachable []Unreachable `json:"unreachable,omitempty"` // replicas of whose proxies nothing is known; while there is one, a write that rebuilds clusters of more than one service is wide

	Fidelity []FidelityResponse `json:"fidelity"` // of the written policies, for the connected proxies that they concern, or else a sidecar
}

// ClassImpact is what happens to the proxies that get the same resources.
type ClassImpact struct {
	Namespace string `json:"namespace"` // of the caller
	Service   string `json:"service"`   // the caller
	Dialect   string `json:"dialect"`
	Profile   string `json:"profile"`
	Version   string `json:"version"` // tier
	Proxies   int    `json:"proxies"`
	Resources int    `json:"resources"` // that would be sent to each
}

// RebuiltImpact is one cluster that is built anew: what proxies have ejected of it is lost. Agents take the same change in place.
type RebuiltImpact struct {
	Cluster        string `json:"cluster"`
	Proxies        int    `json:"proxies"`        // that build it anew
	LiveEjections  *int   `json:"liveEjections"`  // hosts that those have ejected right now, together, as far as they say; null: none of them says
	UnknownProxies int    `json:"unknownProxies"` // of those, that do not say what they have ejected
	Agents         int    `json:"agents"`         // that take the change in place, and keep ejections, counters and connections
	KeptEjections  int    `json:"keptEjections"`  // hosts that the agents have ejected right now, together, as far as they say
}

// ChangeImpact is one difference and the resources that have it.
type ChangeImpact struct {
	Lines     []DiffLine `json:"lines"`
	Resources []string   `json:"resources"` // such as CDS shop/payments
	Proxies   int        `json:"proxies"`
}

// DiffLine is one place at which a resource changes.
type DiffLine struct {
	Path string `json:"path,omitempty"` // absent where the whole resource comes or goes
	Old  string `json:"old,omitempty"`  // as JSON
	Now  string `json:"now,omitempty"`
}
