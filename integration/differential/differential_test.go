package differential_test

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/integration/harness"
	"github.com/breakwater-mesh/breakwater/pkg/api"
)

// scenario is one policy, how the hosts behave, and what is sent. Its name is that of the service under test.
type scenario struct {
	name      string
	protocol  string      // of the service; "" is http
	spec      string      // more of the service: its subsets and routes, as a field each line. An endpoint has the label host: h0, h1 ...
	policy    []string    // sections; $SIDE in them is the caller
	parts     []partOf    // policies for parts of the service
	hosts     int         // that answer; 0 is one, unless some refuse
	refusing  int         // further hosts that refuse connections
	atOnePort bool        // the hosts are at 127.0.0.1, 127.0.0.2 and so on, and one port
	onlyHTTP1 bool        // the hosts speak no HTTP/2
	framed    *framedHost // they speak HTTP/2 frame by frame
	script    []behaviour
	byHost    [][]behaviour
	endpoints []string      // what else the catalogue says of each host
	silent    int           // further hosts that answer nobody who connects
	checks    [][]behaviour // of health checks at checkPath, by host: the first until traffic begins
	traffic   func(*side)

	edit       string // sections of the policy in place of the first ones, once both sides have sent their traffic
	removeLast bool   // the last host is taken away then
	after      func(*side)

	concurrent        bool          // answers come in any order
	anyHost           bool          // which host gets what is left to chance
	shortest, longest time.Duration // of every answer, where chance decides; 0: as long as each other
	markSlack         time.Duration // more slack for waits, where ticks decide
	ignore            []string      // statistics, fields of the access log, or "requests upstream", that chance decides
	unlogged          bool          // no access log is compared: who refuses a request before it is one writes none
	stats             []string      // of anything but the cluster that are compared too, whole; $NAME as in resources
	coarse            []string      // response headers of which a difference of 1 counts for nothing, as they tell of time
	mutant            string        // sections for the agent's caller alone that the comparison must see

	variants []string // further ones

	raw     *resources  // in place of a policy: what a third-party xDS server serves
	mutants []resources // each in addition for the agent alone, which the comparison must see

	dns *harness.Records // what DNS says of $SIDE.$NAME.test at first; nil: there is no such name
}

// partOf is a policy for a part of the service under test.
type partOf struct {
	part     string // such as "subset: one"
	sections []string
}

// trial is a scenario, or one of its mutants, with hosts of its own.
type trial struct {
	*scenario
	service string
	mutant  int // from 1; 0: the scenario itself
	up      *upstream
	ports   map[string]int // of the listeners of a raw one, by side
	rig     *rawRig        // of a raw one
}

func allTrials() []*trial {
	var trials []*trial
	for _, sc := range scenarios() {
		if sc.hosts == 0 && sc.refusing == 0 && sc.silent == 0 {
			sc.hosts = 1
		}
		for n := range sc.mutations() + 1 {
			trials = append(trials, &trial{scenario: sc, service: sc.nameOf(n), mutant: n, up: &upstream{atOnePort: sc.atOnePort, script: sc.script, byHost: sc.byHost, checks: sc.checks, framed: sc.framed}})
		}
	}
	return trials
}

// mutations are how many mutants there are.
func (sc *scenario) mutations() int {
	if sc.raw == nil {
		return len(sc.policyMutants())
	}
	return len(sc.mutants)
}

// policyMutants are the sections of each mutant of a policy.
func (sc *scenario) policyMutants() []string {
	if sc.mutant == "" {
		return sc.variants
	}
	return append([]string{sc.mutant}, sc.variants...)
}

// nameOf is the name of a mutant, or of the scenario itself.
func (sc *scenario) nameOf(mutant int) string {
	if mutant == 0 {
		return sc.name
	}
	return fmt.Sprintf("%s-mutant%d", sc.name, mutant)
}

// patience is short where something is expected not to come.
func (t *trial) patience() time.Duration {
	if t.mutant > 0 {
		return 4 * time.Second
	}
	return patience
}

