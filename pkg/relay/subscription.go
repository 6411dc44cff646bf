package relay

import (
	"maps"
	"slices"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// maxUnanswered bounds the responses of a type that a client leaves unanswered and that are still remembered once it accepts them.
const maxUnanswered = 256

// subscriptions are what one stream wants, by type, in the order in which it first asked.
type subscriptions struct {
	memory *memory
	byURL  map[string]*subscription
	order  []*subscription
	nonce  int // of the last answer from memory
}

// subscription is what a stream wants of one type, and what its client has of it.
type subscription struct {
	url      string
	wildcard bool
	names    map[string]bool
	held     map[string]bool // the client has some version: it accepted one, or said so
	holdsAll bool            // the client said that it has all that it wants, without names
	pending  []offer         // responses without an answer
	spoken   bool            // there was a response on this stream
	again    bool            // the client wants to hear it once more
	unheard  map[string]bool // remembered, but on this stream neither client nor server spoke of it
}

// offer is one response. Own ones came from memory.
type offer struct {
	nonce     string
	version   string
	resources []*discoveryv3.Resource
	removed   []string
	own       bool
}

// get is the subscription of a type, and whether it is new.
func (s *subscriptions) get(url string) (sub *subscription, first bool) {
	if sub := s.byURL[url]; sub != nil {
		return sub, false
	}
	if s.byURL == nil {
		s.byURL = make(map[string]*subscription)
	}
	sub = &subscription{url: url, names: make(map[string]bool), held: make(map[string]bool), unheard: make(map[string]bool)}
	for name := range s.memory.of(url).resources {
		sub.unheard[name] = true
	}
	s.byURL[url] = sub
	s.order = append(s.order, sub)
	return sub, true
}

// offered books a response that goes to the client.
func (sub *subscription) offered(o offer) {
	sub.spoken, sub.again = true, false
	for _, r := range o.resources {
		delete(sub.unheard, r.GetName())
	}
	if sub.pending = append(sub.pending, o); len(sub.pending) > maxUnanswered {
		sub.pending = sub.pending[1:]
	}
}

// answered takes the offer with the nonce out of those without an answer, and with it all before where older is true.
func (sub *subscription) answered(nonce string, older bool) (o offer, found bool) {
	i := slices.IndexFunc(sub.pending, func(o offer) bool { return o.nonce == nonce })
	if nonce == "" || i < 0 {
		return offer{}, false
	}
	o = sub.pending[i]
	if older {
		sub.pending = slices.Clone(sub.pending[i+1:])
	} else {
		sub.pending = slices.Delete(sub.pending, i, i+1)
	}
	return o, true
}

// accept books that the client took o, and remembers what it was. Whole says that o held everything of its type that the client wants.
func (s *subscriptions) accept(sub *subscription, o offer, whole bool) {
	in := make(map[string]bool)
	for _, r := range o.resources {
		name := r.GetName()
		in[name], sub.held[name] = true, true
		if !o.own && (sub.wildcard || sub.names[name]) {
			s.memory.keep(sub.url, r)
		}
	}
	for _, name := range o.removed {
		delete(sub.held, name)
	}
	if o.own {
		return
	}
	for _, name := range o.removed {
		s.memory.forget(sub.url, name)
	}
	if whole {
		for _, name := range slices.Collect(maps.Keys(s.memory.of(sub.url).resources)) {
			if !in[name] && (sub.wildcard || sub.names[name]) {
				s.memory.forget(sub.url, name)
				delete(sub.held, name)
			}
		}
	}
	if sub.wildcard {
		s.memory.finish(sub.url, o.version)
	}
}

// reject books that the client did not take o. What it won't take from memory is not said to it again.
func (sub *subscription) reject(o offer) {
	if o.own {
		for _, r := range o.resources {
			sub.held[r.GetName()] = true
		}
	}
}

// owed are the names that the client wants and has not heard of, as far as they are remembered; sorted.
func (s *subscriptions) owed(sub *subscription) []string {
	if sub.holdsAll && !sub.again {
		return nil
	}
	flying := make(map[string]bool)
	for _, o := range sub.pending {
		for _, r := range o.resources {
			flying[r.GetName()] = true
		}
		for _, name := range o.removed {
			flying[name] = true
		}
	}
	k := s.memory.of(sub.url)
	var names []string
	for name := range k.resources {
		wanted := sub.wildcard && k.complete || sub.names[name]
		if wanted && !flying[name] && (sub.again || !sub.held[name]) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// greets reports whether the client waits to hear that there is nothing.
func (s *subscriptions) greets(sub *subscription) bool {
	return sub.wildcard && !sub.spoken && !sub.holdsAll && len(sub.held) == 0 && s.memory.of(sub.url).complete
}

// hungry reports whether memory could answer something that no server has answered.
func (s *subscriptions) hungry() bool {
	for _, sub := range s.order {
		if len(s.owed(sub)) > 0 || s.greets(sub) {
			return true
		}
	}
	return false
}

// unwanted forgets a name that no client wants any more, where no other stream may want it.
func (s *subscriptions) unwanted(sub *subscription, name string) {
	if s.memory.streams <= 1 && !sub.wildcard {
		s.memory.forget(sub.url, name)
	}
}

// wholeType reports whether a state-of-the-world response of the type holds all of it, so that what is missing does not exist.
func wholeType(url string) bool { return url == view.CDS.URL() || url == view.LDS.URL() }
