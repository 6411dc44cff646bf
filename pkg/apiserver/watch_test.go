package apiserver_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/breakwater-mesh/breakwater/internal/testkit/etcdcluster"
	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/apiserver"
	"github.com/breakwater-mesh/breakwater/pkg/client"
	"github.com/breakwater-mesh/breakwater/pkg/reconcile"
	"github.com/breakwater-mesh/breakwater/pkg/store"
)

// listening is the fixture's server on a port.
func (f *fixture) listening() *httptest.Server {
	f.t.Helper()
	s := httptest.NewUnstartedServer(f.handler)
	s.Config.ReadTimeout = 300 * time.Millisecond // as that of the real server, of a whole request
	s.Start()
	f.t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return s
}

// stream reads the events of one watch.
type stream struct {
	t     *testing.T
	lines *bufio.Scanner
	body  io.Closer
	last  string // id
}

func watch(t *testing.T, url, query, lastID string) *stream {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+api.WatchPath+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	if lastID != "" {
		req.Header.Set("Last-Event-ID", lastID)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		text, _ := io.ReadAll(resp.Body)
		t.Fatalf("watch%s: status %d, %s\n%s", query, resp.StatusCode, resp.Header.Get("Content-Type"), text)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 16<<20)
	return &stream{t: t, lines: lines, body: resp.Body}
}

// block is the next event, or a beat: its fields by name.
func (s *stream) block() map[string]string {
	s.t.Helper()
	fields := map[string]string{}
	for s.lines.Scan() {
		name, value, _ := strings.Cut(s.lines.Text(), ":")
		if s.lines.Text() == "" {
			if id := fields["id"]; id != "" {
				s.last = id
			}
			return fields
		}
		fields[name] = strings.TrimPrefix(value, " ")
	}
	return nil
}

// next is the next event; nil: the stream has ended.
func (s *stream) next() *api.Watched {
	s.t.Helper()
	for {
		fields := s.block()
		if fields == nil {
			return nil
		}
		if fields["data"] == "" {
			continue
		}
		e := &api.Watched{Change: api.Change(fields["event"]), ID: fields["id"]}
		if err := json.Unmarshal([]byte(fields["data"]), e); err != nil {
			s.t.Fatalf("%v in %s", err, fields["data"])
		}
		return e
	}
}

// say is an event in short.
func say(e *api.Watched) string {
	switch {
	case e == nil:
		return "the end"
	case e.Change == api.Resync:
		return fmt.Sprintf("resync %s: %s", strings.Join(e.Kinds, ","), e.Reason)
	case e.Change == api.Synced:
		return "synced " + strings.Join(e.Kinds, ",")
	}
	return strings.TrimSpace(fmt.Sprintf("%s %s %s/%s", e.Change, strings.TrimPrefix(e.Of+" "+e.Kind, " "), e.Namespace, e.Name))
}

// want reads as many events as there are lines, which they must be.
func (s *stream) want(lines ...string) (last *api.Watched) {
	s.t.Helper()
	for _, line := range lines {
		last = s.next()
		if got := say(last); got != line {
			s.t.Fatalf("got %q, want %q", got, line)
		}
	}
	return last
}

const objects = "policies,guardrails,services"

