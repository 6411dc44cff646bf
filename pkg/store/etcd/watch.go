package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/store"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"
)

const (
	watchSilence  = 10 * time.Second
	progressEvery = time.Second
	progressFirst = 200 * time.Millisecond // etcd lets a new watch catch up every 100 ms
	progressQuick = 10 * time.Millisecond  // doubles up to progressEvery: the store is known to be ahead
	probeAfter    = 3                      // questions for progress without news
	probeTimeout  = time.Second
	foldAtMost    = 256 // responses in one batch
)

var errSilent = errors.New("the watch heard nothing from etcd")

// Watch implements store.KV.
func (s *Store) Watch(ctx context.Context, prefix string, after int64, fn func(store.Batch) error) error {
	err := s.token.do(ctx, func() error {
		if err := s.token.fresh(ctx); err != nil { // what was before may have been another store
			return err
		}
		return s.watch(ctx, prefix, after, func(b store.Batch) error {
			after = b.Revision
			return fn(b)
		})
	})
	if err != nil {
		if own, ok := errors.AsType[*fnError](err); ok {
			return own.error
		}
		return fmt.Errorf("watch %s: %w", prefix, err)
	}
	return nil
}

// fnError is an error of the caller's function, which goes back to it as it is.
type fnError struct{ error }

