package integration_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/integration/harness"
)

// TestCompositeChangesWhileAWorkerIsBehind holds up the worker of an Envoy and edits a service that has a fallback, twice. A worker makes its
// part of a composite out of what the main thread has of it, which must still be there: Envoy 1.40 ended with a segmentation fault where it was
// replaced meanwhile (ADR 44). So the second edit must come when the worker has had a second to take up the first, and calls go on.
func TestCompositeChangesWhileAWorkerIsBehind(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	m.service("payments", 1)
	m.service("queue", 1)
	m.service("orders", 0)
	edit := func(n int) {
		m.apply(policyFor("edit", "payments", "fallback: {service: queue}", fmt.Sprintf("admissionControl: {aggression: %d}", n)))
	}
	edit(10)
	orders := m.envoy("orders")
	orders.reaches("payments", http.StatusOK)
	m.programmed("edit")
	holds := func(n int) error {
		config, err := orders.ConfigOf("shop/payments~shop/queue~1")
		if err == nil && !strings.Contains(config, fmt.Sprintf(`"default_value":%d`, n)) {
			err = fmt.Errorf("the composite has no aggression of %d: %s", n, config)
		}
		return err
	}
	eventually(t, func() error { return holds(10) })

	release := orders.holdUp(t)
	edit(20)
	eventually(t, func() error { return holds(20) })
	edit(30)
	if harness.Poll(within(t, 300*time.Millisecond), func() error { return holds(30) }) == nil {
		t.Error("the composite changed once more within 300 ms: a worker that is behind reads what is gone")
	}
	release()
	eventually(t, func() error { return holds(30) })
	orders.want("payments", http.StatusOK)
	m.programmed("edit")
}

// holdUp stops the worker's thread, and no other, until release is called.
func (s *sidecar) holdUp(t *testing.T) (release func()) {
	t.Helper()
	thread, err := worker(s.Pid())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	held, ended := make(chan error, 1), make(chan error, 1)
	go func() {
		runtime.LockOSThread() // a thread is traced by a thread
		defer runtime.UnlockOSThread()
		err := syscall.PtraceAttach(thread)
		if err == nil {
			_, err = syscall.Wait4(thread, nil, syscall.WALL, nil)
		}
		held <- err
		<-ctx.Done()
		ended <- syscall.PtraceDetach(thread)
	}()
	if err := <-held; err != nil {
		cancel()
		t.Fatalf("ptrace: %v", err)
	}
	return func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("ptrace: %v", err)
		}
	}
}

// worker is the id of the thread that serves the calls of an Envoy with one.
func worker(pid int) (int, error) {
	names, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/comm", pid))
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		if comm, err := os.ReadFile(name); err == nil && bytes.HasPrefix(comm, []byte("wrk:")) {
			return strconv.Atoi(filepath.Base(filepath.Dir(name)))
		}
	}
	return 0, errors.New("no thread of this Envoy is a worker")
}
