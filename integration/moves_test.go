package integration_test

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"
)

// TestServiceMovesLoseNoRequest moves what gets the calls of a host, again and again, while 200 requests a second go through one Envoy,
// and kills the control plane in the middle of a move: what takes over is there before what was in use goes. No request may be lost.
// BREAKWATER_SEED repeats a run, as far as moves go; BREAKWATER_LONG=1 makes 1,000 of them with five kills.
func TestServiceMovesLoseNoRequest(t *testing.T) {
	t.Parallel()
	moves, kills := 50, 1
	if os.Getenv("BREAKWATER_LONG") == "1" {
		moves, kills = 1000, 5
	}
	if n, err := strconv.Atoi(os.Getenv("BREAKWATER_MOVES")); err == nil {
		moves = n
	}
	e := newEditor(t)
	stop := e.load(200)
	for step := 1; step <= moves && !t.Failed(); step++ {
		e.move()
		if step%(moves/(kills+1)) == 0 && step < moves {
			e.restart() // the move is written, and its delivery under way
		}
		if e.rng.IntN(3) > 0 { // some moves meet the one before under way, some do not
			time.Sleep(time.Duration(e.rng.Int64N(int64(60 * time.Millisecond))))
		}
	}
	e.finish()
	stop()
	e.judge()
}

// move is one random move: of a host to another service, of a service's calls to another one, of a service to other endpoints.
func (e *editor) move() {
	e.retire()
	switch n := e.rng.IntN(10); {
	case n < 4:
		e.moveAlias()
	case n < 7:
		e.moveBackend()
	default:
		e.moveEndpoints()
	}
}

// moveBackend leads the calls of a service to another one, at times one that comes into being with it, or back to itself; the service that
// had them goes at times, if nothing else needs it.
func (e *editor) moveBackend() {
	name := e.some(permanent)
	next := e.town.clone()
	s := next.services[name]
	from, to := s.backend, ""
	switch absent := e.absent(); {
	case len(absent) > 0 && e.rng.IntN(2) == 0:
		to = e.some(absent)
	case e.rng.IntN(3) > 0:
		to = e.some(append(slices.Clone(permanent), passing...))
	}
	if to == name || to == from {
		return
	}
	put := []string{name}
	if _, exists := next.services[to]; to != "" && !exists {
		next.services[to] = e.fresh(1 + e.rng.IntN(2))
		put = append(put, to)
	}
	s.backend = to
	next.services[name] = s
	var gone []string
	if _, exists := next.services[from]; exists && slices.Contains(passing, from) && e.rng.IntN(4) > 0 && !slices.Contains(slices.Collect(maps.Values(next.owner)), from) {
		gone = []string{from}
		delete(next.services, from)
	}
	e.change(fmt.Sprintf("backend: of %s from %q to %q, deleted %v", name, from, to, gone), next, e.writes(next, put, gone...))
}

// moveEndpoints gives a service other endpoints in the place of all that are in its manifest.
func (e *editor) moveEndpoints() {
	name := e.existing()
	next := e.town.clone()
	s := next.services[name]
	for _, address := range s.static {
		e.spare[address] = e.hostOf[address]
	}
	fresh := e.fresh(1 + e.rng.IntN(3))
	s.static = fresh.static
	next.services[name] = s
	e.change(fmt.Sprintf("endpoints: of %s", name), next, e.writes(next, []string{name}))
}
