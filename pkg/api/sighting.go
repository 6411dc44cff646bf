package api

import "time"

// ProxyIdentity is what a proxy is known by, whatever replica it is connected to.
type ProxyIdentity struct{ Namespace, Service, ID string }

// sighting is how a replica last saw a proxy: connected, or else as it went.
type sighting struct {
	of        ProxyIdentity
	connected bool
	at        time.Time
}

func (p Proxy) sighting() sighting {
	return sighting{ProxyIdentity{p.Namespace, p.Service, p.ID}, true, p.Connected}
}

func (p ProxyDelivery) sighting() sighting {
	s := sighting{of: ProxyIdentity{p.Namespace, p.Service, p.ID}, connected: p.State != DeliveryOffline}
	at := p.Connected
	if !s.connected {
		at = p.Since
	}
	if at != nil {
		s.at = *at
	}
	return s
}

// after reports whether s says more of the proxy than t does.
func (s sighting) after(t sighting) bool {
	if s.connected != t.connected {
		return s.connected
	}
	return s.at.After(t.at)
}

// newest are the proxies of the lists of several replicas. Of one that several have, that with the newest stream speaks, with all that it says; where
// none has a stream of it, that which lost it last.
func newest[P any](lists [][]P, see func(P) sighting) []P {
	type speaker struct {
		list int
		saw  sighting
	}
	speaks := make(map[ProxyIdentity]speaker)
	for i, list := range lists {
		for _, p := range list {
			saw := see(p)
			if by, known := speaks[saw.of]; !known || saw.after(by.saw) {
				speaks[saw.of] = speaker{i, saw}
			}
		}
	}
	all := []P{}
	for i, list := range lists {
		for _, p := range list {
			if saw := see(p); speaks[saw.of].list == i && speaks[saw.of].saw.connected == saw.connected {
				all = append(all, p)
			}
		}
	}
	return all
}
