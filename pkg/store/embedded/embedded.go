// Package embedded runs an etcd server inside the process, as a cluster of one that opens no port: for a control plane that is
// given no other etcd.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/store"
	"github.com/breakwater-mesh/breakwater/pkg/store/etcd"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// What the embedded server takes in one transaction.
const (
	MaxTxnOps       = 4096
	MaxRequestBytes = 8 << 20
)

const (
	tick         = 10  // ms; a cluster of one waits for nobody, and a short election makes it start in well under 100 ms
	election     = 100 // ms
	startTimeout = 60 * time.Second
	quotaBytes   = 2 << 30
)

// Config says where and how the server runs.
type Config struct {
	Dir    string      // made if it is not there; used by one process at a time
	Logger *zap.Logger // for etcd's log; nil: silent

	// OnClosing, when set, is called when Close begins. The errors as which etcd logs its own orderly end ("setting up serving
	// from embedded etcd failed", some six lines) are dropped anyway; a caller who wants to hear nothing at all from then on
	// makes its logger quiet here.
	OnClosing func()

	// UnsafeNoFsync makes writes quicker and loses them when the machine fails: for tests only.
	UnsafeNoFsync bool
}

// Server is a running etcd.
type Server struct {
	config  Config
	etcd    *embed.Etcd
	client  *clientv3.Client
	store   *etcd.Store
	socket  *socket
	lock    *lock
	closing atomic.Bool
	close   func() error // once
}

// Start locks the directory, starts the server and returns when it serves, or when ctx ends. An error leaves nothing running
// (but etcd itself leaves goroutines where it refuses damaged data: the process had better end), and nothing new on the disk
// where the directory could not be used.
func Start(ctx context.Context, c Config) (*Server, error) {
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	s := &Server{config: c}
	s.close = sync.OnceValue(s.shutdown)
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("embedded etcd in %s: %w", c.Dir, err), s.Close())
	}
	return s, nil
}

func (s *Server) start(ctx context.Context) (err error) {
	dir, err := filepath.Abs(s.config.Dir)
	if err != nil {
		return err
	}
	if s.lock, err = lockDir(dir); err != nil {
		return err
	}
	if s.socket, err = newSocket(dir); err != nil {
		return err
	}
	if s.etcd, err = s.startEtcd(s.serverConfig(dir)); err != nil {
		return err
	}
	timeout := time.NewTimer(startTimeout)
	defer timeout.Stop()
	select {
	case <-s.etcd.Server.ReadyNotify():
	case err := <-s.etcd.Err():
		return err
	case <-timeout.C:
		return fmt.Errorf("not ready after %v", startTimeout)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	s.client = v3client.New(s.etcd.Server)
	s.store = etcd.Wrap(s.client, store.Limits{MaxOps: MaxTxnOps, MaxBytes: MaxRequestBytes})
	return nil
}

// startEtcd turns a panic into an error: etcd panics over a data directory that it can't read.
func (s *Server) startEtcd(c *embed.Config) (e *embed.Etcd, err error) {
	defer func() {
		if r := recover(); r != nil {
			e, err = nil, fmt.Errorf("etcd: %v", r)
		}
	}()
	return embed.StartEtcd(c)
}

func (s *Server) serverConfig(dir string) *embed.Config {
	c := embed.NewConfig()
	c.Name = "breakwater"
	c.Dir = dir
	c.Logger = "zap"
	// Fatal would end the process from inside a library; panic is caught above.
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(calm(s.config.Logger, &s.closing).WithOptions(zap.WithFatalHook(zapcore.WriteThenPanic)))
	c.ListenClientUrls = []url.URL{s.socket.url()}
	c.AdvertiseClientUrls = c.ListenClientUrls
	// Nobody is to join: no peer is listened to, and the address is only the member's name in its own books.
	c.ListenPeerUrls = nil
	c.AdvertisePeerUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:1"}}
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	c.TickMs, c.ElectionMs = tick, election
	c.MaxTxnOps, c.MaxRequestBytes = MaxTxnOps, MaxRequestBytes
	c.QuotaBackendBytes = quotaBytes
	c.AutoCompactionMode, c.AutoCompactionRetention = embed.CompactorModePeriodic, "1h"
	c.EnableGRPCGateway = false
	c.UnsafeNoFsync = s.config.UnsafeNoFsync
	return c
}

// KV is the store. It is of no use after Close.
func (s *Server) KV() store.KV { return s.store }

// Compact makes the server forget the changes before revision, beside what it does by itself every hour.
func (s *Server) Compact(ctx context.Context, revision int64) error {
	return s.store.Compact(ctx, revision)
}

// Socket is the path of the unix socket on which etcd's own tools can reach the server.
func (s *Server) Socket() string { return s.socket.path }

// Err delivers what stops the server while it runs; it is closed by Close.
func (s *Server) Err() <-chan error { return s.etcd.Err() }

// Close stops the server and frees the directory. It waits until everything has ended. More calls return the first one's error.
func (s *Server) Close() error { return s.close() }

func (s *Server) shutdown() error {
	var errs []error
	s.closing.Store(true)
	if s.config.OnClosing != nil {
		s.config.OnClosing()
	}
	if s.client != nil {
		if err := s.client.Close(); err != nil && !errors.Is(err, context.Canceled) {
			errs = append(errs, err)
		}
	}
	if s.etcd != nil {
		s.etcd.Close()
	}
	if s.socket != nil {
		errs = append(errs, s.socket.remove())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.release())
	}
	return errors.Join(errs...)
}

// pathMax is the longest path of a unix socket on Linux, its final NUL left out. Other systems take 104.
const pathMax = 103

// socket is where the server listens for etcd's own tools.
type socket struct {
	path string
	temp string // a directory of its own, or ""
}

// newSocket chooses a path in dir, or in a short temporary directory where dir is too long for a socket's address.
func newSocket(dir string) (*socket, error) {
	if path := filepath.Join(dir, "etcd.sock"); len(path) <= pathMax {
		return &socket{path: path}, nil
	}
	temp, err := os.MkdirTemp("", "breakwater-")
	if err != nil {
		return nil, err
	}
	s := &socket{path: filepath.Join(temp, "etcd.sock"), temp: temp}
	if len(s.path) > pathMax {
		return nil, errors.Join(fmt.Errorf("the path of the directory is too long for a unix socket (%d bytes), and so is the temporary directory's", pathMax), s.remove())
	}
	return s, nil
}

func (s *socket) url() url.URL { return url.URL{Scheme: "unix", Path: s.path} }

func (s *socket) remove() error {
	if s.temp != "" {
		return os.RemoveAll(s.temp)
	}
	if err := os.Remove(s.path); err != nil && !os.IsNotExist(err) {
		return err
	}
	return nil
}
