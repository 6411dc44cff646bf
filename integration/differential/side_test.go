package differential_test

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/integration/harness"
)

// The callers, and the sides: the one behind Envoy and the one behind the agent. They are of one length, as bytes are counted.
const left, right = "envoy", "agent"

// answer is one call as its sender saw it.
type answer struct {
	status  int
	header  http.Header
	body    string
	trailer http.Header
	early   []int  // informational responses before it
	cut     bool   // the body broke off
	err     string // no answer at all
	elapsed time.Duration
}

// side is one proxy while one scenario's traffic goes through it.
type side struct {
	t       *testing.T
	name    string // left or right
	service string
	cluster string   // whose statistics count
	further []string // statistics that count beside
	ignored []string // those of the cluster that don't

	unlogged bool // no access log counts
	proxy    *place
	up       *upstream
	dns      *harness.DNS // nil: there is none
	http     *http.Transport
	http2    *http.Transport // without TLS

	answers []answer
	held    []chan answer
	marks   []mark

	patience time.Duration   // with what a scenario waits for
	records  func() []record // of the access log; none under a policy
}

// mark is a moment that a scenario waited for, and how long that took.
type mark struct {
	what string
	took time.Duration
	vain bool // it never came
}

// place is where a proxy listens.
type place struct{ outbound, admin string }

// request is what a scenario sends; empty fields mean GET, "/", the service under test, no headers, no body.
type request struct {
	method, path, host, body string
	header                   map[string]string
	trailer                  map[string]string
	http2                    bool
	slow                     time.Duration // before the second half of the body
	patience                 time.Duration // after which the caller goes away; 0: that of its side
}

func (s *side) send(r request) { s.answers = append(s.answers, s.call(r)) }

func (s *side) get(n int) {
	for range n {
		s.send(request{})
	}
}

func (s *side) call(r request) answer {
	req := s.build(r)
	var early []int
	ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{Got1xxResponse: func(status int, _ textproto.MIMEHeader) error {
		early = append(early, status)
		return nil
	}})
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(r.patience, s.patience))
	defer cancel()
	transport := s.http
	if r.http2 {
		transport = s.http2
	}
	begun := time.Now()
	resp, err := transport.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return answer{err: err.Error(), early: early, elapsed: time.Since(begun)}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return answer{
		status: resp.StatusCode, header: resp.Header, body: string(body), trailer: resp.Trailer, early: early, cut: err != nil, elapsed: time.Since(begun),
	}
}

// halves is a body whose second half comes late.
type halves struct {
	parts []string
	wait  time.Duration
}

func (h *halves) Read(p []byte) (int, error) {
	if len(h.parts) == 0 {
		return 0, io.EOF
	}
	if len(h.parts) == 1 {
		time.Sleep(h.wait)
	}
	n := copy(p, h.parts[0])
	if h.parts[0] = h.parts[0][n:]; h.parts[0] == "" {
		h.parts = h.parts[1:]
	}
	return n, nil
}