func TestAWatchTellsWhatThereIsAndThenWhatComes(t *testing.T) {
	f := newFixture(t)
	f.apply(service("payments", "") + doc("shop", "p", "to: {service: payments}, timeout: {request: 1s}"))
	s := watch(t, f.listening().URL, "", "")
	s.want("resync " + objects + ": a new watch")
	s.want("put Service shop/payments")
	e := s.want("put Policy shop/p")
	var p api.PolicyResponse
	if err := json.Unmarshal(e.Object, &p); err != nil || p.Metadata.Generation != 1 || p.Spec.To.Service != "payments" || e.Revision != p.Metadata.Revision || e.ID != "" {
		t.Errorf("%v, %s", err, e.Object)
	}
	synced := s.want("synced " + objects)
	if synced.Revision != f.revision() || synced.ID != fmt.Sprintf("1-%d", f.revision()) {
		t.Errorf("synced at %d with id %s, want %d", synced.Revision, synced.ID, f.revision())
	}
	f.apply(doc("shop", "p", "to: {service: payments}, timeout: {request: 2s}"))
	if e := s.want("put Policy shop/p"); !strings.Contains(string(e.Object), `"generation":2`) || e.ID != fmt.Sprintf("1-%d", f.revision()) {
		t.Errorf("id %s, %s", e.ID, e.Object)
	}
	f.want(http.StatusOK, "DELETE", "/api/v1/namespaces/shop/policies/p", "")
	if e := s.want("delete Policy shop/p"); e.Object != nil || e.ID != fmt.Sprintf("1-%d", f.revision()) {
		t.Errorf("%+v", e)
	}
	f.apply(doc("shop", "q", "to: {service: payments}, timeout: {request: 2s}") + guard("shop", "g"))
	one, other := s.next(), s.next()
	if got := say(one) + ", " + say(other); got != "put Policy shop/q, put Guardrail shop/g" && got != "put Guardrail shop/g, put Policy shop/q" {
		t.Errorf("got %s", got)
	}
	if one.ID != "" || other.ID == "" {
		t.Errorf("of one transaction the first has id %q, the last %q; want the last alone to have one", one.ID, other.ID)
	}
}

func guard(namespace, name string) string {
	return guardrail(namespace, name, "to: {service: '*'}, bounds: [{field: timeout.request, max: 5s}]")
}

// another is another replica over the same store.
func (f *fixture) another(change ...func(*apiserver.Config)) *fixture {
	f.t.Helper()
	other := &fixture{t: f.t, kv: f.kv, loop: reconcile.New(f.kv, hclog.NewNullLogger(), nil)}
	run(f.t, other.loop.Run)
	if err := other.loop.Wait(f.t.Context(), 1); err != nil {
		f.t.Fatal(err)
	}
	c := apiserver.Config{KV: f.kv, Worlds: other.loop, Version: "test", ReadWait: 200 * time.Millisecond}
	for _, edit := range change {
		edit(&c)
	}
	other.handler = apiserver.New(c)
	return other
}

func TestAWatchGoesOnAfterItsIDOnAnyReplica(t *testing.T) {
	f := newFixture(t)
	f.apply(service("payments", "") + doc("shop", "gone", "to: {service: payments}, timeout: {request: 1s}") + doc("shop", "back", "to: {service: payments}, retry: {numRetries: 1}"))
	other := f.another()
	first := watch(t, f.listening().URL, "", "")
	for e := first.next(); e.Change != api.Synced; e = first.next() {
	}
	_ = first.body.Close()

	f.want(http.StatusOK, "DELETE", "/api/v1/namespaces/shop/policies/gone", "")
	f.want(http.StatusOK, "DELETE", "/api/v1/namespaces/shop/policies/back", "")
	f.apply(doc("shop", "new", "to: {service: payments}, timeout: {request: 1s}"))
	f.apply(doc("shop", "back", "to: {service: payments}, retry: {numRetries: 2}"))
	for _, replica := range []*fixture{f, other} {
		if err := replica.loop.Wait(t.Context(), f.revision()); err != nil {
			t.Fatal(err)
		}
		s := watch(t, replica.listening().URL, "", first.last)
		s.want("delete Policy shop/gone")
		mid := s.want("put Policy shop/new")
		s.want("put Policy shop/back")
		end := s.want("synced " + objects)
		// From the middle: what went before is told once more at most, what came before is not.
		s = watch(t, replica.listening().URL, "", mid.ID)
		s.want("put Policy shop/back", "synced "+objects)
		// Nothing is new: that is all there is to say.
		s = watch(t, replica.listening().URL, "", end.ID)
		s.want("synced " + objects)
	}
	// A replica that began later does not know what went before.
	late := f.another()
	s := watch(t, late.listening().URL, "", first.last)
	s.want("resync "+objects+": the id is too old, or from before this replica began or the store was restored", "put Service shop/payments")
}

