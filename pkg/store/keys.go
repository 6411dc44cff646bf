package store

import (
	"fmt"
	"slices"
	"strings"
)

// The prefixes of everything Breakwater keeps. A watch on ConfigPrefix sees every transaction on objects whole.
const (
	root           = "/breakwater/v1/"
	ConfigPrefix   = root + "config/"
	LivePrefix     = root + "live/"
	ReplicasPrefix = root + "replicas/"
	historyPrefix  = root + "history/"
)

// Kind is the plural by which keys name what they hold.
type Kind string

// The kinds below ConfigPrefix.
const (
	Policies   Kind = "policies"
	Guardrails Kind = "guardrails"
	Services   Kind = "services"
	Hosts      Kind = "hosts"
	Endpoints  Kind = "endpoints"
)

// VintageKey holds the vintage in force: see envoy.Vintage. It is configuration, so that every replica changes over at one revision.
const VintageKey = ConfigPrefix + "vintage"

// PolicyKey is where a policy lies.
func PolicyKey(namespace, name string) string { return objectKey(Policies, namespace, name) }

// GuardrailKey is where a guardrail lies.
func GuardrailKey(namespace, name string) string { return objectKey(Guardrails, namespace, name) }

// ServiceKey is where a service lies.
func ServiceKey(namespace, name string) string { return objectKey(Services, namespace, name) }

// HostKey is the claim of a host by the one service that owns it.
func HostKey(host string) string { return ConfigPrefix + string(Hosts) + "/" + host }

// EndpointKey is where an endpoint lies. It holds no lease: see LiveKey.
func EndpointKey(namespace, service, id string) string {
	return objectKey(Endpoints, namespace, service) + "/" + id
}

// LiveKey is the sign of life of a leased endpoint's agent. It has a lease while the agent renews it; without a lease it is the mark
// that the agent has been silent for longer.
func LiveKey(namespace, service, id string) string {
	return LivePrefix + namespace + "/" + service + "/" + id
}

// ParseLiveKey takes a key below LivePrefix apart; ok is false for any other.
func ParseLiveKey(key string) (namespace, service, id string, ok bool) {
	rest, found := strings.CutPrefix(key, LivePrefix)
	parts := strings.Split(rest, "/")
	if !found || len(parts) != 3 || slices.Contains(parts, "") {
		return "", "", "", false
	}
	return parts[0], parts[1], parts[2], true
}

// ReplicaKey is the leased entry of one control plane.
func ReplicaKey(id string) string { return ReplicasPrefix + id }

// HistoryKey is the after-image of one generation. Ten digits keep the order of keys the order of generations.
func HistoryKey(kind Kind, namespace, name string, generation int64) string {
	return HistoryPrefix(kind, namespace, name) + fmt.Sprintf("%010d", generation)
}

// HistoryPrefix is in front of every generation of one object.
func HistoryPrefix(kind Kind, namespace, name string) string {
	return historyPrefix + string(kind) + "/" + namespace + "/" + name + "/"
}

func objectKey(kind Kind, namespace, name string) string {
	return ConfigPrefix + string(kind) + "/" + namespace + "/" + name
}

// ConfigKey says what a key below ConfigPrefix holds. A host has only a Name; an endpoint's Name is its service; only an
// endpoint has an ID.
type ConfigKey struct {
	Kind                Kind
	Namespace, Name, ID string
}

// ParseConfigKey takes a key apart; ok is false for a key that is not below ConfigPrefix or not of a known kind and shape, such
// as one written by a newer version.
func ParseConfigKey(key string) (k ConfigKey, ok bool) {
	rest, found := strings.CutPrefix(key, ConfigPrefix)
	if !found {
		return ConfigKey{}, false
	}
	parts := strings.Split(rest, "/")
	for _, part := range parts {
		if part == "" {
			return ConfigKey{}, false
		}
	}
	switch kind := Kind(parts[0]); {
	case (kind == Policies || kind == Guardrails || kind == Services) && len(parts) == 3:
		return ConfigKey{Kind: kind, Namespace: parts[1], Name: parts[2]}, true
	case kind == Hosts && len(parts) == 2:
		return ConfigKey{Kind: kind, Name: parts[1]}, true
	case kind == Endpoints && len(parts) == 4:
		return ConfigKey{Kind: kind, Namespace: parts[1], Name: parts[2], ID: parts[3]}, true
	}
	return ConfigKey{}, false
}
