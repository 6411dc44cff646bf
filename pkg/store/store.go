// Package store is the key-value seam: what Breakwater needs from a consistent store, the layout of its keys, and a follower
// that turns list and watch into an unbroken sequence of changes.
package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Errors that every store returns, wrapped with detail. Classify with errors.Is.
var (
	// ErrConflict: a condition of a Txn did not hold. Nothing was written.
	ErrConflict = errors.New("conflict")
	// ErrCompacted: the revision asked for is gone (or lies in the future, after a restore). List again.
	ErrCompacted = errors.New("revision compacted")
	// ErrUnavailable: the store can't be reached or has no quorum. A write may or may not have happened.
	ErrUnavailable = errors.New("store unavailable")
	// ErrTooLarge: the Txn is over the store's limit; the text names the limit. Nothing was sent.
	ErrTooLarge = errors.New("transaction too large")
)

// AlarmError is the answer of a store that refuses writes until an operator has seen to it. It is an ErrUnavailable too: a write may or may not
// have happened. Reads and watches go on.
type AlarmError struct {
	Alarm string // as the store calls it
	Err   error
}

// Error implements error.
func (e *AlarmError) Error() string {
	return fmt.Sprintf("the store refuses writes, its alarm %s is on: %v", e.Alarm, e.Err)
}

// Unwrap lets errors.Is find what it is.
func (e *AlarmError) Unwrap() []error { return []error{ErrUnavailable, e.Err} }

// LeaseID names a lease; 0 is none.
type LeaseID int64

// Entry is one key at one revision. Revision 0 means that the key does not exist.
type Entry struct {
	Key      string
	Value    []byte
	Revision int64 // mod revision
	Lease    LeaseID
}

// Snapshot is everything below a prefix at one revision.
type Snapshot struct {
	Revision int64  // of the store when the list was read
	Cluster  uint64 // identity of the store's cluster
	Entries  []Entry
}

// Head is how far a store is.
type Head struct {
	Revision int64
	Cluster  uint64 // identity of the store's cluster, as in Snapshot
}

// Event is a key that changed; Deleted says it is gone (Entry.Value is nil then).
type Event struct {
	Entry
	Deleted bool
}

// Batch is all the events of one or more whole transactions, in order, up to and including Revision. A batch without events is
// progress: nothing below the prefix changed up to Revision.
type Batch struct {
	Revision int64
	Cluster  uint64 // identity of the store's cluster, as in Snapshot
	Events   []Event
}

// Cond is a guard of a Txn: Key's mod revision is Revision (0: the key does not exist).
type Cond struct {
	Key      string
	Revision int64
}

// Op is one write of a Txn.
type Op struct {
	Key    string
	Value  []byte
	Delete bool
	Lease  LeaseID
}

// Txn is written whole or not at all.
type Txn struct {
	Conds []Cond
	Ops   []Op
}

// KV is a consistent key-value store. Every call respects its context's deadline and may return ErrUnavailable.
type KV interface {
	// Get reads one key, linearizably.
	Get(ctx context.Context, key string) (Entry, error)
	// List reads everything below prefix at one revision, linearizably, in key order.
	List(ctx context.Context, prefix string) (Snapshot, error)
	// ListAt is List of what there was at revision, which is not 0. ErrCompacted: that is not known any more, or lies in the future.
	ListAt(ctx context.Context, prefix string, revision int64) (Snapshot, error)
	// Head reads how far the store is, linearizably: it holds every write that was acked before the call. Watches that run soon say
	// that they have come so far.
	Head(ctx context.Context) (Head, error)
	// Commit writes a Txn and returns its revision.
	Commit(ctx context.Context, txn Txn) (int64, error)
	// Watch calls fn with every batch below prefix after revision (exclusive), in order, never with part of a transaction, until
	// ctx ends, fn returns an error, or the watch breaks. It always returns an error: ErrCompacted means list again,
	// anything else try again from the last batch seen. Progress comes at least every few seconds.
	Watch(ctx context.Context, prefix string, after int64, fn func(Batch) error) error
	// Grant makes a lease; keys put with it vanish when it is not renewed for ttl.
	Grant(ctx context.Context, ttl time.Duration) (LeaseID, error)
	// Renew extends a lease by its ttl; ErrConflict if it has expired.
	Renew(ctx context.Context, id LeaseID) error
	// Revoke ends a lease and deletes its keys.
	Revoke(ctx context.Context, id LeaseID) error
}