func TestAWatchThatCannotGoOnBeginsAnew(t *testing.T) {
	f := newFixture(t)
	f.apply(service("payments", ""))
	url := f.listening().URL
	for id, reason := range map[string]string{
		"yesterday": "the id is none of this API's", "1-x": "the id is none of this API's", "zz-4": "the id is none of this API's", "1--4": "the id is none of this API's",
		"2-2": "the id is of another store",
		"1-9": "the store went back: it has not come as far as the id",
	} {
		s := watch(t, url, "", id)
		s.want("resync "+objects+": "+reason, "put Service shop/payments", "synced "+objects)
	}
	// A replica that lags behind the id says so: another one has seen it.
	ahead := newFixture(t, func(c *apiserver.Config) { c.KV = further{c.KV} })
	r := ahead.want(http.StatusGatewayTimeout, "GET", api.WatchPath, "", "Last-Event-ID: 1-9")
	if p := parse[api.Problem](t, r); p.Type != api.Late {
		t.Errorf("%+v, want it late", p)
	}
}

// further is a store that is further than anybody has seen.
type further struct{ store.KV }

func (further) Head(context.Context) (store.Head, error) {
	return store.Head{Revision: 1000, Cluster: 1}, nil
}

func TestAWatchThatIsOpenWhenTheStoreGoesBackBeginsAnew(t *testing.T) {
	f := newFixture(t)
	f.apply(service("payments", ""))
	snap, err := f.kv.List(t.Context(), "/")
	if err != nil {
		t.Fatal(err)
	}
	f.apply(service("billing", ""))
	url := f.listening().URL
	s := watch(t, url, "", "")
	s.want("resync "+objects+": a new watch", "put Service shop/billing", "put Service shop/payments", "synced "+objects)
	old := s.last
	f.kv.Restore(1, snap.Revision, snap.Entries)
	s.want("resync "+objects+": the store is another one, or went back", "put Service shop/payments", "synced "+objects)
	f.apply(service("email", ""))
	s.want("put Service shop/email")
	f.apply(service("sms", ""))
	s.want("put Service shop/sms")
	// The store has come as far as the old id again, and the id means something else by now.
	s = watch(t, url, "", old)
	s.want("resync " + objects + ": the id is too old, or from before this replica began or the store was restored")
}

func TestAWatchTellsWhatIsAskedFor(t *testing.T) {
	f := newFixture(t)
	f.apply(service("payments", "") + doc("shop", "p", "to: {service: payments}, timeout: {request: 1s}") + guard("shop", "g") + guard("bank", "g"))
	url := f.listening().URL
	watch(t, url, "?kinds=guardrails&namespace=bank", "").want("resync guardrails: a new watch", "put Guardrail bank/g", "synced guardrails")
	watch(t, url, "?kinds=policies,policies", "").want("resync policies: a new watch", "put Policy shop/p", "synced policies")
	s := watch(t, url, "?namespace=bank", "")
	s.want("resync "+objects+": a new watch", "put Guardrail bank/g", "synced "+objects)
	f.want(http.StatusOK, "DELETE", "/api/v1/namespaces/shop/policies/p", "")
	f.want(http.StatusOK, "DELETE", "/api/v1/namespaces/bank/guardrails/g", "")
	s.want("delete Guardrail bank/g")

	for query, fields := range map[string][]string{
		"?kinds=policys":                {`"policys" can't be watched: want some of policies, guardrails, services, proxies, delivery`},
		"?kinds=policies,,endpoints":    {`"" can't be watched`, `"endpoints" can't be watched`},
		"?namespace=Shop":               {"query.namespace"},
		"?kind=policies":                {"kind"},
		"?kinds=policies&kinds=proxies": {"query.kinds"},
	} {
		r := f.want(http.StatusUnprocessableEntity, "GET", api.WatchPath+query, "")
		text := strings.ReplaceAll(r.body, `\"`, `"`)
		for _, want := range fields {
			if !strings.Contains(text, want) {
				t.Errorf("%s: %s; want %s", query, text, want)
			}
		}
	}
	f.want(http.StatusForbidden, "GET", api.WatchPath, "", "Host: evil.example")
}