func (s *Store) watch(parent context.Context, prefix string, after int64, fn func(store.Batch) error) error {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	// The watchdog guards also the making of the watch, for which etcd's client waits without end.
	w := &watch{store: s, prefix: prefix, fn: fn, fold: fold{begin: after, revision: after}}
	w.watchdog = time.AfterFunc(s.silence, func() {
		cancel(fmt.Errorf("%w for %v", errSilent, s.silence))
		s.pulse.cutAll()
	})
	defer w.watchdog.Stop()

	ctx = s.ownStream(clientv3.WithRequireLeader(ctx))
	// From after and not from the next revision: etcd reports no progress to a watch that begins in the future, which in a quiet
	// store it would. The fold leaves the event out.
	responses := s.watcher.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(max(after, 1)), clientv3.WithFragment(), clientv3.WithCreatedNotify())
	ask, pace := time.NewTimer(progressFirst), progressEvery
	defer ask.Stop()
	_, _, found := s.heads.next()
	for {
		var err error
		select {
		case resp, ok := <-responses:
			err = w.take(ctx, resp, ok, responses)
		case <-ask.C:
			ask.Reset(pace)
			err = w.ask(ctx, pace == progressEvery)
			pace = min(2*pace, progressEvery)
		case <-found:
			var head store.Head
			var back bool
			head, back, found = s.heads.next()
			if w.fold.cluster != 0 && (back || head.Cluster != w.fold.cluster) {
				err = w.probe(ctx)
			} else if head.Revision > w.fold.revision && pace == progressEvery {
				pace = progressQuick
				ask.Reset(0)
			}
		case <-ctx.Done():
			err = ended(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// watch is one running watch; only its caller's goroutine touches it.
type watch struct {
	store    *Store
	prefix   string
	fn       func(store.Batch) error
	watchdog *time.Timer
	fold     fold
	unheard  int // times progress was asked for since there were news
}

// take passes on a response and those that wait behind it.
func (w *watch) take(ctx context.Context, resp clientv3.WatchResponse, ok bool, more <-chan clientv3.WatchResponse) error {
	batch, end := w.fold.take(ctx, resp, ok, more)
	if w.fold.news {
		if err := w.tell(batch); err != nil {
			return err
		}
	}
	if end == nil && w.fold.behind {
		return w.probe(ctx)
	}
	return end
}

func (w *watch) tell(batch store.Batch) error {
	w.watchdog.Stop() // fn may take its time
	w.unheard, w.fold.revision = 0, batch.Revision
	w.store.told.Store(batch.Revision)
	if err := w.fn(batch); err != nil {
		return &fnError{err}
	}
	w.watchdog.Reset(w.store.silence)
	return nil
}

// ask asks for progress with the watch's own context, which names its stream. A failure to ask shows as silence, which counts
// between questions that are not too close to each other.
func (w *watch) ask(ctx context.Context, counts bool) error {
	_ = w.store.watcher.RequestProgress(ctx)
	if !counts {
		return nil
	}
	if w.unheard++; w.unheard < probeAfter || w.fold.cluster == 0 {
		return nil
	}
	return w.probe(ctx)
}

// probe finds out why a watch hears nothing, or of a revision below one that was seen. The member lags behind the others, which passes:
// meanwhile a read may say that nothing has changed. Or the store itself went back, or is another one: ErrCompacted.
func (w *watch) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	resp, err := w.store.client.Get(ctx, w.prefix, clientv3.WithKeysOnly())
	if err != nil {
		return nil // the watchdog's business
	}
	switch head, seen := resp.Header, w.fold.revision; {
	case head.ClusterId != w.fold.cluster:
		return otherCluster(head.ClusterId, w.fold.cluster)
	case head.Revision < seen:
		return fmt.Errorf("%w: the store is at revision %d, behind %d", store.ErrCompacted, head.Revision, seen)
	case head.Revision == seen:
		return w.tell(store.Batch{Revision: seen, Cluster: w.fold.cluster})
	}
	return nil
}

func otherCluster(now, before uint64) error {
	return fmt.Errorf("%w: another cluster answers (%x, before %x)", store.ErrCompacted, now, before)
}

// ownStream marks a context so that etcd's client opens a stream for this watch alone: progress is only reported when all
// watches of a stream have caught up.
func (s *Store) ownStream(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "breakwater-watch", strconv.FormatUint(s.watches.Add(1), 10))
}

// ended says why a watch's context is over.
func ended(ctx context.Context) error {
	cause := context.Cause(ctx)
	if errors.Is(cause, errSilent) {
		return fmt.Errorf("%w: %w", store.ErrUnavailable, cause)
	}
	return cause
}

// fold turns the responses of one watch into batches.
type fold struct {
	begin    int64 // the watch is after this revision
	revision int64 // delivered up to here
	cluster  uint64

	// About the last batch:
	behind bool // etcd spoke of a revision before those delivered
	news   bool // there are events, or nothing changed up to the batch's revision for certain
}

// take makes a batch of a response and of those that wait behind it. A non-nil error ends the watch after the batch.
func (f *fold) take(ctx context.Context, resp clientv3.WatchResponse, ok bool, more <-chan clientv3.WatchResponse) (store.Batch, error) {
	f.behind, f.news = false, false
	batch := store.Batch{Revision: f.revision}
	if err := f.add(ctx, &batch, resp, ok); err != nil {
		return batch, err
	}
	for range foldAtMost {
		select {
		case resp, ok := <-more:
			if err := f.add(ctx, &batch, resp, ok); err != nil {
				return batch, err
			}
		default:
			return batch, nil
		}
	}
	return batch, nil
}

// add appends a response to batch. etcd never divides a transaction between responses, except by fragments, which its client
// joins again; should it do so nevertheless, the watch ends as if the revision were compacted, and a list puts it right.
func (f *fold) add(ctx context.Context, batch *store.Batch, resp clientv3.WatchResponse, ok bool) error {
	if !ok {
		if ctx.Err() != nil {
			return ended(ctx)
		}
		return fmt.Errorf("%w: etcd's client ended the watch", store.ErrUnavailable)
	}
	if err := resp.Err(); err != nil {
		return translate(ctx, err)
	}
	if f.cluster == 0 {
		f.cluster = resp.Header.ClusterId
	}
	if f.cluster != resp.Header.ClusterId {
		return otherCluster(resp.Header.ClusterId, f.cluster)
	}
	events := slices.DeleteFunc(resp.Events, func(ev *clientv3.Event) bool { return ev.Kv.ModRevision <= f.begin })
	for i, ev := range events {
		if i == 0 && ev.Kv.ModRevision <= batch.Revision {
			return fmt.Errorf("%w: events of revision %d after those up to %d", store.ErrCompacted, ev.Kv.ModRevision, batch.Revision)
		}
		batch.Events = append(batch.Events, event(ev))
	}
	batch.Cluster = f.cluster
	head := resp.Header.Revision
	switch n := len(events); {
	case n > 0:
		// Not the header's: to a watch that catches up, etcd sends its head with events from long before.
		batch.Revision, f.news = events[n-1].Kv.ModRevision, true
	case head < batch.Revision:
		f.behind = true
	case resp.IsProgressNotify(): // the answer to the creation says nothing of the kind
		batch.Revision, f.news = head, true
	}
	return nil
}

func event(ev *clientv3.Event) store.Event {
	if ev.Type == clientv3.EventTypeDelete {
		return store.Event{Entry: store.Entry{Key: string(ev.Kv.Key), Revision: ev.Kv.ModRevision}, Deleted: true}
	}
	return store.Event{Entry: entry(ev.Kv)}
}
