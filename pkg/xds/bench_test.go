package xds

import (
	"fmt"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/telemetry"
	"github.com/breakwater-mesh/breakwater/pkg/view"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// fleetHead is what a class holds that sees so many services.
func fleetHead(services int) (head *world.Head, names []string) {
	var all [view.NumTypes][]*view.Resource
	add := func(t view.Type, name string, needs ...view.ID) {
		all[t] = append(all[t], view.New(t, name, []byte(name), needs))
	}
	for i := range services {
		name := fmt.Sprintf("shop/s%04d", i)
		names = append(names, name)
		route := view.ID{Type: view.RDS, Name: name}
		add(view.CDS, name)
		add(view.EDS, name)
		add(view.RDS, name, view.ID{Type: view.CDS, Name: name})
		add(view.SRDS, fmt.Sprintf("s%04d", i), route)
		add(view.SRDS, fmt.Sprintf("s%04d.shop", i), route)
	}
	add(view.LDS, "outbound")
	for i := range 8 {
		add(view.RTDS, fmt.Sprintf("limits-%d", i))
	}
	head = &world.Head{Rev: 1}
	for t := range all {
		head.Views[t] = view.Of(all[t]...)
	}
	return head, names
}

// load takes s from nothing to the whole of head, each response answered at once, as one proxy subscribes after the other.
func load(b *testing.B, s *state, head *world.Head, names []string) {
	now := time.Now()
	say := func(q request) {
		if err := s.request(q, head, now); err != nil {
			b.Fatal(err)
		}
	}
	for _, t := range []view.Type{view.RTDS, view.CDS, view.EDS, view.LDS, view.SRDS, view.RDS} {
		q := request{typ: t}
		switch t {
		case view.RTDS:
			for i := range 8 {
				q.subscribe = append(q.subscribe, fmt.Sprintf("limits-%d", i))
			}
		case view.EDS, view.RDS:
			q.subscribe = names
		}
		say(q)
		for r := s.next(head, now); r != nil; r = s.next(head, now) {
			say(request{typ: r.typ, nonce: r.nonce})
		}
	}
	for t := range s.subs {
		if s.subs[t].acked != head.Views[t] {
			b.Fatalf("%s is not at rest", view.Type(t))
		}
	}
}

// BenchmarkFirstLoad is what the state machine takes for a proxy that connects and receives everything, without the transport.
func BenchmarkFirstLoad(b *testing.B) {
	for _, services := range []int{100, 1000} {
		b.Run(fmt.Sprint(services), func(b *testing.B) {
			head, names := fleetHead(services)
			b.ReportAllocs()
			ways := newCourses(responseBytes)
			for b.Loop() {
				s := newState(limits{names: DefaultMaxNames, hold: time.Second, response: responseBytes}, true, time.Now())
				s.courses = ways
				load(b, s, head, names)
			}
		})
	}
}

// BenchmarkEdit is one changed cluster on its way to one proxy that holds 1,000 services, and its answer, without the transport: what is said
// and booked, and what the metrics take.
func BenchmarkEdit(b *testing.B) {
	head, names := fleetHead(1000)
	m := telemetry.NewMetrics()
	st := &stream{server: New(Config{Metrics: m}), form: deltaForm, alarm: time.NewTimer(time.Hour), class: world.NewClass(world.ClassKey{}, head), state: newState(limits{names: DefaultMaxNames, hold: time.Second, response: responseBytes}, true, time.Now())}
	load(b, st.state, head, names)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		next := &world.Head{Rev: head.Rev + 1, Views: head.Views, Seen: time.Now()}
		next.Views[view.RDS] = head.Views[view.RDS].With([]view.Change{view.Put(view.New(view.RDS, names[0], []byte{byte(i), byte(i >> 8)}, nil))})
		st.class.Publish(next)
		head = next
		r, _ := st.next(time.Now())
		if r == nil {
			b.Fatal("there is nothing to say")
		}
		f := st.form.frame(r)
		m.Sent(r.typ, len(r.set), f.buffers.Len())
		now := time.Now()
		q := request{typ: r.typ, nonce: r.nonce}
		sent, _, err := st.request(q, now)
		if err != nil {
			b.Fatal(err)
		}
		m.Acked(q.typ, now.Sub(sent))
		if !st.settled() {
			b.Fatal("it is not at rest")
		}
	}
}
