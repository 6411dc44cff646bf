package reconcile

import (
	"context"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/view"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// members counts the streams of each class. Only the loop touches it.
type members struct {
	refs map[*world.Class]int
	left map[*world.Class]time.Time // since when a class has had none
}

func (m *members) drop(b *world.Builder, now time.Time) {
	for class, since := range m.left {
		if now.Sub(since) >= classIdle {
			m.forget(b, class)
		}
	}
}

func (m *members) forget(b *world.Builder, class *world.Class) {
	b.Drop(class.Key)
	delete(m.left, class)
	delete(m.refs, class)
}

// leave books that class has no stream. Where very many have none, the one that has had none for longest is forgotten: who comes as
// another caller each time must not fill the memory.
func (m *members) leave(b *world.Builder, class *world.Class, now time.Time) {
	m.left[class] = now
	if len(m.left) <= mostIdle {
		return
	}
	oldest := class
	for c, since := range m.left {
		if since.Before(m.left[oldest]) {
			oldest = c
		}
	}
	m.forget(b, oldest)
}

// Join is the class of key, built if it is new, and counts one more stream in it. It waits for the first world.
func (l *Loop) Join(ctx context.Context, key world.ClassKey) (*world.Class, error) {
	var class *world.Class
	err := l.do(ctx, func(b *world.Builder, m *members) {
		begun := time.Now()
		class = b.Join(key)
		if _, known := m.refs[class]; !known {
			l.observe(Built{Class: true, Elapsed: time.Since(begun)})
		}
		m.refs[class]++
		delete(m.left, class)
	})
	return class, err
}

// leaveTimeout is far more than a step of the loop takes; a class that is not counted down is merely kept.
const leaveTimeout = 10 * time.Second

// Leave takes back one Join.
func (l *Loop) Leave(class *world.Class) {
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	_ = l.do(ctx, func(b *world.Builder, m *members) {
		if m.refs[class]--; m.refs[class] <= 0 {
			m.leave(b, class, time.Now())
		}
	})
}

// Shaped are the classes in which an object of a kind has a part, and the resources that it shapes there: see world.Builder.Shaped.
func (l *Loop) Shaped(ctx context.Context, kind string, key manifest.Key) (map[*world.Class][]view.ID, error) {
	var shaped map[*world.Class][]view.ID
	err := l.do(ctx, func(b *world.Builder, _ *members) { shaped = b.Shaped(kind, key) })
	return shaped, err
}

// Shapers are the policies and guardrails that have a part in each resource of a class.
func (l *Loop) Shapers(ctx context.Context, class *world.Class) (map[view.ID][]manifest.Key, error) {
	var shapers map[view.ID][]manifest.Key
	err := l.do(ctx, func(b *world.Builder, _ *members) { shapers = b.Shapers(class) })
	return shapers, err
}