// documents are the trial's Service and policies.
func (t *trial) documents() []string {
	documents := []string{t.serviceOf(t.up.hosts)}
	switch whole := strings.Join(t.policy, "\n"); {
	case strings.Contains(whole, sideName): // each caller has its own
		for _, caller := range []string{left, right} {
			documents = append(documents, policy(t.service, caller, strings.ReplaceAll(whole, sideName, caller)))
		}
	case len(t.policy) > 0:
		documents = append(documents, policy(t.service, "", t.policy...))
	}
	for i, p := range t.parts {
		text := policy(t.service, "", p.sections...)
		text = strings.Replace(text, "name: "+t.service, fmt.Sprintf("name: %s-part%d", t.service, i), 1)
		documents = append(documents, strings.Replace(text, "to: {service: "+t.service, "to: {service: "+t.service+", "+p.part, 1))
	}
	if t.mutant > 0 {
		mutant := strings.ReplaceAll(t.policyMutants()[t.mutant-1], sideName, right)
		documents = append(documents, strings.Replace(policy(t.service, right, "precedence: 1", mutant), "name: "+t.service+"-"+right, "name: "+t.service+"-changed", 1))
	}
	return documents
}

// sideName stands, in a policy and its mutants, for the caller: health checks have no other way to say on whose behalf they ask.
const sideName = "$SIDE"

// serviceOf is the trial's Service with these hosts.
func (t *trial) serviceOf(hosts []string) string {
	text := service(t.service, hosts, t.protocol)
	for line := range strings.Lines(t.spec) {
		text += "  " + strings.TrimSpace(line) + "\n"
	}
	for i, more := range t.endpoints {
		label := fmt.Sprintf("host: h%d}", i)
		text = strings.Replace(text, label+"}", label+", "+more+"}", 1)
	}
	return text
}

func service(name string, hosts []string, protocol ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: breakwater/v1alpha1\nkind: Service\nmetadata: {namespace: shop, name: %s}\nspec:\n", name)
	speaks := "http"
	if len(protocol) > 0 && protocol[0] != "" {
		speaks = protocol[0]
	}
	fmt.Fprintf(&b, "  protocol: %s\n", speaks)
	if len(hosts) > 0 {
		b.WriteString("  endpoints:\n")
	}
	for i, host := range hosts {
		ip, port, _ := net.SplitHostPort(host)
		fmt.Fprintf(&b, "  - {address: %s, port: %s, labels: {host: h%d}}\n", ip, port, i)
	}
	return b.String()
}

// policy is a Policy for shop/to, for one caller or for every one.
func policy(to, from string, sections ...string) string {
	name, caller := to, ""
	if from != "" {
		name, caller = to+"-"+from, fmt.Sprintf("  from: {service: %s}\n", from)
	}
	return fmt.Sprintf("apiVersion: breakwater/v1alpha1\nkind: Policy\nmetadata: {namespace: shop, name: %s}\nspec:\n  to: {service: %s}\n%s  %s\n",
		name, to, caller, strings.ReplaceAll(strings.Join(sections, "\n"), "\n", "\n  "))
}

// need fails, or with ALLOW_SKIP=1 skips, where there is no Envoy to compare with.
func need(t *testing.T) *rig {
	t.Helper()
	if fixture == nil {
		t.Skip("no Envoy, and ALLOW_SKIP=1")
	}
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		for name, tail := range fixture.logs() {
			t.Logf("%s said last:\n%s", name, tail[max(0, len(tail)-1500):])
		}
	})
	return fixture
}

// TestAgentIsLikeEnvoy runs every scenario. A difference fails it, and so does an expected difference that is gone.
func TestAgentIsLikeEnvoy(t *testing.T) {
	r := need(t)
	known := knownDifferences()
	for _, sc := range scenarios() {
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			judge(t, differences(r.play(t, r.trials[sc.name])), known[sc.name])
		})
	}
}

// TestMutantsAreSeen changes the policy for the agent's caller alone: the comparison must tell the two apart.
func TestMutantsAreSeen(t *testing.T) {
	r := need(t)
	known := knownDifferences()
	for _, sc := range scenarios() {
		for n := 1; n <= sc.mutations(); n++ {
			t.Run(sc.nameOf(n), func(t *testing.T) {
				t.Parallel()
				found := differences(r.play(t, r.trials[sc.nameOf(n)]))
				if len(unexpected(found, known[sc.name])) == 0 {
					t.Errorf("nothing differs, though the agent alone has %s", sc.mutation(n))
				}
			})
		}
	}
}

