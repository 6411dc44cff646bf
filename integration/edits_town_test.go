package integration_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/breakwater-mesh/breakwater/integration/harness"
)

// town is what exists, as far as it decides who is reachable.
type town struct {
	services map[string]dweller // by name in shop
	owner    map[string]string  // alias -> service
	depends  []string           // nil: orders depends on all
}

// dweller is a service of the town.
type dweller struct {
	static  []string          // addresses
	api     map[string]string // id -> address
	label   int
	backend string // the service that gets its calls, while it exists; "": itself
}

func (c town) clone() town {
	next := town{services: map[string]dweller{}, owner: maps.Clone(c.owner), depends: slices.Clone(c.depends)}
	for name, s := range c.services {
		next.services[name] = dweller{slices.Clone(s.static), maps.Clone(s.api), s.label, s.backend}
	}
	return next
}

// reachable are the hosts that orders must reach.
func (c town) reachable() map[string]bool {
	hosts := map[string]bool{}
	sees := func(name string) bool {
		_, exists := c.services[name]
		return exists && (c.depends == nil || slices.Contains(c.depends, name))
	}
	for name := range c.services {
		if sees(name) {
			hosts[name], hosts[name+".shop"] = true, true
		}
	}
	for alias, name := range c.owner {
		if sees(name) {
			hosts[alias] = true
		}
	}
	return hosts
}

var (
	permanent = []string{"payments", "billing", "email", "ledger", "search", "queue"}
	passing   = []string{"tmp-a", "tmp-b", "tmp-c", "tmp-d", "tmp-e"}
	hostNames = []string{"pay.example.com", "bill.example.com", "mail.example.com", "find.example.com"}
)

// fresh is a service of n hosts of its own.
func (e *editor) fresh(n int) dweller {
	s := dweller{api: map[string]string{}}
	for range n {
		s.static = append(s.static, e.upstream())
	}
	return s
}

func (e *editor) upstream() string {
	e.t.Helper()
	host := e.addHost("any")
	if e.rng.IntN(4) == 0 { // so that some calls are under way whatever happens
		host.Set(harness.Behaviour{Delay: time.Duration(20+e.rng.IntN(60)) * time.Millisecond})
	}
	e.hostOf[host.Address] = host
	return host.Address
}

func (e *editor) serviceManifest(c town, name string) string {
	s := c.services[name]
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: breakwater/v1alpha1\nkind: Service\nmetadata: {namespace: shop, name: %s, labels: {edit: v%d}}\nspec:\n  protocol: http\n  endpoints:\n", name, s.label)
	for _, address := range s.static {
		ip, port, _ := strings.Cut(address, ":")
		fmt.Fprintf(&b, "  - {address: %s, port: %s}\n", ip, port)
	}
	var hosts []string
	for alias, owner := range c.owner {
		if owner == name {
			hosts = append(hosts, alias)
		}
	}
	if slices.Sort(hosts); len(hosts) > 0 {
		fmt.Fprintf(&b, "  hosts: [%s]\n", strings.Join(hosts, ", "))
	}
	if s.backend != "" {
		fmt.Fprintf(&b, "  routes: [{name: moved, match: {path: {prefix: /}}, backends: [{service: %s}]}]\n", s.backend)
	}
	return b.String()
}

func (e *editor) ordersManifest(c town) string {
	text := "apiVersion: breakwater/v1alpha1\nkind: Service\nmetadata: {namespace: shop, name: orders}\nspec:\n  protocol: http\n"
	if c.depends != nil {
		text += "  dependsOn: [" + strings.Join(c.depends, ", ") + "]\n"
	}
	return text
}
