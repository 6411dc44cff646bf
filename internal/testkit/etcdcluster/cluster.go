// Package etcdcluster runs real etcd members as processes of their own, so that a test can kill them.
package etcdcluster

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/breakwater-mesh/breakwater/internal/testkit/pki"
	"github.com/breakwater-mesh/breakwater/internal/testkit/ports"
	"github.com/breakwater-mesh/breakwater/internal/testkit/program"
)

const startTimeout = 60 * time.Second

// Cluster is a number of members on loopback. Only the test's own goroutine may use it.
type Cluster struct {
	t       testing.TB
	binary  string
	dir     string
	token   string
	tls     TLS
	peers   bool     // TLS between the members too
	timing  []string // flags of members
	flags   []string // of clients of a guarded cluster
	issuer  *pki.Authority
	members []*member
}

// TLS are the files of members that take only clients with a certificate of CA. ClientCert and ClientKey are for the cluster's
// own questions.
type TLS struct{ CA, Cert, Key, ClientCert, ClientKey string }

type member struct {
	name         string
	client, peer string // URLs under which it is known
	at           at
	process      *exec.Cmd
	exited       chan struct{}
	log          *tail
	ways         ways // of a guarded cluster
}

// at is where a member itself listens, as URLs.
type at struct{ client, peer string }

// Start builds the member program where it has to, starts n members and waits until they serve. They end with the test, and
// their logs are shown when it failed.
func Start(t testing.TB, n int) *Cluster {
	t.Helper()
	return StartTLS(t, n, TLS{})
}

// StartTLS is Start with TLS towards clients, unless files is empty.
func StartTLS(t testing.TB, n int, files TLS) *Cluster {
	t.Helper()
	binary, err := program.Build("./internal/testkit/etcdmember")
	if err != nil {
		t.Fatal(err)
	}
	c := &Cluster{t: t, binary: binary, dir: t.TempDir(), token: "first", tls: files, timing: []string{"--heartbeat-interval", "50", "--election-timeout", "500"}}
	client := "http://"
	if files.CA != "" {
		client = "https://"
	}
	c.place(n, client, "http://")
	c.start()
	return c
}

// place gives n members their addresses.
func (c *Cluster) place(n int, client, peer string) {
	c.t.Helper()
	free, err := ports.Free(2 * n)
	if err != nil {
		c.t.Fatal(err)
	}
	for i := range n {
		m := &member{name: fmt.Sprintf("m%d", i), client: client + ports.Loopback(free[2*i]), peer: peer + ports.Loopback(free[2*i+1]), log: new(tail)}
		m.at = at{m.client, m.peer}
		c.members = append(c.members, m)
	}
}

// start starts the members that were placed, for as long as the test runs.
func (c *Cluster) start() {
	c.t.Helper()
	c.t.Cleanup(c.stop)
	for i := range c.members {
		c.launch(i)
	}
	c.WaitHealthy()
}

// Endpoints are the client URLs of all members.
func (c *Cluster) Endpoints() []string {
	var urls []string
	for _, m := range c.members {
		urls = append(urls, m.client)
	}
	return urls
}

// Kill ends member i at once, as kill -9 does, and waits until it is gone.
func (c *Cluster) Kill(i int) {
	c.t.Helper()
	m := c.members[i]
	if m.process == nil {
		c.t.Fatalf("etcd member %d does not run", i)
	}
	_ = m.process.Process.Kill()
	<-m.exited
	m.process = nil
}

// Restart starts a member that was killed, with the data and the addresses it had. It does not wait.
func (c *Cluster) Restart(i int) {
	c.t.Helper()
	if c.members[i].process != nil {
		c.t.Fatalf("etcd member %d runs already", i)
	}
	c.launch(i)
}

// Recreate kills all members, throws their data away and starts them anew under the same addresses: the same cluster gone back
// to its beginning, or with another token another cluster.
func (c *Cluster) Recreate(token string) {
	c.t.Helper()
	for i, m := range c.members {
		if m.process != nil {
			c.Kill(i)
		}
		if err := os.RemoveAll(c.data(m)); err != nil {
			c.t.Fatal(err)
		}
	}
	c.token = token
	for i := range c.members {
		c.launch(i)
	}
	c.WaitHealthy()
}

// Token is what the cluster was made with, for Recreate.
func (c *Cluster) Token() string { return c.token }

// Leader is the index of the member that leads: of several who believe so, the one that was elected last.
func (c *Cluster) Leader() int {
	c.t.Helper()
	leader := -1
	c.poll("a leader", func(ctx context.Context) error {
		var term uint64
		for i, m := range c.members {
			if m.process == nil {
				continue
			}
			status, err := c.status(ctx, i)
			if err == nil && status.Leader == status.Header.MemberId && status.RaftTerm > term {
				leader, term = i, status.RaftTerm
			}
		}
		if term == 0 {
			return fmt.Errorf("none of the running members leads")
		}
		return nil
	})
	return leader
}