func TestAQuietWatchBeatsAndMovesItsIDOn(t *testing.T) {
	f := newFixture(t, func(c *apiserver.Config) { c.WatchBeat = 150 * time.Millisecond })
	f.apply(service("payments", ""))
	s := watch(t, f.listening().URL, "?kinds=policies", "")
	s.want("resync policies: a new watch", "synced policies")
	f.apply(service("billing", "")) // nobody asked for it
	want := fmt.Sprintf("1-%d", f.revision())
	for n := 0; s.last != want || n < 4; n++ { // the last ones come after the request's own time is over
		if fields := s.block(); fields == nil || fields["data"] != "" {
			t.Fatalf("got %v, want a beat", fields)
		}
	}
}

// pipes is a listener of connections in memory, which hold nothing: what is not read is not written.
type pipes struct {
	net.Listener
	conns chan net.Conn
}

func (p pipes) Accept() (net.Conn, error) {
	if conn, ok := <-p.conns; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}

func (p pipes) Close() error { return nil }

func TestAWatcherThatDoesNotReadIsCutOffAndHoldsUpNobody(t *testing.T) {
	cut := make(chan string, 1000)
	f := newFixture(t, func(c *apiserver.Config) {
		c.WatchPatience = 300 * time.Millisecond
		c.Log = hclog.New(&hclog.LoggerOptions{Level: hclog.Debug, Output: lineWriter(cut)})
	})
	f.apply(service("payments", ""))
	server := f.listening()
	p := pipes{server.Listener, make(chan net.Conn, 1)}
	slow := &http.Server{Handler: f.handler}
	go func() { _ = slow.Serve(p) }()
	defer slow.Close()
	defer close(p.conns)
	mine, its := net.Pipe()
	defer mine.Close()
	p.conns <- its
	fmt.Fprintf(mine, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", api.WatchPath)
	for text := ""; !strings.Contains(text, "event: synced"); { // it has been told all there is; from now on it does not read
		part := make([]byte, 1000)
		n, err := mine.Read(part)
		if err != nil {
			t.Fatal(err)
		}
		text += string(part[:n])
	}
	reader := watch(t, server.URL, "?kinds=policies", "")
	reader.want("resync policies: a new watch", "synced policies")
	for i := range 3 {
		f.apply(doc("shop", "p", fmt.Sprintf("to: {service: payments}, timeout: {request: %ds}", i+1)))
		reader.want("put Policy shop/p")
	}
	for line := range cut {
		if strings.Contains(line, "a watch ended in the middle") {
			break
		}
	}
	_ = mine.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.Copy(io.Discard, mine); err != nil {
		t.Errorf("%v; want the end of the connection", err)
	}
}

// lineWriter hands on what is written, and drops what nobody takes.
type lineWriter chan string

func (w lineWriter) Write(b []byte) (int, error) {
	select {
	case w <- string(b):
	default:
	}
	return len(b), nil
}

// roll is a book of some proxies.
type roll struct {
	ledger
	list []api.Proxy
}

func (r *roll) Proxies() []api.Proxy {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]api.Proxy(nil), r.list...)
}

func (r *roll) connect(list ...api.Proxy) {
	r.mu.Lock()
	r.list = list
	proxies := r.proxies
	r.mu.Unlock()
	r.set(proxies...)
}

