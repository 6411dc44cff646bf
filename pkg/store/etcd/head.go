package etcd

import (
	"context"
	"fmt"
	"sync"

	"github.com/breakwater-mesh/breakwater/pkg/store"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// heads is what the last Head found, for the watches. The zero value has found nothing.
type heads struct {
	mu    sync.Mutex
	last  store.Head
	back  bool          // the store was behind what a watch had told before it was asked
	found chan struct{} // closed and replaced by put; nil: nobody waits
}

func (h *heads) put(last store.Head, back bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last, h.back = last, back
	if h.found != nil {
		close(h.found)
		h.found = nil
	}
}

// next is what was found last, and a channel that is closed when something is found again.
func (h *heads) next() (last store.Head, back bool, found <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.found == nil {
		h.found = make(chan struct{})
	}
	return h.last, h.back, h.found
}

// Head implements store.KV. It reads a key that does not exist: the header of the answer says it all.
func (s *Store) Head(ctx context.Context) (store.Head, error) {
	ctx, cancel, err := call(ctx)
	if err != nil {
		return store.Head{}, fmt.Errorf("read how far the store is: %w", err)
	}
	defer cancel()
	told := s.told.Load()
	resp, err := s.client.Get(clientv3.WithRequireLeader(ctx), store.ConfigPrefix, clientv3.WithCountOnly())
	if err != nil {
		return store.Head{}, fmt.Errorf("read how far the store is: %w", translate(ctx, err))
	}
	head := store.Head{Revision: resp.Header.Revision, Cluster: resp.Header.ClusterId}
	s.heads.put(head, head.Revision < told)
	return head, nil
}
