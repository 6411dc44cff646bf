package xds

import (
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// A panic while a stream's next response is worked out closes that stream. Others go on, and nobody who looks at it then is held up.
func TestAPanicClosesItsStreamAlone(t *testing.T) {
	r := newRig(t, shop{}.head(1), Config{})
	canary, victim := r.connect(), r.connect()
	victim.node.Id, victim.node.Cluster = "edge-1", "edge.shop"
	canary.start()
	victim.start()
	var hurt *stream
	for _, st := range r.server.list() {
		if st.id.node == "edge-1" {
			hurt = st
		}
	}
	hurt.audience.told.Store(new(news))
	hurt.Wake()
	victim.ended(codes.Internal, "internal error")
	looked := make(chan struct{})
	go func() { defer close(looked); hurt.snapshot() }()
	select {
	case <-looked:
	case <-time.After(10 * time.Second):
		t.Fatal("a stream that panicked is locked for ever")
	}
	r.classes.publish(shop{"CDS shop/payments": "new"}.head(2))
	m := canary.expect("CDS shop/payments")
	canary.want("EDS shop/payments")
	canary.ack(m)
	again := r.connect()
	again.node.Id, again.node.Cluster = "edge-1", "edge.shop"
	again.subscribe(view.CDS)
	again.want("CDS shop/billing shop/payments")
}