func TestAWatchOfProxiesAndDeliveries(t *testing.T) {
	book := &roll{}
	f := newFixture(t, func(c *apiserver.Config) { c.Book = book })
	f.apply(service("payments", "") + doc("shop", "p", "to: {service: payments}, timeout: {request: 1s}"))
	one, two := api.Proxy{ID: "orders-1", Namespace: "shop", Service: "orders"}, api.Proxy{ID: "web-1", Namespace: "bank", Service: "web"}
	book.connect(one, two)
	url := f.listening().URL
	s := watch(t, url, "?kinds=policies,proxies,delivery", "")
	s.want("resync policies,proxies,delivery: a new watch", "put Policy shop/p", "put Proxy bank/web-1", "put Proxy shop/orders-1", "put Policy Delivery shop/p")
	s.want("synced policies,proxies,delivery")
	shop := watch(t, url, "?kinds=proxies&namespace=shop", "")
	shop.want("resync proxies: a new watch", "put Proxy shop/orders-1", "synced proxies")

	// A proxy changes, another one goes, a delivery goes on.
	one.Version = "1.40.0"
	book.connect(one)
	s.want("delete Proxy bank/web-1")
	if e := s.want("put Proxy shop/orders-1"); !strings.Contains(string(e.Object), `"version":"1.40.0"`) {
		t.Errorf("%s", e.Object)
	}
	shop.want("put Proxy shop/orders-1")
	for _, state := range []api.DeliveryState{api.DeliveryPending, api.DeliveryAcked} {
		book.set(api.ProxyDelivery{ID: "orders-1", Namespace: "shop", Service: "orders", State: state})
		e := s.want("put Policy Delivery shop/p")
		var d api.Delivery
		if err := json.Unmarshal(e.Object, &d); err != nil || d.State != state || d.Revision != e.Revision {
			t.Errorf("%v, %s; want it %s", err, e.Object, state)
		}
	}
	f.apply(doc("shop", "q", "to: {service: payments}, retry: {numRetries: 1}"))
	s.want("put Policy shop/q", "put Policy Delivery shop/q")
	f.want(http.StatusOK, "DELETE", "/api/v1/namespaces/shop/policies/p", "")
	s.want("delete Policy shop/p", "delete Policy Delivery shop/p")

	// These have no history: who comes back is told all of them.
	s = watch(t, url, "?kinds=policies,proxies,delivery", s.last)
	s.want("resync proxies,delivery: no id says what was told of these", "put Proxy shop/orders-1", "put Policy Delivery shop/q", "synced policies,proxies,delivery")
}

func TestManyWatchesOfProxiesTakeOnePicture(t *testing.T) {
	book := &counted{}
	f := newFixture(t, func(c *apiserver.Config) { c.Book = book })
	url := f.listening().URL
	begun := time.Now()
	var all []*stream
	for range 10 {
		s := watch(t, url, "?kinds=proxies", "")
		s.want("resync proxies: a new watch", "put Proxy shop/a", "synced proxies")
		all = append(all, s)
	}
	for i := range 10 { // as many changes as there can be
		book.connect(api.Proxy{ID: "a", Namespace: "shop", Version: fmt.Sprint(i)})
		for _, s := range all {
			for e := s.want("put Proxy shop/a"); !strings.Contains(string(e.Object), fmt.Sprintf(`"version":"%d"`, i)); {
				e = s.want("put Proxy shop/a")
			}
		}
	}
	most := 2 + int(time.Since(begun)/(250*time.Millisecond))
	if n := book.taken(); n > most {
		t.Errorf("%d pictures were taken in %s, want %d at most", n, time.Since(begun), most)
	}
}

// counted is a roll that counts how often it is read.
type counted struct {
	roll
	reads int
}

func (c *counted) Proxies() []api.Proxy {
	list := c.roll.Proxies()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reads++
	if len(list) == 0 {
		list = []api.Proxy{{ID: "a", Namespace: "shop"}}
	}
	return list
}

func (c *counted) taken() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reads
}

func TestAStoppingServerEndsWatches(t *testing.T) {
	stopping := make(chan struct{})
	f := newFixture(t, func(c *apiserver.Config) { c.Stopping = stopping })
	s := watch(t, f.listening().URL, "?kinds=policies", "")
	s.want("resync policies: a new watch", "synced policies")
	close(stopping)
	s.want("the end")
}

