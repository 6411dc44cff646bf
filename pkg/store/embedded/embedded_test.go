package embedded_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/store"
	"github.com/breakwater-mesh/breakwater/pkg/store/embedded"
	"github.com/breakwater-mesh/breakwater/pkg/store/storetest"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// start runs a server until the test ends, and then checks that it left no goroutine.
func start(t *testing.T, c embedded.Config) *embedded.Server {
	t.Helper()
	before := goleak.IgnoreCurrent()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	s, err := embedded.Start(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		goleak.VerifyNone(t, before)
	})
	return s
}

func TestContract(t *testing.T) {
	s := start(t, embedded.Config{Dir: t.TempDir(), UnsafeNoFsync: true})
	storetest.Run(t, storetest.Options{}, func(t *testing.T) storetest.Fixture {
		return storetest.Fixture{
			KV:      s.KV(),
			Limits:  store.Limits{MaxOps: embedded.MaxTxnOps, MaxBytes: embedded.MaxRequestBytes},
			Compact: s.Compact,
		}
	})
}

func put(t *testing.T, kv store.KV, key, value string) int64 {
	t.Helper()
	revision, err := kv.Commit(t.Context(), store.Txn{Ops: []store.Op{{Key: key, Value: []byte(value)}}})
	if err != nil {
		t.Fatal(err)
	}
	return revision
}

func TestWhatIsWrittenIsThereAfterARestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "by", "start")
	first := start(t, embedded.Config{Dir: dir})
	revision := put(t, first.KV(), "/k", "kept")
	before, err := first.KV().List(t.Context(), "/")
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	begin := time.Now()
	second := start(t, embedded.Config{Dir: dir})
	t.Logf("second start took %v", time.Since(begin))
	e, err := second.KV().Get(t.Context(), "/k")
	if err != nil || string(e.Value) != "kept" || e.Revision != revision {
		t.Errorf("after a restart: got %+v, %v, want the value of revision %d", e, err, revision)
	}
	after, err := second.KV().List(t.Context(), "/")
	if err != nil || after.Cluster != before.Cluster || after.Revision != before.Revision {
		t.Errorf("after a restart: cluster %x at %d, %v, want %x at %d", after.Cluster, after.Revision, err, before.Cluster, before.Revision)
	}
}

func TestDirectoryInUse(t *testing.T) {
	dir := t.TempDir()
	s := start(t, embedded.Config{Dir: dir, UnsafeNoFsync: true})
	begin := time.Now()
	_, err := embedded.Start(t.Context(), embedded.Config{Dir: dir})
	if err == nil || !strings.Contains(err.Error(), "in use by another process") || !strings.Contains(err.Error(), dir) || strings.Contains(err.Error(), "\n") {
		t.Errorf("second start in %s: got %v, want one line that says it is in use", dir, err)
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("the error took %v", took)
	}
	put(t, s.KV(), "/k", "the first one goes on")
	if _, err := os.Stat(s.Socket()); err != nil {
		t.Errorf("the first one's socket: %v", err)
	}
}

