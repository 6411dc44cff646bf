package etcd_test

import (
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/internal/testkit/etcdcluster"
	"github.com/breakwater-mesh/breakwater/pkg/store"
	"github.com/breakwater-mesh/breakwater/pkg/store/etcd"
	"github.com/breakwater-mesh/breakwater/pkg/store/storetest"
)

// guarded are the options by which a guarded cluster is reached.
func guarded(t *testing.T, c *etcdcluster.Cluster) etcd.Options {
	t.Helper()
	o, file := etcd.Options{Endpoints: c.Endpoints()}, ""
	flags := flag.NewFlagSet("etcd", flag.ContinueOnError)
	flags.String("etcd-endpoints", "", "")
	flags.StringVar(&o.CAFile, "etcd-ca", "", "")
	flags.StringVar(&o.CertFile, "etcd-cert", "", "")
	flags.StringVar(&o.KeyFile, "etcd-key", "", "")
	flags.StringVar(&o.User, "etcd-user", "", "")
	flags.StringVar(&file, "etcd-password-file", "", "")
	if err := flags.Parse(c.Flags()); err != nil {
		t.Fatal(err)
	}
	password, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	o.Password = strings.TrimSpace(string(password))
	return o
}

// TestTokens: the user's token is refused under traffic, by members that do not know it yet, and by all when it was not used for long. Nobody hears
// of that.
func TestTokens(t *testing.T) {
	t.Parallel()
	const prefix, ttl = "/breakwater/tokens/", time.Second
	c := etcdcluster.StartGuarded(t, 3, "--auth-token-ttl", "1")
	s := openWith(t, guarded(t, c))
	mirror, stop := storetest.Follow(t, s, prefix)
	defer stop()
	mirror.WaitRevision(t, write(t, s, set(prefix+"first", "x")))
	lease, err := s.Grant(t.Context(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	use := func(why string) {
		t.Helper()
		revision, err := s.Commit(t.Context(), store.Txn{Ops: []store.Op{set(prefix+"again", why)}})
		if err != nil {
			t.Fatalf("a write %s: %v", why, err)
		}
		mirror.WaitRevision(t, revision)
		if err := s.Renew(t.Context(), lease); err != nil {
			t.Fatalf("a renewal %s: %v", why, err)
		}
	}
	begun := time.Now()
	for range 50 {
		use("under traffic")
	}
	t.Logf("a write and a renewal take %v", time.Since(begun)/50)
	for range 2 {
		<-time.After(3 * ttl) // etcd looks for tokens that are too old every second
		use("with a token that is too old")
	}
	snap, err := s.List(t.Context(), prefix)
	if err != nil {
		t.Fatal(err)
	}
	mirror.Check(t, snap)
}
