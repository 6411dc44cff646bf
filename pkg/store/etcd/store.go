// Package etcd is the store kept in etcd: an external cluster by Open, an embedded server by Wrap.
package etcd

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/store"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	callTimeout = 2 * time.Second  // of a call whose context has no earlier deadline: a leader is elected within that, or there is no quorum
	pageTimeout = 10 * time.Second // of one List request, and of a compaction
	pageSize    = 500              // entries of one List request
	listTries   = 3                // before a List gives up against compactions
)

// Store is a store.KV over etcd. Make one with Open or Wrap. It is safe for concurrent use.
type Store struct {
	client  *clientv3.Client
	watcher clientv3.Watcher
	limits  store.Limits
	silence time.Duration // a watch that hears nothing for so long is broken
	watches atomic.Uint64 // made so far
	told    atomic.Int64  // the revision that a watch told last
	heads   heads
	pulse   *pulse // nil: of an embedded server
	token   *token // nil: without a user
}

var _ store.KV = (*Store)(nil)

// Wrap makes a Store over a client that the caller has and keeps. Limits must be those of the servers.
func Wrap(client *clientv3.Client, limits store.Limits) *Store {
	return &Store{client: client, watcher: watcher(client), limits: limits, silence: watchSilence}
}

// Close closes the client.
func (s *Store) Close() error {
	if s.pulse != nil {
		s.pulse.stop()
	}
	return s.client.Close()
}

// call gives a call its deadline. None is made for a context that has ended: an embedded server would answer it all the same.
func call(ctx context.Context) (context.Context, context.CancelFunc, error) {
	return callFor(ctx, callTimeout)
}

func callFor(ctx context.Context, most time.Duration) (context.Context, context.CancelFunc, error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, translate(ctx, err)
	}
	ctx, cancel := context.WithTimeout(ctx, most)
	return ctx, cancel, nil
}

// Get implements store.KV.
func (s *Store) Get(ctx context.Context, key string) (store.Entry, error) {
	ctx, cancel, err := call(ctx)
	if err != nil {
		return store.Entry{}, fmt.Errorf("get %s: %w", key, err)
	}
	defer cancel()
	resp, err := s.client.Get(clientv3.WithRequireLeader(ctx), key)
	if err != nil {
		return store.Entry{}, fmt.Errorf("get %s: %w", key, translate(ctx, err))
	}
	if len(resp.Kvs) == 0 {
		return store.Entry{Key: key}, nil
	}
	return entry(resp.Kvs[0]), nil
}

// List implements store.KV. It reads page by page at the revision of the first page.
func (s *Store) List(ctx context.Context, prefix string) (store.Snapshot, error) {
	for try := 1; ; try++ {
		snap, err := s.list(ctx, prefix, 0)
		if err == nil {
			return snap, nil
		}
		// Compacted between two pages: only a store that compacts without pause does that again and again.
		if !isCompacted(err) || try == listTries {
			return store.Snapshot{}, fmt.Errorf("list %s: %w", prefix, err)
		}
	}
}

// ListAt implements store.KV.
func (s *Store) ListAt(ctx context.Context, prefix string, revision int64) (store.Snapshot, error) {
	snap, err := s.list(ctx, prefix, revision)
	if err != nil {
		return store.Snapshot{}, fmt.Errorf("list %s at revision %d: %w", prefix, revision, err)
	}
	return snap, nil
}

