package catalog

import (
	"fmt"
	"math"
)

// Discord is what is wrong with a service and its registered endpoints together, though each of them is valid alone.
type Discord struct {
	Portless []string   // ids of endpoints without any port: neither theirs nor the service's
	Twins    []Twin     // of which proxies could keep only one
	Heavy    []Locality // whose endpoints weigh more together than Envoy can add up
}

// Twin is two endpoints with one address and port, at least one of them registered.
type Twin struct {
	ID    string // of a registered one
	Other string // the other one as people say it: "endpoint e1" or "spec.endpoints[0]"
	At    string // address and port
}

// Together holds the registered endpoints of svc against it and each other. Where nothing is wrong all of Discord is empty.
func Together(svc *Service, registered []Endpoint) Discord {
	var d Discord
	type place struct {
		address string
		port    uint32
	}
	taken := make(map[place]string, len(svc.Spec.Endpoints)+len(registered))
	weights := make(map[Locality]uint64)
	weigh := func(e *EndpointSpec) {
		where, weight := Locality{}, uint64(1)
		if e.Locality != nil {
			where = *e.Locality
		}
		if e.Weight != nil {
			weight = uint64(*e.Weight)
		}
		before := weights[where]
		if weights[where] += weight; before <= math.MaxUint32 && weights[where] > math.MaxUint32 {
			d.Heavy = append(d.Heavy, where)
		}
	}
	for i := range svc.Spec.Endpoints {
		e := &svc.Spec.Endpoints[i]
		taken[place{e.Address, Port(e, &svc.Spec)}] = fmt.Sprintf("spec.endpoints[%d]", i)
		weigh(e)
	}
	for i := range registered {
		e := &registered[i]
		weigh(&e.Spec)
		at := place{e.Spec.Address, Port(&e.Spec, &svc.Spec)}
		if at.port == 0 {
			d.Portless = append(d.Portless, e.ID)
			continue
		}
		if other, twice := taken[at]; twice {
			d.Twins = append(d.Twins, Twin{ID: e.ID, Other: other, At: fmt.Sprintf("%s port %d", at.address, at.port)})
			continue
		}
		taken[at] = "endpoint " + e.ID
	}
	return d
}
