package xds

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
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
