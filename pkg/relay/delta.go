package relay

import (
	"context"
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// answerSize is about how large an answer from memory gets, where it can be cut: gRPC clients take 4 MiB.
const answerSize = 2 << 20

// notRemembered is a version that no server has.
const notRemembered = "relay: not remembered"

// delta is the incremental dialect. Its methods are called by the stream's goroutine, which holds the memory's mutex.
type delta struct{ subscriptions }

func (*delta) name() string { return "delta" }

func (*delta) node(q *discoveryv3.DeltaDiscoveryRequest) *corev3.Node { return q.GetNode() }

func (*delta) open(ctx context.Context, conn *grpc.ClientConn) (grpc.BidiStreamingClient[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse], error) {
	return discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
}

// ask books what the client says. Of resources that the client has and memory has not, a server is asked as if the client had another
// version: it sends them again, and still says which of them are gone.
func (d *delta) ask(q *discoveryv3.DeltaDiscoveryRequest) {
	sub, first := d.get(q.GetTypeUrl())
	if first && len(q.GetResourceNamesSubscribe()) == 0 {
		sub.wildcard = true
	}
	for _, name := range q.GetResourceNamesSubscribe() {
		if name == everything {
			sub.wildcard = true
			continue
		}
		sub.names[name] = true
		delete(sub.held, name) // who asks again is answered again
	}
	if first {
		for name, version := range q.GetInitialResourceVersions() {
			sub.held[name] = true
			delete(sub.unheard, name)
			if d.memory.of(sub.url).resources[name].GetVersion() != version || sub.wildcard && !d.memory.of(sub.url).complete {
				q.InitialResourceVersions[name] = notRemembered
			}
		}
	}
	for _, name := range q.GetResourceNamesUnsubscribe() {
		if name == everything {
			sub.wildcard = false
			continue
		}
		delete(sub.names, name)
		delete(sub.held, name)
		d.unwanted(sub, name)
	}
	if o, found := sub.answered(q.GetResponseNonce(), false); found && q.GetErrorDetail() == nil {
		d.accept(sub, o, false)
	} else if found {
		sub.reject(o)
	}
}

// hear books what a server says.
func (d *delta) hear(m *discoveryv3.DeltaDiscoveryResponse) {
	sub, _ := d.get(m.GetTypeUrl())
	sub.offered(offer{nonce: m.GetNonce(), version: m.GetSystemVersionInfo(), resources: m.GetResources(), removed: m.GetRemovedResources()})
}

// due is what to say from memory now. It never says that something does not exist.
func (d *delta) due() []*discoveryv3.DeltaDiscoveryResponse {
	var list []*discoveryv3.DeltaDiscoveryResponse
	for _, sub := range d.order {
		names := d.owed(sub)
		if len(names) == 0 && !d.greets(sub) {
			continue
		}
		k := d.memory.of(sub.url)
		for more := true; more; more = len(names) > 0 {
			m := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: sub.url, SystemVersionInfo: k.version}
			for size := 0; len(names) > 0 && size < answerSize; names = names[1:] {
				r := k.resources[names[0]]
				m.Resources = append(m.Resources, r)
				size += proto.Size(r)
			}
			d.nonce++
			m.Nonce = fmt.Sprintf("relay-%d", d.nonce)
			sub.offered(offer{nonce: m.Nonce, resources: m.Resources, own: true})
			list = append(list, m)
		}
	}
	return list
}

// settle forgets what a server that had time to speak of everything did not speak of.
func (d *delta) settle() {
	if d.memory.streams > 1 {
		return
	}
	for _, sub := range d.order {
		if !sub.spoken {
			continue
		}
		for name := range sub.unheard {
			if sub.wildcard || !sub.names[name] {
				d.memory.forget(sub.url, name)
			}
		}
	}
}