// mutation is what mutant n has that the scenario has not.
func (sc *scenario) mutation(n int) string {
	if sc.raw == nil {
		return sc.policyMutants()[n-1]
	}
	return fmt.Sprintf("%+v", sc.mutants[n-1])
}

func judge(t *testing.T, found []string, known []difference) {
	t.Helper()
	for _, line := range unexpected(found, known) {
		t.Error(line)
	}
	for _, k := range known {
		if !slices.ContainsFunc(found, k.explains) {
			t.Errorf("the expected difference %s is gone: take it out of knownDifferences and, if it is nowhere else, of docs/agent-fidelity.md", k.name)
		}
	}
}

// unexpected are the differences that none of the known ones explains.
func unexpected(found []string, known []difference) []string {
	return slices.DeleteFunc(slices.Clone(found), func(line string) bool {
		return slices.ContainsFunc(known, func(k difference) bool { return k.explains(line) })
	})
}

// play sends a trial's traffic through both proxies at the same time, makes the edit if there is one, and goes on.
func (r *rig) play(t *testing.T, tr *trial) (*scenario, observation, observation) {
	t.Helper()
	begin := r.begin
	if tr.raw != nil {
		begin = tr.rig.begin
	}
	if err := begin(); err != nil {
		t.Fatal(err)
	}
	sides := []*side{r.side(t, tr, left), r.side(t, tr, right)}
	both(sides, tr.traffic)
	if tr.after != nil {
		r.change(t, tr, sides)
		both(sides, tr.after)
	}
	var seen [2]observation
	for i, s := range sides {
		seen[i] = s.observe()
		s.http.CloseIdleConnections()
		s.http2.CloseIdleConnections()
	}
	return tr.scenario, seen[0], seen[1]
}

func both(sides []*side, f func(*side)) {
	var group sync.WaitGroup
	for _, s := range sides {
		group.Go(func() { f(s) })
	}
	group.Wait()
}

func (r *rig) side(t *testing.T, tr *trial, name string) *side {
	var p *place
	var dns *harness.DNS
	cluster := tr.service
	if tr.raw == nil {
		p, cluster = r.proxies[name], "shop/"+tr.service
	} else {
		p, dns = tr.rig.proxy(tr, name), tr.rig.dns
	}
	return &side{
		dns: dns,
		t:   t, name: name, service: tr.service, cluster: cluster, further: tr.stats, ignored: tr.ignore, proxy: p, up: tr.up, http: transport(p.outbound, false),
		http2: transport(p.outbound, true), patience: tr.patience(), unlogged: tr.unlogged,
		records: func() []record { return tr.records(name) },
	}
}

// change makes the trial's edit and waits until both proxies have it.
func (r *rig) change(t *testing.T, tr *trial, sides []*side) {
	t.Helper()
	if tr.removeLast {
		rest := tr.up.hosts[:len(tr.up.hosts)-1]
		if err := r.cp.Apply(tr.serviceOf(rest)); err != nil {
			t.Fatal(err)
		}
		both(sides, func(s *side) { s.reachesOnly(len(rest)) })
		return
	}
	if err := r.cp.Apply(policy(tr.service, "", tr.edit)); err != nil {
		t.Fatal(err)
	}
	both(sides[:1], func(s *side) {
		s.until("the edit is programmed", func() bool { return r.cp.Programmed(api.Policies, tr.service) == nil })
	})
}

// TestKnownDifferencesAreDocumented: each is told in the document, and belongs to a scenario that there is.
func TestKnownDifferencesAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/agent-fidelity.md")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, sc := range allScenarios() {
		if names[sc.name] {
			t.Errorf("two scenarios are called %s", sc.name)
		}
		names[sc.name] = true
	}
	for name, known := range knownDifferences() {
		if !names[name] {
			t.Errorf("there is no scenario %s", name)
		}
		for _, k := range known {
			if !strings.Contains(string(text), "`"+k.name+"`") {
				t.Errorf("docs/agent-fidelity.md does not tell of %s", k.name)
			}
		}
	}
}
