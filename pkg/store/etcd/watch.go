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
	foldAtMost    = 256                    // responses in one batch
)

var errSilent = errors.New("the watch heard nothing from etcd")

// Watch implements store.KV.
func (s *Store) Watch(ctx context.Context, prefix string, after int64, fn func(store.Batch) error) error {
	if err := s.watch(ctx, prefix, after, fn); err != nil {
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
	watchdog := time.AfterFunc(s.silence, func() { cancel(fmt.Errorf("%w for %v", errSilent, s.silence)) })
	defer watchdog.Stop()

	ctx = s.ownStream(clientv3.WithRequireLeader(ctx))
	// From after and not from the next revision: etcd reports no progress to a watch that begins in the future, which in a quiet
	// store it would. The fold leaves the event out.
	responses := s.client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(max(after, 1)), clientv3.WithFragment(), clientv3.WithCreatedNotify())
	// Progress is asked for with the watch's own context, which names its stream. A failure to ask shows as silence.
	ask := time.NewTimer(progressFirst)
	defer ask.Stop()
	f := fold{begin: after, revision: after}
	for {
		select {
		case resp, ok := <-responses:
			batch, end := f.take(ctx, resp, ok, responses)
			if end == nil && f.behind {
				end = s.checkBehind(ctx, prefix, f.revision)
			}
			if f.news {
				watchdog.Stop() // fn may take its time
				f.revision = batch.Revision
				if err := fn(batch); err != nil {
					return &fnError{err}
				}
				watchdog.Reset(s.silence)
			}
			if end != nil {
				return end
			}
		case <-ask.C:
			ask.Reset(progressEvery)
			_ = s.client.RequestProgress(ctx)
		case <-ctx.Done():
			return ended(ctx)
		}
	}
}

// checkBehind finds out why a watch speaks of a revision below one that was seen: its member may lag behind, which passes, or
// the whole store went back, which is ErrCompacted.
func (s *Store) checkBehind(ctx context.Context, key string, seen int64) error {
	ctx, cancel := call(ctx)
	defer cancel()
	resp, err := s.client.Get(ctx, key, clientv3.WithKeysOnly())
	if err != nil {
		return translate(ctx, err)
	}
	if resp.Header.Revision < seen {
		return fmt.Errorf("%w: the store is at revision %d, behind %d", store.ErrCompacted, resp.Header.Revision, seen)
	}
	return nil
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
		return fmt.Errorf("%w: another cluster answers (%x, before %x)", store.ErrCompacted, resp.Header.ClusterId, f.cluster)
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
