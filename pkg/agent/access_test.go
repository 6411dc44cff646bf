package agent

import (
	"encoding/json"
	"errors"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/breakwater-mesh/breakwater/pkg/engine"
	"github.com/breakwater-mesh/breakwater/pkg/proxy"
)

// answered is a request that went well.
var answered = proxy.Access{
	Listener: "outbound", Start: time.Date(2026, 11, 27, 16, 47, 50, 240_600_000, time.UTC), Duration: 21*time.Millisecond + 900*time.Microsecond,
	Method: "GET", Path: `/a?q="ü"`, Authority: "payments", Protocol: "HTTP/1.1", RequestID: "id-1", UserAgent: "curl\\8", Status: 200,
	Details: "via_upstream", In: 3, Out: 2, Cluster: "shop/payments", Route: "all", Host: netip.MustParseAddrPort("127.0.0.1:19002"), Attempts: 2,
}

// TestAccessLinesAreEnvoys has the names and values that Envoy 1.40 writes with the same fields in its json_format.
func TestAccessLinesAreEnvoys(t *testing.T) {
	refused := proxy.Access{Start: answered.Start, Method: "GET", Path: "/b", Status: 404, Flags: engine.NR, Details: "route_not_found"}
	for want, a := range map[string]proxy.Access{
		`{"start_time":"2026-11-27T16:47:50.240Z","listener":"outbound","method":"GET","path":"/a?q=\"ü\"","protocol":"HTTP/1.1","response_code":200,` +
			`"response_flags":"-","response_code_details":"via_upstream","grpc_status":null,"bytes_received":3,"bytes_sent":2,"duration":21,` +
			`"upstream_host":"127.0.0.1:19002","upstream_cluster":"shop/payments","route_name":"all","attempts":2,"authority":"payments",` +
			`"x_request_id":"id-1","user_agent":"curl\\8","x_forwarded_for":null}`: answered,
		`{"start_time":"2026-11-27T16:47:50.240Z","listener":null,"method":"GET","path":"/b","protocol":null,"response_code":404,` +
			`"response_flags":"NR","response_code_details":"route_not_found","grpc_status":null,"bytes_received":0,"bytes_sent":0,"duration":0,` +
			`"upstream_host":null,"upstream_cluster":null,"route_name":null,"attempts":0,"authority":null,` +
			`"x_request_id":null,"user_agent":null,"x_forwarded_for":null}`: refused,
	} {
		got := string(appendAccess(nil, &a))
		if got != want+"\n" {
			t.Errorf("got  %swant %s", got, want)
		}
		if !json.Valid([]byte(got)) {
			t.Errorf("no JSON: %s", got)
		}
	}
}

// accessLogFor runs an access log into a file; stop ends it.
func accessLogFor(t *testing.T) (l *accessLog, path string, stop func()) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "access.log")
	l, err := openAccessLog(path, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		l.Run(end)
		close(ended)
	}()
	return l, path, func() {
		close(end)
		<-ended
	}
}

func lines(t *testing.T, path string) int {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return strings.Count(string(data), "\n")
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

func TestTheAccessLogIsWrittenSoonReopenedAndFlushedAtTheEnd(t *testing.T) {
	l, path, stop := accessLogFor(t)
	l.record(answered)
	eventually(t, "a line is in the file", func() bool { return lines(t, path) == 1 })
	rotated := path + ".1"
	if err := os.Rename(path, rotated); err != nil {
		t.Fatal(err)
	}
	l.Reopen()
	eventually(t, "the file is there again", func() bool { _, err := os.Stat(path); return err == nil })
	l.record(answered)
	l.record(answered)
	stop()
	if old, fresh := lines(t, rotated), lines(t, path); old != 1 || fresh != 2 {
		t.Errorf("%d lines in the rotated file and %d in the new one, want 1 and 2", old, fresh)
	}
}

func TestTheAccessLogDropsWhatIsTooMuchAndSaysSo(t *testing.T) {
	l, err := openAccessLog(filepath.Join(t.TempDir(), "log"), hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	for range accessQueue + 7 { // nobody writes yet
		l.record(answered)
	}
	end := make(chan struct{})
	close(end)
	l.Run(end)
	got := map[string]int64{}
	l.stats(func(name string, n int64) { got[name] = n })
	if want := map[string]int64{"access_log.written": accessQueue, "access_log.dropped": 7, "access_log.failed": 0}; !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestAnAccessLogOutlivesADiskThatIsFull has the device that is always full.
func TestAnAccessLogOutlivesADiskThatIsFull(t *testing.T) {
	l, err := openAccessLog("/dev/full", hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		l.Run(end)
		close(ended)
	}()
	l.record(answered)
	eventually(t, "the failure is counted", func() bool { return l.failed.Load() == 1 })
	l.record(answered)
	eventually(t, "the next one too", func() bool { return l.failed.Load() == 2 })
	close(end)
	<-ended
}

func TestAnAccessLogThatCannotBeOpenedSaysSo(t *testing.T) {
	if _, err := openAccessLog(filepath.Join(t.TempDir(), "absent", "log"), hclog.NewNullLogger()); err == nil {
		t.Error("a log in a directory that is not there was opened")
	}
	for _, name := range []string{"-", "stdout"} {
		if l, err := openAccessLog(name, hclog.NewNullLogger()); err != nil || l.path != "" {
			t.Errorf("%s: %v, want the standard output", name, err)
		}
	}
}

func BenchmarkAccessRecord(b *testing.B) {
	l, err := openAccessLog("/dev/null", hclog.NewNullLogger())
	if err != nil {
		b.Fatal(err)
	}
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		l.Run(end)
		close(ended)
	}()
	b.ReportAllocs()
	for b.Loop() {
		l.record(answered)
	}
	close(end)
	<-ended
	b.ReportMetric(float64(l.dropped.Load())/float64(b.N), "dropped/op")
}

func BenchmarkAccessLine(b *testing.B) {
	a := answered
	a.Path, a.UserAgent = "/a", "curl/8"
	var line []byte
	b.ReportAllocs()
	for b.Loop() {
		line = appendAccess(line[:0], &a)
	}
}
