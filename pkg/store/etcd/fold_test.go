package etcd

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/store"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const cluster = 7

// response is what etcd sends at a head with events of these revisions.
func response(head int64, revisions ...int64) clientv3.WatchResponse {
	resp := clientv3.WatchResponse{Header: &etcdserverpb.ResponseHeader{ClusterId: cluster, Revision: head}}
	for _, r := range revisions {
		resp.Events = append(resp.Events, &clientv3.Event{Type: clientv3.EventTypePut, Kv: &mvccpb.KeyValue{Key: []byte("/k"), ModRevision: r}})
	}
	return resp
}

func with(resp clientv3.WatchResponse, change func(*clientv3.WatchResponse)) clientv3.WatchResponse {
	change(&resp)
	return resp
}

func TestFold(t *testing.T) {
	created := func(r *clientv3.WatchResponse) { r.Created = true }
	for _, test := range []struct {
		name         string
		in           []clientv3.WatchResponse
		want         []int64 // revisions of the events
		revision     int64
		news, behind bool
		err          error
	}{
		{name: "a transaction", in: []clientv3.WatchResponse{response(11, 11, 11)}, want: []int64{11, 11}, revision: 11, news: true},
		{name: "what waits behind is taken along", in: []clientv3.WatchResponse{response(11, 11), response(13, 12, 13)}, want: []int64{11, 12, 13}, revision: 13, news: true},
		{name: "the head of a watch that catches up is not what it has seen", in: []clientv3.WatchResponse{response(5000, 11, 12)}, want: []int64{11, 12}, revision: 12, news: true},
		{name: "the event it began with is left out", in: []clientv3.WatchResponse{response(11, 10, 11)}, want: []int64{11}, revision: 11, news: true},
		{name: "that event alone is no news", in: []clientv3.WatchResponse{response(10, 10)}, revision: 10},
		{name: "progress", in: []clientv3.WatchResponse{response(40)}, revision: 40, news: true},
		{name: "progress behind events", in: []clientv3.WatchResponse{response(12, 12), response(40)}, want: []int64{12}, revision: 40, news: true},
		{name: "creation says nothing of what came before", in: []clientv3.WatchResponse{with(response(40), created)}, revision: 10},
		{name: "creation at a member that is behind", in: []clientv3.WatchResponse{with(response(9), created)}, revision: 10, behind: true},
		{name: "progress of a member that is behind", in: []clientv3.WatchResponse{response(9)}, revision: 10, behind: true},
		{name: "a transaction in two responses", in: []clientv3.WatchResponse{response(11, 11), response(11, 11)}, want: []int64{11}, revision: 11, news: true, err: store.ErrCompacted},
		{name: "another cluster", in: []clientv3.WatchResponse{response(11, 11), with(response(12, 12), func(r *clientv3.WatchResponse) { r.Header.ClusterId = 8 })}, want: []int64{11}, revision: 11, news: true, err: store.ErrCompacted},
		{name: "compacted behind events", in: []clientv3.WatchResponse{response(11, 11), with(response(20), func(r *clientv3.WatchResponse) { r.Canceled, r.CompactRevision = true, 15 })}, want: []int64{11}, revision: 11, news: true, err: store.ErrCompacted},
		{name: "no leader", in: []clientv3.WatchResponse{with(response(11), func(r *clientv3.WatchResponse) { r.Canceled, r.CancelReason = true, "etcdserver: no leader" })}, revision: 10, err: store.ErrUnavailable},
	} {
		t.Run(test.name, func(t *testing.T) {
			waiting := make(chan clientv3.WatchResponse, len(test.in))
			for _, resp := range test.in[1:] {
				waiting <- resp
			}
			f := fold{begin: 10, revision: 10}
			batch, err := f.take(context.Background(), test.in[0], true, waiting)
			var got []int64
			for _, ev := range batch.Events {
				got = append(got, ev.Revision)
			}
			if !slices.Equal(got, test.want) || batch.Revision != test.revision {
				t.Errorf("got events %v up to %d, want %v up to %d", got, batch.Revision, test.want, test.revision)
			}
			if f.news != test.news || f.behind != test.behind {
				t.Errorf("news %v, behind %v, want %v, %v", f.news, f.behind, test.news, test.behind)
			}
			if !errors.Is(err, test.err) {
				t.Errorf("error %v, want %v", err, test.err)
			}
		})
	}
}

func TestFoldOfAWatchThatItsClientEnded(t *testing.T) {
	f := fold{begin: 10, revision: 10}
	if _, err := f.take(context.Background(), clientv3.WatchResponse{}, false, nil); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
}
