package xds

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// An answer costs a packet, and not two more: by default grpc-go measures the round trip whenever a request comes.
func TestAnswersAreNotMeasured(t *testing.T) {
	r := newRig(t, shop{}.head(1), Config{})
	c := r.connect()
	c.start()
	r.gate.mu.Lock()
	heard := bytes.Clone(r.gate.heard)
	r.gate.mu.Unlock()
	frames := http2.NewFramer(nil, bytes.NewReader(heard))
	data := 0
	for {
		f, err := frames.ReadFrame()
		if err != nil {
			break // of what the client read last there may be a part
		}
		switch f := f.(type) {
		case *http2.DataFrame:
			data++
		case *http2.PingFrame:
			if !f.IsAck() {
				t.Errorf("the server asks for the round trip after %d frames of data", data)
			}
		}
	}
	if data < 6 {
		t.Errorf("%d frames of data were read, want one for each response at least", data)
	}
}

// A stream at rest has its handler's goroutine and no other: each costs its stack.
func TestAStreamAtRestHasOneGoroutine(t *testing.T) {
	r := newRig(t, shop{}.head(1), Config{})
	for i := range 3 {
		c := r.connect()
		c.node.Id = fmt.Sprint("orders-", i)
		c.start()
	}
	r.classes.publish(shop{"RDS shop/payments": "new"}.head(2))
	all := make([]byte, 1<<20)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		text := string(all[:runtime.Stack(all, true)])
		waiting, speaking := strings.Count(text, "(*stream).run("), strings.Count(text, "(*stream).speak(")
		if waiting == 3 && speaking == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d streams at rest and %d goroutines that speak, want 3 and none", waiting, speaking)
		}
	}
}

// However many streams wait for the turn of their first answer, one goroutine waits.
func TestStreamsThatWaitForTheirTurnTakeNoGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, shop{}.head(1), Config{FirstAnswers: 1})
		var clients []*client
		for i := range 4 {
			c := r.connect()
			c.node.Id = fmt.Sprint("orders-", i)
			c.subscribe(view.CDS)
			clients = append(clients, c)
			synctest.Wait()
		}
		all := make([]byte, 1<<20)
		text := string(all[:runtime.Stack(all, true)])
		if admit, speak := strings.Count(text, "(*stream).admit("), strings.Count(text, "(*stream).speak("); admit != 1 || speak != 0 {
			t.Errorf("3 streams wait with %d goroutines at the door and %d that speak, want 1 and none", admit, speak)
		}
		for _, c := range clients {
			c.want("CDS shop/billing shop/payments")
		}
	})
}
