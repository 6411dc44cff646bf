package etcd

import (
	"context"
	"errors"
	"fmt"

	"github.com/breakwater-mesh/breakwater/pkg/store"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func entry(kv *mvccpb.KeyValue) store.Entry {
	return store.Entry{Key: string(kv.Key), Value: kv.Value, Revision: kv.ModRevision, Lease: store.LeaseID(kv.Lease)}
}

func isCompacted(err error) bool {
	return errors.Is(err, store.ErrCompacted) || errors.Is(err, rpctypes.ErrCompacted)
}

func isLeaseGone(err error) bool { return errors.Is(err, rpctypes.ErrLeaseNotFound) }

// translate turns an error of etcd's client into one of the store's, etcd's own text kept. What says for certain that nothing
// was done (a wrong password, a missing permission) stays a plain error; whatever leaves that open is ErrUnavailable.
func translate(ctx context.Context, err error) error {
	if cause := ctx.Err(); cause != nil {
		if errors.Is(err, cause) {
			return fmt.Errorf("%w: %w", store.ErrUnavailable, cause)
		}
		return fmt.Errorf("%w: %w: %v", store.ErrUnavailable, cause, err)
	}
	switch {
	case errors.Is(err, rpctypes.ErrCompacted), errors.Is(err, rpctypes.ErrFutureRev):
		return fmt.Errorf("%w: %w", store.ErrCompacted, err)
	case isLeaseGone(err):
		return fmt.Errorf("%w: the lease has expired", store.ErrConflict)
	case errors.Is(err, rpctypes.ErrTooManyOps), errors.Is(err, rpctypes.ErrRequestTooLarge):
		return fmt.Errorf("%w: etcd itself refuses it: %w", store.ErrTooLarge, err)
	case errors.Is(err, rpctypes.ErrNoSpace):
		return &store.AlarmError{Alarm: "NOSPACE", Err: err}
	case errors.Is(err, rpctypes.ErrCorrupt):
		return &store.AlarmError{Alarm: "CORRUPT", Err: err}
	}
	switch code(err) {
	case codes.InvalidArgument, codes.PermissionDenied, codes.Unauthenticated, codes.FailedPrecondition, codes.NotFound, codes.Unimplemented:
		return err
	}
	return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
}

func code(err error) codes.Code {
	if etcdErr, ok := errors.AsType[rpctypes.EtcdError](err); ok {
		return etcdErr.Code()
	}
	return status.Code(err)
}
