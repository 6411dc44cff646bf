package main

import (
	"context"
	"fmt"
	"time"
)

const (
	turnoverServices = 10    // few: what is asked is what a stream leaves behind, not what it was sent
	turnoverAtOnce   = 1_000 // clients of one swarm
)

// turned is what many streams, opened and closed, left behind in the server.
type turned struct {
	streams int
	took    time.Duration
	before  leftover // once as many as are open at once had been opened and closed
	after   leftover
}

// leftover is what a process holds without clients.
type leftover struct {
	inUse      uint64 // bytes of heap and stacks
	resident   int64  // bytes
	goroutines int
}

// measureTurnover opens and closes so many streams, each of a client that is configured, on a connection and under an id of its own.
func measureTurnover(ctx context.Context, s settings) (*turned, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*cellTime)
	defer cancel()
	m := mesh{services: turnoverServices, callerCount: s.callers}
	subject, err := openBreakwater(ctx, m)
	if err != nil {
		return nil, err
	}
	defer subject.close()
	t := &turned{streams: s.streams}
	if err := turn(ctx, subject, m, 0); err != nil { // pools and buffers have their size afterwards
		return nil, err
	}
	if t.before, err = subject.leftover(ctx); err != nil {
		return nil, err
	}
	begun := time.Now()
	for done := 0; done < s.streams; done += turnoverAtOnce {
		if err := turn(ctx, subject, m, turnoverAtOnce+done); err != nil {
			return nil, fmt.Errorf("after %d streams: %w", done, err)
		}
	}
	t.took = time.Since(begun)
	t.after, err = subject.leftover(ctx)
	return t, err
}

// turn connects clients whose ids begin at that number, and closes their connections once all are configured.
func turn(ctx context.Context, s *subject, m mesh, first int) error {
	sw := newSwarm(dialects["delta"], s.address, m)
	sw.first, sw.reset = first, true
	_, err := sw.grow(ctx, turnoverAtOnce)
	if closed := sw.close(); err == nil {
		err = closed
	}
	return err
}

// leftover waits until the server has seen the end of all streams.
func (s *subject) leftover(ctx context.Context) (l leftover, err error) {
	for last := -1; ; {
		m, err := metrics(ctx, s.admin, "go_goroutines")
		if err != nil {
			return l, err
		}
		if l.goroutines = int(m[0]); l.goroutines == last {
			break
		}
		last = l.goroutines
		wait(ctx, time.Second)
	}
	if l.inUse, err = s.used(); err != nil {
		return l, err
	}
	l.resident, err = (&trial{subject: s}).settled(ctx)
	return l, err
}
