package etcd

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// watcher makes the watches of client. Those over connections end with their streams. As etcd's client has it, a watch whose connection breaks
// goes on over another one, from the next revision, and says nothing of it: not even if the store was restored meanwhile and the revision
// is another history's.
func watcher(client *clientv3.Client) clientv3.Watcher {
	conn := client.ActiveConnection()
	if conn == nil {
		return client // of an embedded server
	}
	return clientv3.NewWatchFromWatchClient(mortal{pb.NewWatchClient(conn)}, client)
}

// mortal makes streams that etcd's client does not replace.
type mortal struct{ pb.WatchClient }

// Watch implements pb.WatchClient.
func (m mortal) Watch(ctx context.Context, opts ...grpc.CallOption) (pb.Watch_WatchClient, error) {
	stream, err := m.WatchClient.Watch(ctx, opts...)
	if err != nil {
		return nil, err
	}
	return mortalStream{stream}, nil
}

type mortalStream struct{ pb.Watch_WatchClient }

// Recv implements pb.Watch_WatchClient.
func (s mortalStream) Recv() (*pb.WatchResponse, error) {
	resp, err := s.Watch_WatchClient.Recv()
	switch status.Code(err) {
	case codes.Unavailable, codes.Internal: // the codes after which etcd's client tries again
		err = status.Error(codes.Aborted, "the watch's connection broke: "+err.Error())
	}
	return resp, err
}
