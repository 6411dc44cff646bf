package integration_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/breakwater-mesh/breakwater/integration/harness"
	"github.com/breakwater-mesh/breakwater/internal/testkit/etcdcluster"
)

// grpcReplicas are two control planes over one etcd that a name leads to, and a gRPC client that knows that name alone: of a list of servers
// gRPC leaves the first only where it lacks a resource, so that a client that has all it needs would get no edit while the first is away.
func grpcReplicas(t *testing.T) (at, other *mesh, call func() codes.Code) {
	t.Helper()
	ports, err := harness.FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	names, err := harness.StartDNS()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(names.Close)
	addresses := []string{"127.0.0.1", "127.0.0.2"}
	names.Set("breakwater.test", harness.Records{Addresses: addresses, TTL: time.Minute})
	cluster := etcdcluster.Start(t, 1)
	var m [2]*mesh
	for i, address := range addresses {
		m[i] = newMesh(t, "--etcd-endpoints", strings.Join(cluster.Endpoints(), ","), "--drain-time", "2s",
			"--listen-xds", net.JoinHostPort(address, strconv.Itoa(ports[0])))
	}
	m[0].ledgers(2)
	const name = "breakwater.test:18000" // in place of a name server of the system
	text := bytes.ReplaceAll(m[0].grpcBootstrap(name), []byte(name), fmt.Appendf(nil, "dns://%s/breakwater.test:%d", names.Address, ports[0]))
	c := m[0].grpcClientOf("ledger.shop", text)
	answers(t, c)
	at, other = m[0], m[1]
	if there, err := holds(other.cp, "orders-grpc"); err != nil {
		t.Fatal(err)
	} else if there {
		at, other = other, at
	}
	return at, other, func() codes.Code { return check(t, c) }
}

// A gRPC client whose replica stops is at the other one within seconds, its calls go on all the while, and edits reach it from there.
func TestADrainedReplicaHandsOverAGRPCClient(t *testing.T) {
	t.Parallel()
	old, next, call := grpcReplicas(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var results harness.Results
	done := make(chan struct{})
	go func() {
		defer close(done)
		harness.Load(ctx, 50, 10, &results, func() harness.Call {
			if code := call(); code != codes.OK {
				return harness.Call{Err: fmt.Errorf("the call ends with %s", code)}
			}
			return harness.Call{Status: 200}
		})
	}()
	begun := time.Now()
	if err := old.cp.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if at, err := holds(next.cp, "orders-grpc"); err != nil || !at {
			return fmt.Errorf("the client has not come over, %v", err)
		}
		return nil
	})
	if took := time.Since(begun); took > 7*time.Second {
		t.Errorf("the client came over after %v, want 5 s at most beside the 2 s over which streams are ended", took)
	}
	if err := old.cp.Wait(patience); err != nil {
		t.Errorf("exit after SIGTERM: %v\n%s", err, lastLines(old.cp.Log(), 30))
	}
	cancel()
	<-done
	if s := results.Take(); s.Succeeded != s.Calls || s.Calls < 20 {
		t.Errorf("%d of %d calls succeeded (%v), want all of at least 20", s.Succeeded, s.Calls, s.Failures)
	}
	next.apply(policyFor("p", "ledger", "fault: {abort: {grpcStatus: resource-exhausted}}", "expiresAt: 2099-01-01T00:00:00Z"))
	eventually(t, func() error {
		if code := call(); code != codes.ResourceExhausted {
			return fmt.Errorf("a call ends with %s, want ResourceExhausted", code)
		}
		return nil
	})
}
