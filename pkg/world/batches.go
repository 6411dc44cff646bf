package world

import (
	"math/big"
	"slices"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// Bounds of the log of batches. Wide batches make it shorter, so that it stays below some 8 MiB.
const (
	maxBatches = 1024
	maxTouched = 256 << 10 // names, of all batches together
)

// Batch is what one step of the world did to the classes that there were: the revisions From to To came with it. It is immutable once
// it is in a Log.
type Batch struct {
	From, To int64
	names    map[view.ID]struct{} // that came, went or changed, in any class
	classes  big.Int              // bit of each class of which something changed

	steps map[[2]*view.View]struct{} // whose names are noted; nil once it is in a Log
}

// Touched reports whether the batch changed anything of a class that was there.
func (b *Batch) Touched(c *Class) bool { return b.classes.Bit(c.seat) == 1 }

// Names are the names that the batch changed in any class, by type and name.
func (b *Batch) Names() []view.ID {
	list := make([]view.ID, 0, len(b.names))
	for id := range b.names {
		list = append(list, id)
	}
	slices.SortFunc(list, view.ID.Compare)
	return list
}

// note books what became of one class.
func (b *Batch) note(c *Class, before, now *Head) {
	if b == nil {
		return
	}
	b.classes.SetBit(&b.classes, c.seat, 1)
	for t := range now.Views {
		step := [2]*view.View{before.Views[t], now.Views[t]}
		if step[0] == step[1] {
			continue
		}
		if _, noted := b.steps[step]; noted {
			continue
		}
		b.steps[step] = struct{}{}
		view.Diff(before.Views[t], now.Views[t], func(old, r *view.Resource) {
			if r == nil {
				r = old
			}
			b.names[r.ID()] = struct{}{}
		})
	}
}

// Log is the last batches, the oldest first. It is immutable: With makes the next one. The zero Log is empty.
type Log struct {
	batches []*Batch
	touched int // names
}

// With is l and one more batch. Of what is too much the oldest goes.
func (l Log) With(b *Batch) Log {
	l.batches = append(l.batches, b) // what others hold of the array is never written again
	l.touched += len(b.names)
	for len(l.batches) > maxBatches || len(l.batches) > 1 && l.touched > maxTouched {
		l.touched -= len(l.batches[0].names)
		l.batches = l.batches[1:]
	}
	return l
}

// At is the batch with which a revision came. Nil: the log does not reach back so far, or not as far ahead.
func (l Log) At(rev int64) *Batch {
	i, _ := slices.BinarySearchFunc(l.batches, rev, func(b *Batch, rev int64) int { return int(b.To - rev) })
	if i == len(l.batches) || l.batches[i].From > rev {
		return nil
	}
	return l.batches[i]
}

// Since reports whether a batch later than that of rev touched id.
func (l Log) Since(rev int64, id view.ID) bool {
	for i := len(l.batches) - 1; i >= 0 && l.batches[i].From > rev; i-- {
		if _, touched := l.batches[i].names[id]; touched {
			return true
		}
	}
	return false
}

// Log is what the last steps touched. Its newest batch is that of the present world.
func (b *Builder) Log() Log { return b.log }

// open begins the batch of a step to next, unless no revision comes with it: signs of life have none, and the first world has nothing
// before it. Where the store is another one, or went back, the log begins anew.
func (b *Builder) open(next *World) {
	switch {
	case next.Rev < b.world.Rev || next.Cluster != b.world.Cluster:
		b.log = Log{}
	case next.Rev > b.world.Rev && b.world.Rev > 0:
		b.batch = &Batch{From: b.world.Rev + 1, To: next.Rev, names: map[view.ID]struct{}{}, steps: b.noted}
	}
}

func (b *Builder) close() {
	if b.batch != nil {
		b.batch.steps = nil
		clear(b.noted)
		b.log, b.batch = b.log.With(b.batch), nil
	}
}

// seat takes the first seat that is free.
func (b *Builder) seat() int {
	i := slices.Index(b.seats, false)
	if i < 0 {
		i, b.seats = len(b.seats), append(b.seats, false)
	}
	b.seats[i] = true
	return i
}
