package etcdcluster

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/breakwater-mesh/breakwater/internal/testkit/pki"
	"github.com/breakwater-mesh/breakwater/internal/testkit/wire"
)

// User is who may touch Breakwater's keys in a guarded cluster, and nothing else.
const User = "breakwater"

const (
	password, rootPassword = "a secret", "another secret"
	// prefix and prefixEnd enclose what User may touch.
	prefix, prefixEnd = "/breakwater/", "/breakwater0"
)

// ways are the connections of one member, as a test can hold them up. Zero: there are none in between.
type ways struct {
	clients *wire.Link     // to it
	peers   *wire.Exchange // from it to the others, by host:port of their peer URLs
	disk    string         // file that says how long it takes to make the disk's content safe
}

// environment sends a member's calls to its peers through the exchange.
func (w ways) environment() []string {
	if w.peers == nil {
		return nil
	}
	proxy := "http://" + w.peers.Address
	return []string{"HTTPS_PROXY=" + proxy, "https_proxy=" + proxy, "NO_PROXY=", "no_proxy=", slowDisk + "=" + w.disk}
}

// StartGuarded starts n members as one runs them in earnest: TLS with certificates of one authority towards clients and between members, a
// user with a password, etcd's own intervals. Each connection can be held up, and each disk made slow. Flags are further ones of the members.
func StartGuarded(t testing.TB, n int, flags ...string) *Cluster {
	t.Helper()
	binary, err := buildSlow()
	if err != nil {
		t.Fatal(err)
	}
	c := &Cluster{t: t, binary: binary, dir: t.TempDir(), token: "first", peers: true, timing: flags}
	c.place(n, "https://", "https://")
	c.issue()
	c.connect()
	c.start()
	if err := c.guard(); err != nil {
		t.Fatal(err)
	}
	return c
}

// issue makes one certificate for members, and two for clients: one that makes the cluster's own calls those of root, and one of nobody.
func (c *Cluster) issue() {
	c.t.Helper()
	c.issuer = pki.NewAuthority(c.t)
	names := []string{"127.0.0.1"}
	for i := range c.members {
		names = append(names, peerName(i))
	}
	members, root := c.issuer.Issue(c.t, names...), c.issuer.Issue(c.t, "root")
	write := func(name, text string) string { return pki.Write(c.t, c.dir, name, text) }
	c.tls = TLS{
		CA:   write("ca.crt", c.issuer.PEM),
		Cert: write("member.crt", members.Chain), Key: write("member.key", members.Key),
		ClientCert: write("root.crt", root.Chain), ClientKey: write("root.key", root.Key),
	}
	cert, key := c.certify(c.issuer)
	c.flags = []string{
		"--etcd-ca", c.tls.CA, "--etcd-cert", cert, "--etcd-key", key,
		"--etcd-user", User, "--etcd-password-file", write("password", password+"\n"),
	}
}

// certify writes a new certificate for clients, which replaces the one before.
func (c *Cluster) certify(by *pki.Authority) (cert, key string) {
	c.t.Helper()
	client := by.Issue(c.t, "client.test")
	return pki.Write(c.t, c.dir, "client.crt", client.Chain), pki.Write(c.t, c.dir, "client.key", client.Key)
}

// Certify gives the clients of a guarded cluster a new certificate: one that its members take, or a stranger's.
func (c *Cluster) Certify(good bool) {
	c.t.Helper()
	by := c.issuer
	if !good {
		by = pki.NewAuthority(c.t)
	}
	c.certify(by)
}

// peerName is a name that only the exchanges know, so that a member's calls to its peers go through its own.
func peerName(i int) string { return fmt.Sprintf("m%d.peers.test", i) }

// connect puts links before the members.
func (c *Cluster) connect() {
	c.t.Helper()
	to := map[string]string{}
	for i, m := range c.members {
		_, port, _ := net.SplitHostPort(host(m.at.peer))
		m.peer = "https://" + net.JoinHostPort(peerName(i), port)
		to[host(m.peer)] = host(m.at.peer)
	}
	for _, m := range c.members {
		clients, err := wire.Start(host(m.at.client))
		if err != nil {
			c.t.Fatal(err)
		}
		c.t.Cleanup(clients.Close)
		peers, err := wire.StartExchange(to)
		if err != nil {
			c.t.Fatal(err)
		}
		c.t.Cleanup(peers.Close)
		m.client, m.ways = "https://"+clients.Address, ways{clients, peers, filepath.Join(c.dir, m.name+".disk")}
	}
}

func host(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		panic(err) // it was made here
	}
	return u.Host
}

// guard makes the users and turns authentication on.
func (c *Cluster) guard() error {
	return c.with(0, func(client *clientv3.Client) error {
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		steps := []func() error{
			func() error { _, err := client.RoleAdd(ctx, User); return err },
			func() error {
				_, err := client.RoleGrantPermission(ctx, User, prefix, prefixEnd, clientv3.PermissionType(clientv3.PermReadWrite))
				return err
			},
			func() error { _, err := client.UserAdd(ctx, User, password); return err },
			func() error { _, err := client.UserGrantRole(ctx, User, User); return err },
			func() error { _, err := client.UserAdd(ctx, "root", rootPassword); return err },
			func() error { _, err := client.UserGrantRole(ctx, "root", "root"); return err },
			func() error { _, err := client.AuthEnable(ctx); return err },
		}
		for _, step := range steps {
			if err := step(); err != nil {
				return err
			}
		}
		return nil
	})
}

// Flags are the settings by which a control plane reaches a guarded cluster.
func (c *Cluster) Flags() []string {
	return append([]string{"--etcd-endpoints", strings.Join(c.Endpoints(), ",")}, c.flags...)
}
