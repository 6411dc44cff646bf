// Package names keeps the addresses of the names that hosts of clusters are found by, asking for them again as the clusters say.
package names

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// Found is an answer. No addresses is an answer too: the name has none.
type Found struct {
	Addresses []netip.Addr
	TTL       time.Duration // the shortest of the records; 0: not known
}

// Ask asks for the addresses of a name once. An error means that nobody could say. It returns soon after ctx ends.
type Ask func(ctx context.Context, l dataplane.Lookup) (Found, error)

// Options are what a Keeper is made of.
type Options struct {
	Ask     Ask
	Changed func()          // the answers are others than before; called from many goroutines
	Rand    resilience.Rand // uniformly distributed random bits
}

// Keeper asks for names, each in a goroutine of its own. All methods may be called from many goroutines.
type Keeper struct {
	options Options
	running sync.WaitGroup

	mu      sync.Mutex
	asked   map[dataplane.Name]*asking
	answers *dataplane.Answers
	closed  bool
}

// asking is a name that is asked for.
type asking struct {
	lookup dataplane.Lookup
	cancel context.CancelFunc
	counts counts
}

// counts are how often a name was asked for, and what came of it.
type counts struct{ attempt, success, failure, unchanged int64 }

// New is a Keeper of no names. Its owner calls Close.
func New(options Options) *Keeper {
	return &Keeper{options: options, asked: map[dataplane.Name]*asking{}}
}

// Answers are what is known of all names. The result is never changed.
func (k *Keeper) Answers() *dataplane.Answers {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.answers
}

// Stats yields, by Envoy's names, how often each name was asked for since it is, and what came of it. Several of one cluster go by one name.
func (k *Keeper) Stats(add func(name string, value int64)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for name, a := range k.asked {
		prefix := "cluster." + name.Cluster + ".update_"
		add(prefix+"attempt", a.counts.attempt)
		add(prefix+"success", a.counts.success)
		add(prefix+"failure", a.counts.failure)
		add(prefix+"no_rebuild", a.counts.unchanged)
	}
}

// Want makes list the names that are asked for. One that is asked for otherwise than before is asked for at once; until then what is known
// of it stays.
func (k *Keeper) Want(list []dataplane.Lookup) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return
	}
	wanted := make(map[dataplane.Name]bool, len(list))
	for _, l := range list {
		wanted[l.Name] = true
		if known := k.asked[l.Name]; known == nil || known.lookup != l {
			k.begin(l, known)
		}
	}
	gone := false
	for name, a := range k.asked {
		if !wanted[name] {
			a.cancel()
			delete(k.asked, name)
			gone = true
		}
	}
	if gone {
		k.answers = k.answers.Without(func(name dataplane.Name) bool { return wanted[name] })
	}
}

// begin asks for a name from now on, in place of before. mu is held.
func (k *Keeper) begin(l dataplane.Lookup, before *asking) {
	ctx, cancel := context.WithCancel(context.Background())
	a := &asking{lookup: l, cancel: cancel}
	if before != nil {
		before.cancel()
		a.counts = before.counts
	}
	k.asked[l.Name] = a
	k.running.Go(func() { k.ask(ctx, a) })
}

// Close ends all asking.
func (k *Keeper) Close() {
	k.mu.Lock()
	k.closed = true
	for _, a := range k.asked {
		a.cancel()
	}
	k.mu.Unlock()
	k.running.Wait()
}

// ask asks again and again until ctx ends.
func (k *Keeper) ask(ctx context.Context, a *asking) {
	failures := uint32(0)
	for {
		found, err := k.options.Ask(ctx, a.lookup)
		if ctx.Err() != nil {
			return
		}
		failed := err != nil || len(found.Addresses) == 0 && a.lookup.Logical
		if failures++; !failed {
			failures = 0
		}
		if k.heard(ctx, a, found, failed) {
			k.options.Changed()
		}
		if !pause(ctx, wait(a.lookup, found.TTL, failures, k.options.Rand)) {
			return
		}
	}
}

// heard books an answer, and reports whether it is news. Of a name that nobody can say anything of, what was known stays; that there is
// none is said of one that was not known.
func (k *Keeper) heard(ctx context.Context, a *asking, found Found, failed bool) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if ctx.Err() != nil {
		return false
	}
	before, known := k.answers.Of(a.lookup.Name)
	same := known && slices.Equal(before, found.Addresses)
	a.counts.attempt++
	switch {
	case failed:
		a.counts.failure++
	case same:
		a.counts.unchanged++
		fallthrough
	default:
		a.counts.success++
	}
	if known && failed || same {
		return false
	}
	if failed {
		found.Addresses = nil
	}
	k.answers = k.answers.With(a.lookup.Name, found.Addresses)
	return true
}

// wait is how long after an answer, or after so many failures in a row, the name is asked for again.
func wait(l dataplane.Lookup, ttl time.Duration, failures uint32, rnd resilience.Rand) time.Duration {
	if failures > 0 {
		if l.AgainBase == 0 {
			return l.Refresh
		}
		return resilience.BackOff{Base: l.AgainBase, Max: l.AgainMax}.Wait(failures, rnd)
	}
	d := l.Refresh
	if l.RespectTTL && ttl > 0 {
		d = ttl
	}
	if l.Jitter > 0 {
		d += time.Duration(rnd() % uint64(l.Jitter))
	}
	return d
}

// pause reports whether ctx lasted that long.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
