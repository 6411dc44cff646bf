package apiserver

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// crowd is the connected proxies of one class.
type crowd struct {
	proxies   int
	reporting int            // of those, that say what they have ejected
	ejected   map[string]int // hosts, by cluster as statistics call it, that those have ejected together
}

// census is the connected proxies of all replicas that answered.
type census struct {
	crowds map[world.ClassKey]crowd
	silent []api.Unreachable // the others
}

// classes are the classes, in order.
func (c *census) classes() []world.ClassKey {
	return slices.SortedFunc(maps.Keys(c.crowds), compareClasses)
}

func (c *census) add(key world.ClassKey, more crowd) {
	sum := c.crowds[key]
	sum.proxies += more.proxies
	sum.reporting += more.reporting
	for cluster, hosts := range more.ejected {
		if sum.ejected == nil {
			sum.ejected = make(map[string]int)
		}
		sum.ejected[cluster] += hosts
	}
	c.crowds[key] = sum
}

// ownCensus is of the proxies of this replica. What those say that came since they were counted is left out.
func (c Config) ownCensus() *census {
	all := &census{crowds: make(map[world.ClassKey]crowd)}
	said := c.Ejected()
	for key, n := range c.Classes() {
		all.add(key, crowd{proxies: n})
		for _, hosts := range said[key] {
			if hosts != nil && all.crowds[key].reporting < n {
				all.add(key, crowd{reporting: 1, ejected: hosts})
			}
		}
	}
	return all
}

// mostAskWait is how long a write, or a watch, waits for what other replicas say of their proxies.
const mostAskWait = 500 * time.Millisecond

// askWait is how long what goes on without an answer waits for one.
func (c Config) askWait() time.Duration { return min(c.PeerWait, mostAskWait) }

// census is of the proxies of all replicas.
func (c Config) census(ctx context.Context) *census {
	all := c.ownCensus()
	replies := askOthers[api.ClassList](ctx, c.Peers, c.askWait(), api.ClassesPath)
	all.silent = unreachable(replies)
	for _, r := range replies {
		for _, of := range r.body.Items {
			all.add(keyOf(of), crowd{of.Proxies, of.Reporting, of.Ejected})
		}
	}
	return all
}

func keyOf(c api.ProxyClass) world.ClassKey {
	return world.ClassKey{
		Namespace: c.Namespace, Service: c.Service, Dialect: c.Dialect, Profile: c.Profile, Tier: c.Version,
		Outbound: c.Outbound, Runtime: c.Runtime, Edge: c.Edge, OwnRetries: c.OwnRetries,
	}
}

func classOf(k world.ClassKey, of crowd) api.ProxyClass {
	return api.ProxyClass{
		Namespace: k.Namespace, Service: k.Service, Dialect: k.Dialect, Profile: k.Profile, Version: k.Tier,
		Outbound: k.Outbound, Runtime: k.Runtime, Edge: k.Edge, OwnRetries: k.OwnRetries,
		Proxies: of.proxies, Reporting: of.reporting, Ejected: of.ejected,
	}
}

func (s *server) listClasses(ctx context.Context, in *OfReplica) (*answer[api.ClassList], error) {
	here, err := s.here(*in)
	if err != nil {
		return nil, err
	}
	all := s.ownCensus()
	if !here {
		all = s.census(ctx)
	}
	body := api.ClassList{Items: []api.ProxyClass{}, Unreachable: all.silent}
	for _, key := range all.classes() {
		body.Items = append(body.Items, classOf(key, all.crowds[key]))
	}
	return &answer[api.ClassList]{Body: body}, nil
}