func TestUnusableDirectory(t *testing.T) {
	temp := t.TempDir()
	file := filepath.Join(temp, "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	lockIsDir := filepath.Join(temp, "locked")
	if err := os.MkdirAll(filepath.Join(lockIsDir, "lock"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, filepath.Join(file, "below"), "/proc/breakwater-data", lockIsDir} {
		begin := time.Now()
		s, err := embedded.Start(t.Context(), embedded.Config{Dir: dir})
		if err == nil {
			t.Errorf("start in %s succeeded", dir)
			_ = s.Close()
			continue
		}
		if !strings.Contains(err.Error(), dir) || strings.Contains(err.Error(), "\n") || time.Since(begin) > 10*time.Second {
			t.Errorf("start in %s: got %q after %v, want one line that names it, at once", dir, err, time.Since(begin))
		}
	}
	if left, _ := os.ReadDir(temp); len(left) != 2 {
		t.Errorf("left behind: %v", left)
	}
}

func TestOddPath(t *testing.T) {
	s := start(t, embedded.Config{Dir: filepath.Join(t.TempDir(), "a b%20c?d#e"), UnsafeNoFsync: true})
	put(t, s.KV(), "/k", "x")
	if _, err := os.Stat(s.Socket()); err != nil {
		t.Errorf("socket: %v", err)
	}
}

// TestDamagedDirectory looks for no goroutines: etcd leaves some when it refuses its data.
func TestDamagedDirectory(t *testing.T) {
	dir, err := os.MkdirTemp("", "damaged-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // an etcd that has failed may still be making the file that its log would go on in
		deadline := time.Now().Add(10 * time.Second)
		for err := os.RemoveAll(dir); err != nil; err = os.RemoveAll(dir) {
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
	t.Run("FirstLife", func(t *testing.T) { start(t, embedded.Config{Dir: dir, UnsafeNoFsync: true}) })
	logs, err := filepath.Glob(filepath.Join(dir, "member", "wal", "*.wal"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("no write-ahead log in %s: %v", dir, err)
	}
	if err := os.WriteFile(logs[0], []byte("not a log"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if s, err := embedded.Start(ctx, embedded.Config{Dir: dir}); err == nil {
		t.Error("started over a damaged write-ahead log")
		_ = s.Close()
	} else if !strings.Contains(err.Error(), dir) {
		t.Errorf("got %v, want an error that names %s", err, dir)
	}
}

func TestLongPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	s := start(t, embedded.Config{Dir: dir, UnsafeNoFsync: true})
	put(t, s.KV(), "/k", "x")
	if _, err := os.Stat(s.Socket()); err != nil {
		t.Errorf("socket: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	if _, err := os.Stat(filepath.Dir(s.Socket())); !os.IsNotExist(err) {
		t.Errorf("the socket's directory after Close: %v, want it gone", err)
	}
}

func TestStartWithAnEndedContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := t.TempDir()
	before := goleak.IgnoreCurrent()
	s, err := embedded.Start(ctx, embedded.Config{Dir: dir, UnsafeNoFsync: true})
	if err == nil { // ready before it looked
		_ = s.Close()
	} else if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
	goleak.VerifyNone(t, before)
	again := start(t, embedded.Config{Dir: dir, UnsafeNoFsync: true})
	put(t, again.KV(), "/k", "x")
}

// TestCallsAfterClose: nothing may hang or panic when the store is closed under its users.
func TestCallsAfterClose(t *testing.T) {
	s := start(t, embedded.Config{Dir: t.TempDir(), UnsafeNoFsync: true})
	revision := put(t, s.KV(), "/k", "x")
	watching := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		first := true
		ended <- s.KV().Watch(t.Context(), "/", revision, func(store.Batch) error {
			if first {
				close(watching)
			}
			first = false
			return nil
		})
	}()
	select {
	case <-watching:
	case <-time.After(15 * time.Second):
		t.Fatal("the watch of a quiet store reports no progress")
	}
	if err := s.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	select {
	case err := <-ended:
		if !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("watch ends with %v, want ErrUnavailable", err)
		}
	case <-time.After(15 * time.Second):
		t.Fatal("the watch goes on after Close")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := s.KV().Commit(ctx, store.Txn{Ops: []store.Op{{Key: "/k"}}}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("commit after Close: got %v, want ErrUnavailable", err)
	}
}

func TestAnOrderlyLifeLogsNoErrors(t *testing.T) {
	core, logs := observer.New(zap.InfoLevel)
	called := 0
	s := start(t, embedded.Config{
		Dir: t.TempDir(), Logger: zap.New(core), UnsafeNoFsync: true,
		OnClosing: func() { called++ },
	})
	put(t, s.KV(), "/k", "x")
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	if called != 1 {
		t.Errorf("OnClosing was called %d times over two Close, want once", called)
	}
	if logs.FilterMessageSnippet("closed etcd server").Len() != 1 {
		t.Error("etcd's log does not arrive")
	}
	for _, entry := range logs.FilterLevelExact(zap.ErrorLevel).All() {
		t.Errorf("logged as an error: %s %v", entry.Message, entry.ContextMap())
	}
}
