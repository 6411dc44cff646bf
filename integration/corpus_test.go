package integration_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	grpcxds "google.golang.org/grpc/xds"

	"github.com/breakwater-mesh/breakwater/integration/harness"
	"github.com/breakwater-mesh/breakwater/internal/testkit/corpus"
	"github.com/breakwater-mesh/breakwater/internal/testkit/pki"
	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/envoy/bootstrap"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// Whatever policies are written, each kind of proxy takes all that comes of them: 500 random ones over every field of the language, while
// all the proxies follow. What is refused names those that clash. BREAKWATER_SEED chooses another corpus.
func TestEveryProxyTakesTheCorpus(t *testing.T) {
	t.Parallel()
	seed := uint64(1)
	if n, err := strconv.ParseUint(os.Getenv("BREAKWATER_SEED"), 10, 64); err == nil {
		seed = n
	}
	takeCorpus(t, seed)
}

// TestLongCorpora is TestEveryProxyTakesTheCorpus with other seeds.
func TestLongCorpora(t *testing.T) {
	if !long() {
		return
	}
	for seed := range uint64(10) {
		t.Run(fmt.Sprint("seed ", seed+2), func(t *testing.T) { takeCorpus(t, seed+2) })
	}
}

func takeCorpus(t *testing.T, seed uint64) {
	t.Logf("BREAKWATER_SEED=%d", seed)
	f := &followed{mesh: newMesh(t)}
	ports := must(harness.FreePorts(2))(t)
	c, err := corpus.New(corpus.Options{
		Seed: seed, Policies: 500, TLS: certificates(t), Begin: f.begin, Admit: f.admit,
		Callers: []corpus.Caller{
			{Key: manifest.Key{Namespace: "shop", Name: "sidecar"}, Port: uint32(ports[0])}, {Key: manifest.Key{Namespace: "shop", Name: "agent"}, Port: uint32(ports[1])},
			{Key: manifest.Key{Namespace: "shop", Name: "brownfield"}}, {Key: manifest.Key{Namespace: "shop", Name: "client"}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	f.judge(c)
}

// certificates are files that a TLS of the catalogue may name.
func certificates(t *testing.T) catalog.TLS {
	authority, dir := pki.NewAuthority(t), t.TempDir()
	ours := authority.Issue(t, "caller.shop")
	return catalog.TLS{
		CAFile: pki.Write(t, dir, "ca.pem", authority.PEM), CertFile: pki.Write(t, dir, "cert.pem", ours.Chain), KeyFile: pki.Write(t, dir, "key.pem", ours.Key),
	}
}

// followed is a control plane and a proxy of each kind, which follow what is written.
type followed struct {
	*mesh
	sidecar, brownfield *sidecar
	agent               *local
	refused             map[int]int // by status
}

// begin writes the catalogue and starts the proxies.
func (f *followed) begin(services []*catalog.Service) {
	f.refused = map[int]int{}
	var documents []string
	for _, s := range services {
		documents = append(documents, document(f.t, s))
	}
	f.apply(documents...)
	f.sidecar, f.brownfield, f.agent = f.envoy("sidecar"), f.mesh.brownfield("brownfield"), f.mesh.agent("agent")
	f.dial(services)
}

func document[S any](t *testing.T, o *manifest.Object[S]) string {
	t.Helper()
	data := must(json.Marshal(o))(t)
	return string(must(manifest.ToYAML(data))(t))
}

// dial makes a gRPC client ask for all there is of every service.
func (f *followed) dial(services []*catalog.Service) {
	f.t.Helper()
	text := must(bootstrap.GRPC(bootstrap.Options{XDS: []string{f.cp.XDS}, Namespace: "shop", Service: "client", NodeID: "client-1"}))(f.t)
	resolver := must(grpcxds.NewXDSResolverWithConfigForTesting(text))(f.t)
	for _, s := range services {
		if s.Spec.Protocol == catalog.TCP || s.Spec.DependsOn != nil {
			continue
		}
		conn := must(grpc.NewClient("xds:///"+catalog.Hosts(s)[0], grpc.WithResolvers(resolver), grpc.WithTransportCredentials(insecure.NewCredentials())))(f.t)
		f.t.Cleanup(func() { _ = conn.Close() })
		conn.Connect()
	}
}

// admit writes policies, and tells why the control plane refuses them. The corpus looks at the words.
func (f *followed) admit(some []*policy.Policy) []string {
	f.t.Helper()
	var documents []string
	for _, p := range some {
		documents = append(documents, document(f.t, p))
	}
	var status int
	var answer string
	var err error
	eventually(f.t, func() error { // a machine that has much to do may keep the store waiting
		status, answer, err = f.cp.Do(http.MethodPost, api.ApplyPath+"?wide=true", strings.Join(documents, "---\n"))
		if status == http.StatusServiceUnavailable {
			return err
		}
		return nil
	})
	if err == nil {
		return nil
	}
	var problem api.Problem
	if json.Unmarshal([]byte(answer), &problem) != nil || problem.Type != api.PolicyConflict && problem.Type != api.InvalidMerge {
		f.t.Fatalf("status %d, %v:\n%s", status, err, documents)
	}
	var why []string
	for _, e := range problem.Errors {
		why = append(why, e.Message)
	}
	for _, c := range problem.Conflicts {
		why = append(why, c.Message)
	}
	if len(some) == 1 {
		f.refused[status]++
	}
	return why
}

// judge waits until every proxy holds what it should, and looks whether one has ever refused anything.
func (f *followed) judge(c *corpus.Corpus) {
	admitted := c.Admitted()
	f.t.Logf("%d policies are admitted; refused, by status: %v", len(admitted), f.refused)
	for name, pid := range map[string]int{"control plane": f.cp.Pid(), "sidecar": f.sidecar.Pid(), "clusters-only": f.brownfield.Pid(), "agent": f.agent.Pid(), "this and the gRPC client": os.Getpid()} {
		f.t.Logf("CPU time of %s: %v", name, must(harness.CPUTime(pid))(f.t))
	}
	if rare := corpus.Rarer(admitted, 3); len(rare) > 0 {
		f.t.Errorf("fewer than 3 of the policies have %q", rare)
	}
	if len(f.refused) < 2 {
		f.t.Error("not both a conflict and an invalid merge are refused: nothing is shown of that")
	}
	eventually(f.t, func() error {
		list, err := f.proxies()
		if err != nil {
			return err
		}
		return accepted(list, 4)
	})
	f.converges(f.sidecar, "sidecar")
	for line := range strings.Lines(f.cp.Log()) { // such as what can't be built, which no proxy has seen
		if strings.Contains(line, "[ERROR]") {
			f.t.Errorf("the control plane says: %s", line)
		}
	}
	for _, typ := range []string{"RTDS", "CDS", "EDS", "LDS", "SRDS", "RDS"} {
		if n := f.metric(fmt.Sprintf(`breakwater_xds_responses_answered_total{answer="rejected",type=%q}`, typ)); n != 0 {
			f.t.Errorf("%v responses with %s are rejected: %v", n, typ, f.rejections())
		}
	}
	for _, s := range []*sidecar{f.sidecar, f.brownfield} {
		for name, n := range must(s.Stats(""))(f.t) {
			if n != 0 && (strings.HasSuffix(name, "update_rejected") || name == "runtime.load_error") {
				f.t.Errorf("%s = %d, want 0", name, n)
			}
		}
	}
	page := must(f.agent.Page("/stats"))(f.t)
	for line := range strings.Lines(page) {
		if name, n, _ := strings.Cut(strings.TrimSpace(line), ": "); strings.HasSuffix(name, "rejected") && strings.HasPrefix(name, "config.") && n != "0" {
			f.t.Errorf("the agent: %s", line)
		}
	}
}
