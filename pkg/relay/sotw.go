package relay

import (
	"context"
	"fmt"
	"maps"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/anypb"
)

// sotw is the state-of-the-world dialect. Its methods are called by the stream's goroutine, which holds the memory's mutex.
type sotw struct{ subscriptions }

func (*sotw) name() string { return "state of the world" }

func (*sotw) node(q *discoveryv3.DiscoveryRequest) *corev3.Node { return q.GetNode() }

func (*sotw) open(ctx context.Context, conn *grpc.ClientConn) (grpc.BidiStreamingClient[discoveryv3.DiscoveryRequest, discoveryv3.DiscoveryResponse], error) {
	return discoveryv3.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(ctx)
}

// ask books what the client says. Where the client has something that memory has not, a server is asked as if the client had
// nothing: it sends it again.
func (s *sotw) ask(q *discoveryv3.DiscoveryRequest) {
	sub, first := s.get(q.GetTypeUrl())
	names := make(map[string]bool)
	for _, name := range q.GetResourceNames() {
		names[name] = true
	}
	// Without names a first request wants everything; after names it wants nothing.
	wildcard := names[everything] || len(names) == 0 && (first || sub.wildcard && len(sub.names) == 0)
	delete(names, everything)
	same := !first && wildcard == sub.wildcard && maps.Equal(names, sub.names)
	sub.wildcard, sub.names = wildcard, names
	maps.DeleteFunc(sub.held, func(name string, _ bool) bool { return !wildcard && !names[name] })
	if first && q.GetVersionInfo() != "" {
		s.declared(sub)
		if !s.remembered(sub) {
			q.VersionInfo = ""
		}
	}
	o, found := sub.answered(q.GetResponseNonce(), true)
	switch {
	case found && q.GetErrorDetail() == nil:
		s.accept(sub, o, wholeType(sub.url))
	case found:
		sub.reject(o)
	case same && len(sub.pending) == 0:
		sub.again = true
	}
}

// declared books that the client says it has a version of what it wants.
func (s *sotw) declared(sub *subscription) {
	sub.holdsAll = sub.wildcard
	for name := range sub.names {
		sub.held[name] = true
	}
}

// remembered reports whether all that the client wants is known.
func (s *sotw) remembered(sub *subscription) bool {
	k := s.memory.of(sub.url)
	for name := range sub.names {
		if k.resources[name] == nil {
			return false
		}
	}
	return !sub.wildcard || k.complete
}

// hear books what a server says.
func (s *sotw) hear(m *discoveryv3.DiscoveryResponse) {
	sub, _ := s.get(m.GetTypeUrl())
	o := offer{nonce: m.GetNonce(), version: m.GetVersionInfo()}
	for _, body := range m.GetResources() {
		if r := named(body, m.GetVersionInfo()); r != nil {
			o.resources = append(o.resources, r)
		}
	}
	sub.offered(o)
}

// named finds out what a resource is called, which this dialect does not say beside it; nil where it can't be read.
func named(body *anypb.Any, version string) *discoveryv3.Resource {
	if body.MessageIs((*discoveryv3.Resource)(nil)) {
		r := new(discoveryv3.Resource)
		if body.UnmarshalTo(r) != nil {
			return nil
		}
		r.Version = version
		return r
	}
	name, ok := firstField(body.GetValue())
	if !ok {
		return nil
	}
	return &discoveryv3.Resource{Name: name, Version: version, Resource: body}
}

// firstField is field 1 of a message, which in every type of xDS resource is the name.
func firstField(b []byte) (name string, ok bool) {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return "", false
		}
		b = b[n:]
		if number == 1 && kind == protowire.BytesType {
			value, n := protowire.ConsumeString(b)
			if n < 0 {
				return "", false
			}
			name, ok = value, true
			b = b[n:]
			continue
		}
		if n = protowire.ConsumeFieldValue(number, kind, b); n < 0 {
			return "", false
		}
		b = b[n:]
	}
	return name, ok
}

// due is what to say from memory now.
func (s *sotw) due() []*discoveryv3.DiscoveryResponse {
	var list []*discoveryv3.DiscoveryResponse
	for _, sub := range s.order {
		names := s.owed(sub)
		if len(names) == 0 && !s.greets(sub) {
			sub.again = false
			continue
		}
		if wholeType(sub.url) {
			var ok bool
			if names, ok = s.whole(sub); !ok {
				continue
			}
		}
		m, o := s.say(sub, names)
		s.nonce++
		m.Nonce = fmt.Sprintf("relay-%d", s.nonce)
		o.nonce = m.Nonce
		sub.offered(o)
		list = append(list, m)
	}
	return list
}

// whole are all names of a type whose responses hold all that there is. It can't be said where the client has what memory has not:
// the client would drop it.
func (s *sotw) whole(sub *subscription) (names []string, ok bool) {
	k := s.memory.of(sub.url)
	for name := range sub.held {
		if k.resources[name] == nil {
			return nil, false
		}
	}
	for name := range k.resources {
		if sub.wildcard || sub.names[name] {
			names = append(names, name)
		}
	}
	return names, !sub.holdsAll || k.complete
}

// say makes a response. Its version is that of its resources; where they differ it is one that no server has, so that a server says
// all of it again.
func (s *sotw) say(sub *subscription, names []string) (*discoveryv3.DiscoveryResponse, offer) {
	k := s.memory.of(sub.url)
	m := &discoveryv3.DiscoveryResponse{TypeUrl: sub.url, VersionInfo: k.version}
	o := offer{own: true}
	for i, name := range names {
		r := k.resources[name]
		if i == 0 {
			m.VersionInfo = r.GetVersion()
		} else if m.VersionInfo != r.GetVersion() {
			m.VersionInfo = notRemembered
		}
		m.Resources = append(m.Resources, r.GetResource())
		o.resources = append(o.resources, r)
	}
	if m.VersionInfo == "" {
		m.VersionInfo = notRemembered
	}
	return m, o
}

// settle has nothing to forget: what a response of this dialect leaves out does not exist, and is forgotten at once.
func (*sotw) settle() {}
