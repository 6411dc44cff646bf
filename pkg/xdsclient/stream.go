package xdsclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// maxText bounds the text of a rejection.
const maxText = 8 << 10

// stream is one conversation. Run's goroutine sends; another one reads.
type stream struct {
	client *Client
	grpc   grpc.BidiStreamingClient[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]
	node   *corev3.Node // nil once it was said

	open  [view.NumTypes]bool
	names [view.NumTypes][]string // subscribed, sorted
	seen  [2]dataplane.Resources  // received and in force, when the subscriptions were last looked at
}

// follow talks to one server until the stream ends. Answered tells whether the server said anything.
func (c *Client) follow(ctx context.Context, server string) (answered bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	c.note(func(s *Status) { s.Server = server })
	conn, err := c.servers.Connect(server)
	if err != nil {
		cancel()
		return false, err
	}
	defer func() { _ = conn.Close() }()
	g, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		cancel()
		return false, err
	}
	responses, ended := make(chan *discoveryv3.DeltaDiscoveryResponse), make(chan error, 1)
	go func() { ended <- Pump(ctx, g, responses) }()
	st := &stream{client: c, grpc: g, node: c.node()}
	c.state.connected(time.Now())
	var beside sync.WaitGroup
	greet := func() {
		c.note(func(s *Status) { s.Connected, s.Since = true, time.Now() })
		c.log.Info("connected to the control plane", "server", server)
		if c.cfg.Beside != nil {
			beside.Go(func() { c.cfg.Beside(ctx, conn) })
		}
	}
	answered, over, err := st.talk(greet, responses, ended)
	if !over {
		err = why(err, responses, ended, cancel)
	}
	cancel()
	beside.Wait()
	return answered, err
}

// talk goes on until the stream ends, or something fails; greet is called at the first answer. Over tells whether the reader has ended.
func (st *stream) talk(greet func(), responses <-chan *discoveryv3.DeltaDiscoveryResponse, ended <-chan error) (answered, over bool, err error) {
	if err := st.subscribe(); err != nil {
		return false, false, err
	}
	c := st.client
	first := time.NewTimer(quiet)
	defer first.Stop()
	for {
		alarm := c.alarm()
		select {
		case m := <-responses:
			if !answered {
				answered = true
				first.Stop()
				greet()
			}
			err = st.take(m)
		case <-alarm.C:
			c.apply(nil)
			err = st.subscribe()
		case <-first.C:
			err = fmt.Errorf("no answer for %s", quiet)
		case err = <-ended:
			over = true
		}
		alarm.Stop()
		if err != nil {
			return answered, over, err
		}
	}
}

// why waits for the reader. A send that failed with EOF leaves it to the reader to say what has happened.
func why(err error, responses <-chan *discoveryv3.DeltaDiscoveryResponse, ended <-chan error, cancel context.CancelFunc) error {
	if !errors.Is(err, io.EOF) {
		cancel()
	}
	for {
		select {
		case <-responses:
		case end := <-ended:
			if errors.Is(err, io.EOF) {
				return end
			}
			return err
		}
	}
}