func TestWatchesAreCounted(t *testing.T) {
	f := newFixture(t)
	server := f.listening()
	ctx, cancel := context.WithCancel(t.Context())
	var open sync.WaitGroup
	for range 256 {
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+api.WatchPath, nil)
		resp, err := http.DefaultClient.Do(req)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatal(err, resp)
		}
		open.Go(func() { _, _ = io.Copy(io.Discard, resp.Body); _ = resp.Body.Close() })
	}
	r := f.want(http.StatusServiceUnavailable, "GET", api.WatchPath, "")
	if p := parse[api.Problem](t, r); r.header.Get("Retry-After") == "" || !strings.Contains(p.Detail, "256 watches") {
		t.Errorf("%v %+v", r.header, p)
	}
	cancel()
	open.Wait()
}

// TestTheClientGoesOnElsewhere: the server is gone and another replica is in its place.
func TestTheClientGoesOnElsewhere(t *testing.T) {
	f := newFixture(t)
	f.apply(service("payments", ""))
	other := f.another()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	first := &http.Server{Handler: f.handler}
	go func() { _ = first.Serve(lis) }()
	c, err := client.New(lis.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	events, lost := make(chan string, 100), make(chan error, 100)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		done <- c.Watch(ctx, api.WatchQuery{Kinds: []string{api.Services}}, func(e api.Watched) error {
			events <- say(&e)
			return nil
		}, func(err error) { lost <- err })
	}()
	want := func(lines ...string) {
		t.Helper()
		for _, line := range lines {
			if got := <-events; got != line {
				t.Fatalf("got %q, want %q", got, line)
			}
		}
	}
	want("resync services: a new watch", "put Service shop/payments", "synced services")
	_ = first.Close()
	<-lost
	f.apply(service("billing", ""))
	if err := other.loop.Wait(t.Context(), f.revision()); err != nil {
		t.Fatal(err)
	}
	if lis, err = net.Listen("tcp", lis.Addr().String()); err != nil {
		t.Fatal(err)
	}
	second := &http.Server{Handler: other.handler}
	go func() { _ = second.Serve(lis) }()
	defer second.Close()
	want("put Service shop/billing", "synced services")
	cancel()
	if err := <-done; err == nil {
		t.Error("no error at the end of the context")
	}
	err = c.Watch(t.Context(), api.WatchQuery{Namespace: "Shop"}, func(api.Watched) error { return nil }, nil)
	if client.StatusOf(err) != http.StatusUnprocessableEntity {
		t.Errorf("%v, want the refusal", err)
	}
}

// TestAWatchOnEtcd moves from one replica to another over a real etcd, through a compaction.
func TestAWatchOnEtcd(t *testing.T) {
	cluster := etcdcluster.Start(t, 1)
	a, b := newReplica(t, cluster, 0), newReplica(t, cluster, 0)
	f, other := &fixture{t: t, loop: a.loop, handler: apiserver.New(a.config())}, &fixture{t: t, loop: b.loop, handler: apiserver.New(b.config())}
	for _, r := range []*replica{a, b} {
		if err := r.loop.Wait(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
	}
	f.apply(service("payments", "") + doc("shop", "p", "to: {service: payments}, timeout: {request: 1s}"))
	s := watch(t, f.listening().URL, "", "")
	s.want("resync "+objects+": a new watch", "put Service shop/payments", "put Policy shop/p", "synced "+objects)
	_ = s.body.Close()
	f.want(http.StatusOK, "DELETE", "/api/v1/namespaces/shop/policies/p", "")
	last := f.apply(doc("shop", "q", "to: {service: payments}, retry: {numRetries: 1}")).Revision
	if err := other.loop.Wait(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	s = watch(t, other.listening().URL, "", s.last)
	s.want("delete Policy shop/p", "put Policy shop/q", "synced "+objects)
	if !strings.HasSuffix(s.last, fmt.Sprint("-", last)) {
		t.Errorf("id %s, want it to end with revision %d", s.last, last)
	}
}
