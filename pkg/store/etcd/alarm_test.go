package etcd_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/internal/testkit/etcdcluster"
	"github.com/breakwater-mesh/breakwater/pkg/store"
	"github.com/breakwater-mesh/breakwater/pkg/store/storetest"
)

// TestNoSpace fills a database: writes and new leases are refused with the alarm's name, all else goes on, and so do writes once there is room.
func TestNoSpace(t *testing.T) {
	t.Parallel()
	const prefix = "/breakwater/full/"
	c := etcdcluster.StartGuarded(t, 1, "--quota-backend-bytes", fmt.Sprint(2<<20))
	s := openWith(t, guarded(t, c))
	mirror, stop := storetest.Follow(t, s, prefix)
	defer stop()
	lease, err := s.Grant(t.Context(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	var last int64
	value := strings.Repeat("x", 256<<10)
	for err == nil && last < 100 {
		var revision int64
		if revision, err = s.Commit(t.Context(), store.Txn{Ops: []store.Op{set(prefix+"large", value)}}); err == nil {
			last = revision
		}
	}
	refused := func(what string, err error) {
		t.Helper()
		alarm, ok := errors.AsType[*store.AlarmError](err)
		if !ok || alarm.Alarm != "NOSPACE" || !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "alarm NOSPACE is on") {
			t.Errorf("%s in a full database: %v, want the alarm NOSPACE", what, err)
		}
	}
	refused("a write", err)
	_, err = s.Grant(t.Context(), time.Minute)
	refused("a lease", err)
	if err := s.Renew(t.Context(), lease); err != nil {
		t.Errorf("a renewal in a full database: %v", err)
	}
	mirror.WaitRevision(t, last)
	snap, err := s.List(t.Context(), prefix)
	if err != nil {
		t.Fatal(err)
	}
	mirror.Check(t, snap)

	c.MakeRoom()
	mirror.WaitRevision(t, write(t, s, set(prefix+"small", "x")))
}