// Pump hands over what arrives until the stream or ctx ends.
func Pump[M any](ctx context.Context, from interface{ Recv() (*M, error) }, to chan<- *M) error {
	for {
		m, err := from.Recv()
		if err != nil {
			return err
		}
		select {
		case to <- m:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// send says who the client is in the first message alone.
func (st *stream) send(m *discoveryv3.DeltaDiscoveryRequest) error {
	m.Node, st.node = st.node, nil
	return st.grpc.Send(m)
}

// subscribe asks for what is wanted and not asked for yet, and ends what nobody wants any more. It is quick where nothing changed.
func (st *stream) subscribe() error {
	s := st.client.state
	if st.node == nil && naming(st.seen[0], s.received) && naming(st.seen[1], s.inForce) {
		return nil
	}
	st.seen = [2]dataplane.Resources{s.received, s.inForce}
	for _, t := range [...]view.Type{view.RTDS, view.CDS, view.EDS, view.LDS, view.SRDS, view.RDS} {
		var err error
		switch {
		case wildcard(t):
			if !st.open[t] && (t != view.SRDS || s.scoped()) {
				st.open[t] = true
				err = st.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: t.URL(), InitialResourceVersions: s.versions(t)})
			}
		default:
			err = st.move(t, s.wanted(t))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// naming reports whether a and b are the same in the types that name others.
func naming(a, b dataplane.Resources) bool {
	return a.SameType(b, view.CDS) && a.SameType(b, view.LDS) && a.SameType(b, view.SRDS)
}

// move changes the subscription of a type to names.
func (st *stream) move(t view.Type, names []string) error {
	more, less := difference(names, st.names[t]), difference(st.names[t], names)
	if len(more) == 0 && len(less) == 0 {
		return nil
	}
	st.client.state.forget(t, less, time.Now())
	m := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: t.URL(), ResourceNamesSubscribe: more, ResourceNamesUnsubscribe: less}
	if !st.open[t] {
		st.open[t] = true
		m.InitialResourceVersions = st.client.state.versions(t)
	}
	st.names[t] = names
	return st.send(m)
}

// difference is what of a is not in b; both are sorted.
func difference(a, b []string) []string {
	var out []string
	for _, name := range a {
		if _, found := slices.BinarySearch(b, name); !found {
			out = append(out, name)
		}
	}
	return out
}

// take puts a response into force as far as it can be enforced, and answers it.
func (st *stream) take(m *discoveryv3.DeltaDiscoveryResponse) error {
	t, ok := view.FromURL(m.GetTypeUrl())
	if !ok {
		return st.answer(m, []dataplane.Fault{{Field: "type_url", Reason: fmt.Sprintf("%q is not known", m.GetTypeUrl())}})
	}
	c := st.client
	changes, faults := c.state.read(t, m)
	c.state.receive(t, changes, time.Now())
	faults = append(faults, c.apply(changes)...)
	if c.state.settled(time.Now()) {
		c.note(func(s *Status) { s.Saved = time.Time{} })
	}
	if err := st.answer(m, faults); err != nil {
		return err
	}
	if err := st.subscribe(); err != nil {
		return err
	}
	c.apply(nil) // what is not subscribed any more can go
	return nil
}

// read compiles each resource of m. One that can't be enforced is left out: what it replaces stays.
func (s *state) read(t view.Type, m *discoveryv3.DeltaDiscoveryResponse) ([]dataplane.Change, []dataplane.Fault) {
	var changes []dataplane.Change
	var faults []dataplane.Fault
	seen := make(map[string]bool)
	for _, r := range m.GetResources() {
		id := view.ID{Type: t, Name: r.GetName()}
		fault := func(field, reason string) {
			faults = append(faults, dataplane.Fault{ID: id, Field: field, Reason: reason})
		}
		switch {
		case seen[id.Name]:
			fault("name", "is twice in one response")
			continue
		case r.GetTtl() != nil:
			fault("ttl", "not enforced by this agent")
			continue
		case r.GetResource().GetTypeUrl() != t.URL():
			fault("resource", fmt.Sprintf("is of type %q", r.GetResource().GetTypeUrl()))
			continue
		}
		seen[id.Name] = true
		res, bad := s.again(id, r.GetVersion(), r.GetResource().GetValue()), []dataplane.Fault(nil)
		if res == nil {
			res, bad = dataplane.Decode(id, r.GetVersion(), r.GetResource().GetValue())
		}
		if faults = append(faults, bad...); res != nil {
			changes = append(changes, dataplane.Change{ID: id, Now: res})
		}
	}
	for _, name := range m.GetRemovedResources() {
		if !seen[name] {
			seen[name] = true
			changes = append(changes, dataplane.Change{ID: view.ID{Type: t, Name: name}})
		}
	}
	return changes, faults
}

// answer accepts m, or rejects it with the faults' text.
func (st *stream) answer(m *discoveryv3.DeltaDiscoveryResponse, faults []dataplane.Fault) error {
	q := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: m.GetTypeUrl(), ResponseNonce: m.GetNonce()}
	t, known := view.FromURL(m.GetTypeUrl())
	if len(faults) == 0 {
		st.client.note(func(s *Status) { s.Accepted[t]++ })
	} else {
		text := dataplane.Text(faults)
		if len(text) > maxText {
			text = strings.ToValidUTF8(text[:maxText], "") + " ..."
		}
		q.ErrorDetail = &rpcstatus.Status{Code: int32(codes.InvalidArgument), Message: text}
		st.client.note(func(s *Status) {
			s.LastNACK, s.NACKed = text, time.Now()
			if known {
				s.Rejected[t]++
			}
		})
		st.client.log.Error("a response is rejected", "type", m.GetTypeUrl(), "text", text)
	}
	return st.send(q)
}
