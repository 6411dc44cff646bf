package store_test

import (
	"context"
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/store"
	"github.com/breakwater-mesh/breakwater/pkg/store/storetest"
)

func TestMemoryContract(t *testing.T) {
	limits := store.Limits{MaxOps: 128, MaxBytes: 3 << 19, OpsFlag: "--etcd-max-txn-ops"}
	storetest.Run(t, storetest.Options{Bubble: true}, func(t *testing.T) storetest.Fixture {
		m := store.NewMemory(limits)
		return storetest.Fixture{
			KV:      m,
			Limits:  limits,
			Compact: func(_ context.Context, revision int64) error { m.Compact(revision); return nil },
		}
	})
}