func (s *side) build(r request) *http.Request {
	host := r.host
	if host == "" {
		host = s.service
	}
	method := r.method
	if method == "" {
		method = http.MethodGet
	}
	path := r.path
	if path == "" {
		path = "/"
	}
	var body io.Reader
	switch half := len(r.body) / 2; {
	case r.slow > 0:
		body = &halves{[]string{r.body[:half], r.body[half:]}, r.slow}
	case r.body != "":
		body = strings.NewReader(r.body)
	}
	req, err := http.NewRequest(method, "http://"+host+path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set(sideHeader, s.name)
	req.Header.Set("User-Agent", "differential")
	for name, value := range r.header {
		req.Header.Set(name, value)
	}
	for name, value := range r.trailer {
		req.ContentLength = -1 // HTTP/1 has trailers after chunks only
		req.Trailer = http.Header{}
		req.Trailer.Set(name, value)
	}
	return req
}

// hold sends n requests that the hosts hold, each once the one before has arrived.
func (s *side) hold(n int) {
	for range n {
		done := make(chan answer, 1)
		go func() { done <- s.call(request{}) }() // ends with free
		s.held = append(s.held, done)
		want := len(s.held)
		s.until(fmt.Sprintf("%d requests under way", want), func() bool { return s.up.activeOf(s.name) == want })
	}
}

// free lets the held requests be answered and takes their answers.
func (s *side) free() {
	s.up.free(s.name)
	for _, done := range s.held {
		s.answers = append(s.answers, <-done)
	}
	s.held = nil
}

// atOnce sends n requests together.
func (s *side) atOnce(n int) { s.together(n, request{}) }

func (s *side) together(n int, r request) {
	answers := make([]answer, n)
	var group sync.WaitGroup
	for i := range answers {
		group.Go(func() { answers[i] = s.call(r) })
	}
	group.Wait()
	s.answers = append(s.answers, answers...)
}

// impatient sends n requests together whose callers do not wait long.
func (s *side) impatient(n int) {
	s.together(n, request{patience: 600 * ms})
}

// until waits for something and says whether it came. What never comes to one side alone is a difference.
func (s *side) until(what string, ok func() bool) bool {
	late := time.NewTimer(s.patience)
	defer late.Stop()
	ticker := time.NewTicker(pace)
	defer ticker.Stop()
	for !ok() {
		select {
		case <-late.C:
			s.marks = append(s.marks, mark{what: what, vain: true})
			return false
		case <-ticker.C:
		}
	}
	return true
}

// pace is how often something is looked for. Envoy reads its statistics in the thread that ejects: asked all the time it does nothing else.
const pace = 50 * time.Millisecond

// statIs waits until a statistic of the service has the value, and notes how long that took.
func (s *side) statIs(name string, want int64) {
	begun := time.Now()
	what := fmt.Sprintf("%s = %d", name, want)
	if s.until(what, func() bool { return s.stats()[name] == want }) {
		s.marks = append(s.marks, mark{what: what, took: time.Since(begun)})
	}
}

// gaps waits for n checks of the first host after the next, and notes the time from each to the one after.
func (s *side) gaps(n int) {
	s.until(fmt.Sprintf("%d checks", n), func() bool { return len(s.up.checkTimes(s.name)) > n })
	times := s.up.checkTimes(s.name)
	for i := range min(n, len(times)-1) {
		s.marks = append(s.marks, mark{what: fmt.Sprintf("check %d", i+2), took: times[i+1].Sub(times[i])})
	}
}

// reachesOnly waits until warm requests reach none but the first n hosts.
func (s *side) reachesOnly(n int) {
	s.until(fmt.Sprintf("only %d hosts are reached", n), func() bool {
		before := s.up.warmed(s.name)
		for range 2 * len(before) {
			s.call(request{path: warmPath})
		}
		for i, count := range s.up.warmed(s.name) {
			if (count > before[i]) != (i < n) {
				return false
			}
		}
		return true
	})
}

// stats are the statistics of the service's cluster, without the prefix.
func (s *side) stats() map[string]int64 {
	stats, err := s.proxy.stats("cluster." + s.cluster + ".")
	if err != nil {
		s.t.Error(err)
	}
	return stats
}

// beside are the statistics that count beside the cluster's; what a proxy has none of counts as 0.
func (s *side) beside() map[string]int64 {
	picked := map[string]int64{}
	for _, name := range s.further {
		whole := strings.ReplaceAll(name, "$NAME", s.service)
		at := strings.LastIndexByte(whole, '.') + 1
		stats, err := s.proxy.stats(whole[:at])
		if err != nil {
			s.t.Error(err)
		}
		picked[name] = stats[whole[at:]]
	}
	return picked
}

// rest lets time pass.
func (s *side) rest(d time.Duration) {
	begun := time.Now()
	s.until("time has passed", func() bool { return time.Since(begun) >= d })
}

// settled are the statistics once two readings agree: the last counts come a moment after the answer.
func (s *side) settled() map[string]int64 {
	last := pick(s.stats(), s.ignored)
	s.until("statistics at rest", func() bool {
		next := pick(s.stats(), s.ignored)
		same := fmt.Sprint(next) == fmt.Sprint(last)
		last = next
		return same
	})
	return last
}

var adminClient = &http.Client{Timeout: patience}

func (p *place) stats(prefix string) (map[string]int64, error) {
	resp, err := adminClient.Get("http://" + p.admin + "/stats?usedonly&filter=" + url.QueryEscape("^"+regexp.QuoteMeta(prefix)))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	stats := map[string]int64{}
	for line := range strings.Lines(string(text)) {
		name, ok := strings.CutPrefix(strings.TrimSpace(line), prefix)
		if !ok {
			continue
		}
		name, value, _ := strings.Cut(name, ": ")
		if n, err := strconv.ParseInt(value, 10, 64); err == nil {
			stats[name] = n
		}
	}
	return stats, nil
}

// transport sends all to one address, by HTTP/1.1 or by HTTP/2 without TLS.
func transport(address string, http2 bool) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!http2)
	protocols.SetUnencryptedHTTP2(http2)
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", address)
	}
	return &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true, DialContext: dial, Protocols: protocols}
}
