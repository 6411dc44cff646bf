package integration_test

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	grpcxds "google.golang.org/grpc/xds"

	"github.com/breakwater-mesh/breakwater/internal/testkit/golden"
	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/envoy"
	"github.com/breakwater-mesh/breakwater/pkg/envoy/bootstrap"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/view"
	"github.com/breakwater-mesh/breakwater/pkg/world"
	"github.com/breakwater-mesh/breakwater/pkg/xds"
)

// oneClass is the class of every proxy.
type oneClass struct{ *world.Class }

func (c oneClass) Join(context.Context, world.ClassKey) (*world.Class, error) { return c.Class, nil }

func (oneClass) Leave(*world.Class) {}

// Whatever the compiler's goldens are made of, a real gRPC client takes what is made of it for gRPC clients.
func TestGRPCClientTakesEveryGolden(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../pkg/envoy/testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no goldens: %v", err)
	}
	class := world.NewClass(world.ClassKey{}, &world.Head{})
	server := xds.New(xds.Config{Classes: oneClass{class}})
	g := grpc.NewServer(xds.ServerOptions()...)
	server.Register(g)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = g.Serve(listener) }()
	t.Cleanup(g.Stop)
	for i, file := range files {
		head := grpcHead(t, int64(i+1), file)
		if head.Views[view.RDS].Len() == 0 {
			continue // a tcp service is no gRPC client's to call
		}
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			class.Publish(head)
			dialGolden(t, listener.Addr().String(), i)
			eventually(t, func() error { return taken(t, server, fmt.Sprint("golden-", i), head) })
		})
	}
}

// dialGolden makes a client ask for all that there is of a golden, by its listener, until the test ends.
func dialGolden(t *testing.T, address string, i int) {
	t.Helper()
	text, err := bootstrap.GRPC(bootstrap.Options{XDS: []string{address}, Namespace: "shop", Service: "orders", NodeID: fmt.Sprint("golden-", i)})
	if err != nil {
		t.Fatal(err)
	}
	resolver := must(grpcxds.NewXDSResolverWithConfigForTesting(text))(t)
	conn, err := grpc.NewClient("xds:///golden.shop", grpc.WithResolvers(resolver), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	conn.Connect()
}

// taken is nil once the client of that id has accepted all that it follows from its listener. Hosts by DNS it has no assignment of.
func taken(t *testing.T, server *xds.Server, id string, head *world.Head) error {
	for _, p := range server.Proxies() {
		if p.ID != id {
			continue
		}
		accepted := map[view.Type]bool{}
		for _, typ := range p.Types {
			for _, r := range typ.Rejected {
				t.Fatalf("rejects %v: %s", r.ID, r.Text)
			}
			accepted[typ.Type] = typ.Acked > 0 && typ.Pending == 0
		}
		for _, typ := range []view.Type{view.LDS, view.RDS, view.CDS, view.EDS} {
			if !accepted[typ] && head.Views[typ].Len() > 0 {
				return fmt.Errorf("%s is not accepted yet: %+v", typ, p.Types)
			}
		}
		return nil
	}
	return fmt.Errorf("%s is not there", id)
}

// grpcHead is what a gRPC client gets of a golden's service under its policies, whoever calls, and at the host golden.shop.
func grpcHead(t *testing.T, rev int64, file string) *world.Head {
	t.Helper()
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	svc := golden.Service(t, archive)
	var policies []*policy.Compiled
	for _, p := range golden.Policies(t, archive) {
		policies = append(policies, policy.Compile(p))
	}
	called := policy.Service{Key: svc.Key(), Labels: svc.Metadata.Labels, Protocol: string(catalog.ProtocolOf(svc))}
	effective, _ := policy.Merge(called, policies)
	compiled := must(envoy.Service(envoy.Target{Profile: envoy.GRPC}, svc, effective))(t)
	assignments := must(envoy.Target{Profile: envoy.GRPC}.Assignments(svc, nil))(t)
	head := &world.Head{Rev: rev}
	head.Views[view.LDS] = view.Of(envoy.APIListener("golden.shop", svc.Key()))
	if compiled.Route != nil {
		head.Views[view.RDS] = view.Of(compiled.Route)
	}
	head.Views[view.CDS] = view.Of(append(compiled.Subsets, compiled.Cluster)...)
	head.Views[view.EDS] = view.Of(assignments...)
	return head
}