// WaitHealthy waits until every running member answers a linearizable read.
func (c *Cluster) WaitHealthy() {
	c.t.Helper()
	for i, m := range c.members {
		if m.process == nil {
			continue
		}
		c.poll("member "+m.name, func(ctx context.Context) error {
			return c.with(i, func(client *clientv3.Client) error {
				_, err := client.Get(ctx, "health")
				return err
			})
		})
	}
}

// Revision is what member i itself has applied, others left aside.
func (c *Cluster) Revision(i int) int64 {
	c.t.Helper()
	var revision int64
	c.poll("a revision", func(ctx context.Context) error {
		return c.with(i, func(client *clientv3.Client) error {
			resp, err := client.Get(ctx, "health", clientv3.WithSerializable())
			if err == nil {
				revision = resp.Header.Revision
			}
			return err
		})
	})
	return revision
}

func (c *Cluster) status(ctx context.Context, i int) (status *clientv3.StatusResponse, err error) {
	ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond) // one that is paused must not take the time of all
	defer cancel()
	err = c.with(i, func(client *clientv3.Client) error {
		status, err = client.Status(ctx, c.members[i].at.client)
		return err
	})
	return status, err
}

// with calls fn with a client of member i alone.
func (c *Cluster) with(i int, fn func(*clientv3.Client) error) error {
	config, err := c.config(c.members[i].at.client)
	if err != nil {
		return err
	}
	client, err := clientv3.New(config)
	if err != nil {
		return err
	}
	defer client.Close()
	return fn(client)
}

func (c *Cluster) config(endpoint string) (config clientv3.Config, err error) {
	config = clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()}
	if c.tls.CA != "" {
		info := transport.TLSInfo{TrustedCAFile: c.tls.CA, CertFile: c.tls.ClientCert, KeyFile: c.tls.ClientKey}
		config.TLS, err = info.ClientConfig()
	}
	return config, err
}

// poll calls try, for a second at a time, until it returns nil.
func (c *Cluster) poll(what string, try func(context.Context) error) {
	c.t.Helper()
	deadline := time.Now().Add(startTimeout)
	pause := time.NewTicker(20 * time.Millisecond)
	defer pause.Stop()
	for {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		err := try(ctx)
		cancel()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("etcd: no %s in %v: %v", what, startTimeout, err)
		}
		<-pause.C
	}
}

func (c *Cluster) launch(i int) {
	c.t.Helper()
	m := c.members[i]
	args := append([]string{
		"--name", m.name, "--data-dir", c.data(m),
		"--listen-client-urls", m.at.client, "--advertise-client-urls", m.client,
		"--listen-peer-urls", m.at.peer, "--initial-advertise-peer-urls", m.peer,
		"--initial-cluster", c.initial(), "--initial-cluster-token", c.token, "--log-level", "warn",
	}, c.timing...)
	if c.tls.CA != "" {
		args = append(args, "--client-cert-auth", "--trusted-ca-file", c.tls.CA, "--cert-file", c.tls.Cert, "--key-file", c.tls.Key)
	}
	if c.peers {
		args = append(args, "--peer-client-cert-auth", "--peer-trusted-ca-file", c.tls.CA, "--peer-cert-file", c.tls.Cert, "--peer-key-file", c.tls.Key)
	}
	m.process = exec.Command(c.binary, args...)
	m.process.Env = append(os.Environ(), m.ways.environment()...)
	m.process.Stdout, m.process.Stderr = m.log, m.log
	m.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // no member outlives a test that was killed
	if err := m.process.Start(); err != nil {
		c.t.Fatalf("start etcd member %s: %v", m.name, err)
	}
	exited, process := make(chan struct{}), m.process
	m.exited = exited
	go func() {
		_ = process.Wait()
		close(exited)
	}()
}

func (c *Cluster) data(m *member) string { return filepath.Join(c.dir, m.name) }

// initial are the members by their names, as etcd's flag wants them.
func (c *Cluster) initial() string {
	var list []string
	for _, peer := range c.members {
		list = append(list, peer.name+"="+peer.peer)
	}
	return strings.Join(list, ",")
}

func (c *Cluster) stop() {
	for i, m := range c.members {
		if m.process != nil {
			c.Kill(i)
		}
		if c.t.Failed() {
			c.t.Logf("last log of etcd member %s:\n%s", m.name, m.log)
		}
	}
}

// tail keeps the last of what is written to it.
type tail struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	const keep = 8 << 10
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.buf.Len() > 4*keep {
		last := bytes.Clone(t.buf.Bytes()[t.buf.Len()-keep:])
		t.buf.Reset()
		t.buf.Write(last)
	}
	return t.buf.Write(p)
}

// String implements fmt.Stringer.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.buf.String()
}
