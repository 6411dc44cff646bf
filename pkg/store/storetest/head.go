package storetest

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/store"
)

func testHead(t *testing.T, b *bench) {
	snap := b.list(t)
	for range 20 {
		revision := b.put(t, b.key("k"), "x")
		head, err := b.KV.Head(b.ctx)
		if err != nil || head.Revision < revision || head.Cluster != snap.Cluster {
			t.Fatalf("head after revision %d is %+v, %v; want at least that, of cluster %x", revision, head, err, snap.Cluster)
		}
	}
}

// testHeadTold: who asked for the head need not wait for a watch of a quiet prefix until progress comes by itself. The write comes right
// after a progress, so that the next one would be a second away.
func testHeadTold(t *testing.T, b *bench) {
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	told := make(chan int64, 1000)
	ended := make(chan error, 1)
	after := b.list(t).Revision
	go func() {
		ended <- b.KV.Watch(ctx, b.prefix, after, func(batch store.Batch) error { told <- batch.Revision; return nil })
	}()
	reach := func(revision int64) {
		for {
			select {
			case r := <-told:
				if r >= revision {
					return
				}
			case err := <-ended:
				t.Fatalf("the watch ended before revision %d: %v", revision, err)
			}
		}
	}
	elsewhere := strings.TrimSuffix(b.prefix, "/") + "-elsewhere"
	reach(b.put(t, elsewhere, "x"))
	best := time.Hour
	for range 4 {
		begun := time.Now()
		revision := b.put(t, elsewhere, "x")
		if _, err := b.KV.Head(ctx); err != nil {
			t.Fatal(err)
		}
		reach(revision)
		best = min(best, time.Since(begun))
	}
	if best > 400*time.Millisecond {
		t.Errorf("after Head a watch said it had come so far after %v at best", best)
	}
	cancel()
	<-ended
}