// list reads at a revision; 0: at the present one.
func (s *Store) list(ctx context.Context, prefix string, at int64) (store.Snapshot, error) {
	snap := store.Snapshot{Revision: at}
	from, end := prefix, clientv3.GetPrefixRangeEnd(prefix)
	for {
		resp, err := s.page(ctx, from, end, snap.Revision)
		if err != nil {
			return store.Snapshot{}, err
		}
		if snap.Cluster == 0 {
			snap.Revision, snap.Cluster = cmp.Or(at, resp.Header.Revision), resp.Header.ClusterId
			snap.Entries = make([]store.Entry, 0, resp.Count)
		} else if resp.Header.ClusterId != snap.Cluster {
			return store.Snapshot{}, fmt.Errorf("%w: the store became another cluster between two pages", store.ErrCompacted)
		}
		for _, kv := range resp.Kvs {
			snap.Entries = append(snap.Entries, entry(kv))
		}
		if !resp.More {
			return snap, nil
		}
		from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
}

func (s *Store) page(ctx context.Context, from, end string, revision int64) (*clientv3.GetResponse, error) {
	ctx, cancel, err := callFor(ctx, pageTimeout)
	if err != nil {
		return nil, err
	}
	defer cancel()
	resp, err := s.client.Get(clientv3.WithRequireLeader(ctx), from, clientv3.WithRange(end), clientv3.WithLimit(pageSize), clientv3.WithRev(revision))
	if err != nil {
		return nil, translate(ctx, err)
	}
	return resp, nil
}

// Commit implements store.KV. An answer that is lost is ErrUnavailable: the Txn may have been written.
func (s *Store) Commit(ctx context.Context, txn store.Txn) (int64, error) {
	if err := s.limits.Check(txn); err != nil {
		return 0, err
	}
	ctx, cancel, err := call(ctx)
	if err != nil {
		return 0, fmt.Errorf("commit: %w", err)
	}
	defer cancel()
	var conds []clientv3.Cmp
	var why []clientv3.Op // what the conditions were about, in case one does not hold
	for _, c := range txn.Conds {
		conds = append(conds, clientv3.Compare(clientv3.ModRevision(c.Key), "=", c.Revision))
		why = append(why, clientv3.OpGet(c.Key, clientv3.WithKeysOnly()))
	}
	resp, err := s.client.Txn(ctx).If(conds...).Then(writes(txn.Ops)...).Else(why...).Commit()
	if err != nil {
		return 0, fmt.Errorf("commit: %w", translate(ctx, err))
	}
	if !resp.Succeeded {
		return 0, conflict(txn.Conds, resp)
	}
	return resp.Header.Revision, nil
}

func writes(ops []store.Op) []clientv3.Op {
	list := make([]clientv3.Op, len(ops))
	for i, op := range ops {
		switch {
		case op.Delete:
			list[i] = clientv3.OpDelete(op.Key)
		default:
			list[i] = clientv3.OpPut(op.Key, string(op.Value), clientv3.WithLease(clientv3.LeaseID(op.Lease)))
		}
	}
	return list
}

// conflict names the first condition that does not hold.
func conflict(conds []store.Cond, resp *clientv3.TxnResponse) error {
	for i, c := range conds {
		var revision int64
		if kvs := resp.Responses[i].GetResponseRange().Kvs; len(kvs) > 0 {
			revision = kvs[0].ModRevision
		}
		if revision != c.Revision {
			return fmt.Errorf("%w: %s is at revision %d, not %d", store.ErrConflict, c.Key, revision, c.Revision)
		}
	}
	return store.ErrConflict
}

// Grant implements store.KV. etcd counts whole seconds, at least one: ttl is rounded up.
func (s *Store) Grant(ctx context.Context, ttl time.Duration) (store.LeaseID, error) {
	ctx, cancel, err := call(ctx)
	if err != nil {
		return 0, fmt.Errorf("grant a lease: %w", err)
	}
	defer cancel()
	resp, err := s.client.Grant(ctx, max(1, int64(math.Ceil(ttl.Seconds()))))
	if err != nil {
		return 0, fmt.Errorf("grant a lease: %w", translate(ctx, err))
	}
	return store.LeaseID(resp.ID), nil
}

// Renew implements store.KV.
func (s *Store) Renew(ctx context.Context, id store.LeaseID) error {
	ctx, cancel, err := call(ctx)
	if err != nil {
		return fmt.Errorf("renew lease %d: %w", id, err)
	}
	defer cancel()
	if err := s.token.do(ctx, func() error {
		_, err := s.client.KeepAliveOnce(ctx, clientv3.LeaseID(id))
		return err
	}); err != nil {
		return fmt.Errorf("renew lease %d: %w", id, translate(ctx, err))
	}
	return nil
}

// Revoke implements store.KV. Revoking a lease that is gone is no error.
func (s *Store) Revoke(ctx context.Context, id store.LeaseID) error {
	ctx, cancel, err := call(ctx)
	if err != nil {
		return fmt.Errorf("revoke lease %d: %w", id, err)
	}
	defer cancel()
	if _, err := s.client.Revoke(ctx, clientv3.LeaseID(id)); err != nil && !isLeaseGone(err) {
		return fmt.Errorf("revoke lease %d: %w", id, translate(ctx, err))
	}
	return nil
}

// Compact makes the servers forget the changes before revision.
func (s *Store) Compact(ctx context.Context, revision int64) error {
	ctx, cancel, err := callFor(ctx, pageTimeout)
	if err != nil {
		return fmt.Errorf("compact to %d: %w", revision, err)
	}
	defer cancel()
	if _, err := s.client.Compact(ctx, revision); err != nil && !isCompacted(err) {
		return fmt.Errorf("compact to %d: %w", revision, translate(ctx, err))
	}
	return nil
}

// Endpoints are the addresses of the servers, for messages.
func (s *Store) Endpoints() []string { return slices.Clone(s.client.Endpoints()) }
