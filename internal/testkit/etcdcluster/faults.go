package etcdcluster

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.uber.org/zap"
)

// Pause stops member i as SIGSTOP does: its connections stay open, and nothing comes from it.
func (c *Cluster) Pause(i int) { c.signal(i, syscall.SIGSTOP) }

// Resume ends Pause.
func (c *Cluster) Resume(i int) { c.signal(i, syscall.SIGCONT) }

func (c *Cluster) signal(i int, s os.Signal) {
	c.t.Helper()
	if err := c.members[i].process.Process.Signal(s); err != nil {
		c.t.Fatalf("etcd member %d: %v", i, err)
	}
}

// Isolate parts member i of a guarded cluster from all others, until Rejoin. Clients reach it as before.
func (c *Cluster) Isolate(i int) {
	c.between(i, func(m *member, peer string) { m.ways.peers.Hold(peer) })
}

// Rejoin ends Isolate.
func (c *Cluster) Rejoin(i int) {
	c.between(i, func(m *member, peer string) { m.ways.peers.Release(peer) })
}

// between calls f for the ways from member i to the others, and from them to it.
func (c *Cluster) between(i int, f func(from *member, to string)) {
	for n, m := range c.members {
		if n != i {
			f(m, host(c.members[i].peer))
			f(c.members[i], host(m.peer))
		}
	}
}

// Mute holds back what passes between member i of a guarded cluster and its clients, those that there are and those that come, until Unmute.
func (c *Cluster) Mute(i int) { c.members[i].ways.clients.Hold() }

// Sever ends the connections of clients to all members of a guarded cluster. They may connect anew.
func (c *Cluster) Sever() {
	for _, m := range c.members {
		m.ways.clients.Cut()
	}
}

// Unmute ends Mute.
func (c *Cluster) Unmute(i int) { c.members[i].ways.clients.Release() }

// SlowDisk lets each write to the log of member i of a guarded cluster take d longer; 0 ends it.
func (c *Cluster) SlowDisk(i int, d time.Duration) {
	c.t.Helper()
	if err := os.WriteFile(c.members[i].ways.disk, []byte(d.String()), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// Compact makes all members forget what was before the present revision, which it returns.
func (c *Cluster) Compact() (revision int64) {
	c.t.Helper()
	c.poll("compaction", func(ctx context.Context) error {
		return c.with(0, func(client *clientv3.Client) error {
			resp, err := client.Get(ctx, "health")
			if err != nil {
				return err
			}
			revision = resp.Header.Revision
			_, err = client.Compact(ctx, revision, clientv3.WithCompactPhysical())
			return err
		})
	})
	return revision
}

// Raise turns on an alarm, such as "NOSPACE" or "CORRUPT", as member i does when it finds a reason.
func (c *Cluster) Raise(i int, alarm string) {
	c.t.Helper()
	c.alarm(i, pb.AlarmRequest_ACTIVATE, alarm)
}

// MakeRoom does what an operator does about the alarm NOSPACE: it compacts, defragments each member, and disarms.
func (c *Cluster) MakeRoom() {
	c.t.Helper()
	c.Compact()
	for i, m := range c.members {
		c.poll("defragmentation", func(ctx context.Context) error {
			return c.with(i, func(client *clientv3.Client) error {
				_, err := client.Defragment(ctx, m.at.client)
				return err
			})
		})
		c.Disarm(i, "NOSPACE")
	}
}

// Disarm ends Raise.
func (c *Cluster) Disarm(i int, alarm string) {
	c.t.Helper()
	c.alarm(i, pb.AlarmRequest_DEACTIVATE, alarm)
}

func (c *Cluster) alarm(i int, action pb.AlarmRequest_AlarmAction, alarm string) {
	c.t.Helper()
	c.poll("alarm", func(ctx context.Context) error {
		return c.with(i, func(client *clientv3.Client) error {
			status, err := client.Status(ctx, c.members[i].at.client)
			if err != nil {
				return err
			}
			_, err = pb.NewMaintenanceClient(client.ActiveConnection()).Alarm(ctx, &pb.AlarmRequest{
				Action: action, MemberID: status.Header.MemberId, Alarm: pb.AlarmType(pb.AlarmType_value[alarm]),
			})
			return err
		})
	})
}

// Snapshot saves what member i holds, and returns the file.
func (c *Cluster) Snapshot(i int) string {
	c.t.Helper()
	config, err := c.config(c.members[i].at.client)
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	path := filepath.Join(c.t.TempDir(), "snapshot.db")
	if _, err := snapshot.NewV3(zap.NewNop()).Save(ctx, config, path); err != nil {
		c.t.Fatalf("snapshot of etcd member %d: %v", i, err)
	}
	return path
}

// Restore kills all members and starts them anew, under the same addresses, with what a snapshot holds, as `etcdutl snapshot restore`
// does it. Token is --initial-cluster-token: another one makes it another cluster. Bump is --bump-revision, with --mark-compacted; 0: neither.
func (c *Cluster) Restore(path, token string, bump uint64) {
	c.t.Helper()
	c.token = token
	for i, m := range c.members {
		if m.process != nil {
			c.Kill(i)
		}
		if err := os.RemoveAll(c.data(m)); err != nil {
			c.t.Fatal(err)
		}
		if err := snapshot.NewV3(zap.NewNop()).Restore(snapshot.RestoreConfig{
			SnapshotPath: path, Name: m.name, OutputDataDir: c.data(m), PeerURLs: []string{m.peer},
			InitialCluster: c.initial(), InitialClusterToken: c.token, RevisionBump: bump, MarkCompacted: bump > 0,
		}); err != nil {
			c.t.Fatalf("restore of etcd member %d: %v", i, err)
		}
	}
	for i := range c.members {
		c.launch(i)
	}
	c.WaitHealthy()
}
