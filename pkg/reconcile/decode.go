package reconcile

import (
	"fmt"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/store"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// decode turns events into changes, the last of a key winning. A value that can't be read is left out, so that what it replaces
// stays in force: it was written by a newer version, or by hand.
func (l *Loop) decode(events []store.Event) world.Changes {
	c := world.Changes{
		Policies: map[manifest.Key]*policy.Compiled{}, Guardrails: map[manifest.Key]*policy.Compiled{},
		Services:  map[manifest.Key]*catalog.Service{},
		Endpoints: map[world.EndpointKey]*catalog.Endpoint{},
		Hosts:     map[string]*manifest.Key{},
		Lives:     map[world.EndpointKey]*world.Life{},
	}
	for _, e := range events {
		if key, ok := liveKey(e.Key); ok {
			if err := decodeLife(&c, key, e); err != nil {
				l.log.Error("stored sign of life can't be read; what it replaces stays in force", "key", e.Key, "revision", e.Revision, "error", err)
			}
			continue
		}
		if e.Key == store.VintageKey {
			if err := decodeVintage(&c, e); err != nil {
				l.log.Error("stored vintage can't be read; what it replaces stays in force", "key", e.Key, "revision", e.Revision, "error", err)
			}
			continue
		}
		key, ok := store.ParseConfigKey(e.Key)
		if !ok {
			l.log.Debug("key of a kind this version does not know", "key", e.Key)
			continue
		}
		if err := world.Safely(func() error { return decodeInto(&c, key, e) }); err != nil {
			l.log.Error("stored value can't be read; what it replaces stays in force", "key", e.Key, "revision", e.Revision, "error", err, "stack", string(world.StackOf(err)))
		}
	}
	return c
}

// liveKey is the endpoint that a live key is about.
func liveKey(key string) (world.EndpointKey, bool) {
	namespace, service, id, ok := store.ParseLiveKey(key)
	return world.EndpointKey{Service: manifest.Key{Namespace: namespace, Name: service}, ID: id}, ok
}

func decodeLife(c *world.Changes, key world.EndpointKey, e store.Event) error {
	switch {
	case e.Deleted:
		c.Lives[key] = nil
	case e.Lease != 0:
		c.Lives[key] = &world.Life{Lease: int64(e.Lease)}
	default:
		mark, err := world.DecodeMark(e.Value, e.Revision)
		if err != nil {
			return err
		}
		c.Lives[key] = &world.Life{Mark: mark}
	}
	return nil
}

func decodeVintage(c *world.Changes, e store.Event) (err error) {
	if e.Deleted {
		c.Vintage = 1
		return nil
	}
	vintage, err := world.DecodeVintage(e.Value)
	if err == nil {
		c.Vintage = vintage
	}
	return err
}

// decodeInto adds one event to c.
func decodeInto(c *world.Changes, k store.ConfigKey, e store.Event) error {
	key := manifest.Key{Namespace: k.Namespace, Name: k.Name}
	endpoint := world.EndpointKey{Service: key, ID: k.ID}
	if e.Deleted {
		switch k.Kind {
		case store.Policies:
			c.Policies[key] = nil
		case store.Guardrails:
			c.Guardrails[key] = nil
		case store.Services:
			c.Services[key] = nil
		case store.Endpoints:
			c.Endpoints[endpoint] = nil
		case store.Hosts:
			c.Hosts[k.Name] = nil
		}
		return nil
	}
	switch k.Kind {
	case store.Policies:
		p, err := decodePolicy(key, e)
		if err != nil {
			return err
		}
		c.Policies[key] = p
	case store.Guardrails:
		g, err := decodeGuardrail(key, e)
		if err != nil {
			return err
		}
		c.Guardrails[key] = g
	case store.Services:
		s, err := manifest.DecodeStored[catalog.ServiceSpec](e.Value)
		if err != nil {
			return err
		}
		s.Metadata.Revision = e.Revision
		c.Services[key] = s
	case store.Endpoints:
		ep, err := world.DecodeEndpoint(endpoint, e.Value)
		if err != nil {
			return err
		}
		ep.Revision = e.Revision
		c.Endpoints[endpoint] = ep
	case store.Hosts:
		owner, err := world.DecodeHost(e.Value)
		if err != nil {
			return err
		}
		c.Hosts[k.Name] = &owner
	}
	return nil
}

func decodePolicy(key manifest.Key, e store.Event) (*policy.Compiled, error) {
	p, err := manifest.DecodeStored[policy.Spec](e.Value)
	if err != nil {
		return nil, err
	}
	if faults := policy.Validate(p); len(faults) > 0 {
		return nil, fmt.Errorf("policy %s is not valid: %w", key, faults)
	}
	p.Metadata.Revision = e.Revision
	return policy.Compile(p), nil
}

func decodeGuardrail(key manifest.Key, e store.Event) (*policy.Compiled, error) {
	g, err := manifest.DecodeStored[policy.GuardrailSpec](e.Value)
	if err != nil {
		return nil, err
	}
	if faults := policy.ValidateGuardrail(g); len(faults) > 0 {
		return nil, fmt.Errorf("guardrail %s is not valid: %w", key, faults)
	}
	g.Metadata.Revision = e.Revision
	return policy.CompileGuardrail(g), nil
}
