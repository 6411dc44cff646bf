package agent

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"strconv"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/hashicorp/go-hclog"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/proxy"
)

const (
	accessQueue = 4096                   // records that wait for the writer
	accessDelay = 100 * time.Millisecond // how long a line may stay in memory
)

// accessLog writes a JSON line for each request. Run owns its goroutine; record is called by the data path and never waits: what the
// writer can't keep up with is counted and dropped.
type accessLog struct {
	path    string // "": the standard output
	log     hclog.Logger
	records chan proxy.Access
	reopen  chan struct{}
	file    io.WriteCloser // of Run's goroutine

	written, dropped, failed atomic.Int64
}

// openAccessLog opens path for appending. "-" and "stdout" are the standard output.
func openAccessLog(path string, log hclog.Logger) (*accessLog, error) {
	if path == "-" || path == "stdout" {
		path = ""
	}
	l := &accessLog{path: path, log: log, records: make(chan proxy.Access, accessQueue), reopen: make(chan struct{}, 1)}
	var err error
	l.file, err = l.open()
	return l, err
}

func (l *accessLog) open() (io.WriteCloser, error) {
	if l.path == "" {
		return noClose{os.Stdout}, nil
	}
	return os.OpenFile(l.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
}

type noClose struct{ io.Writer }

func (noClose) Close() error { return nil }

// record hands a request over to the writer.
func (l *accessLog) record(a proxy.Access) {
	select {
	case l.records <- a:
	default:
		l.dropped.Add(1)
	}
}

// Reopen makes the writer open the file anew, as it was renamed.
func (l *accessLog) Reopen() {
	select {
	case l.reopen <- struct{}{}:
	default: // it is about to
	}
}

func (l *accessLog) stats(yield func(name string, value int64)) {
	yield("access_log.written", l.written.Load())
	yield("access_log.dropped", l.dropped.Load())
	yield("access_log.failed", l.failed.Load())
}

// Run writes until stop is closed, then what was recorded by then.
func (l *accessLog) Run(stop <-chan struct{}) {
	out := bufio.NewWriterSize(l.file, 64<<10)
	flush := time.NewTicker(accessDelay)
	defer flush.Stop()
	var line []byte
	for {
		select {
		case a := <-l.records:
			line = appendAccess(line[:0], &a)
			l.wrote(out.Write(line))
		case <-flush.C:
			l.flush(out)
		case <-l.reopen:
			l.flush(out)
			l.swap(out)
		case <-stop:
			for len(l.records) > 0 {
				a := <-l.records
				line = appendAccess(line[:0], &a)
				l.wrote(out.Write(line))
			}
			l.flush(out)
			_ = l.file.Close()
			return
		}
	}
}

func (l *accessLog) wrote(_ int, err error) {
	if err != nil {
		l.failed.Add(1)
		return
	}
	l.written.Add(1)
}

// flush forgets what could not be written: a disk that has room again is written to again.
func (l *accessLog) flush(out *bufio.Writer) {
	if err := out.Flush(); err != nil {
		l.failed.Add(1)
		l.log.Error("lines of the access log are lost", "error", err)
		out.Reset(l.file)
	}
}

func (l *accessLog) swap(out *bufio.Writer) {
	file, err := l.open()
	if err != nil {
		l.log.Error("the access log can't be opened again; the old file is written on", "error", err)
		return
	}
	_ = l.file.Close()
	l.file = file
	out.Reset(file)
}

// appendAccess adds a line with Envoy's names and values: what is not there is null.
func appendAccess(b []byte, a *proxy.Access) []byte {
	b = append(b, `{"start_time":"`...)
	b = a.Start.UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z")
	b = append(b, '"')
	text := func(name, value string) {
		b = append(append(append(b, `,"`...), name...), `":`...)
		b = appendText(b, value)
	}
	number := func(name string, value int64) {
		b = append(append(append(b, `,"`...), name...), `":`...)
		b = strconv.AppendInt(b, value, 10)
	}
	text("listener", a.Listener)
	text("method", a.Method)
	text("path", a.Path)
	text("protocol", a.Protocol)
	number("response_code", int64(a.Status))
	text("response_flags", a.Flags.String())
	text("response_code_details", a.Details)
	text("grpc_status", a.GRPCStatus)
	number("bytes_received", a.In)
	number("bytes_sent", a.Out)
	number("duration", a.Duration.Milliseconds())
	switch {
	case !a.Host.IsValid():
		b = append(b, `,"upstream_host":null`...)
	case a.Host.Addr().Zone() != "": // perhaps a listener of this process
		text("upstream_host", dataplane.AddressText(a.Host))
	default:
		b = append(b, `,"upstream_host":`...)
		b = append(a.Host.AppendTo(append(b, '"')), '"')
	}
	text("upstream_cluster", a.Cluster)
	text("route_name", a.Route)
	number("attempts", int64(a.Attempts))
	text("authority", a.Authority)
	text("x_request_id", a.RequestID)
	text("user_agent", a.UserAgent)
	text("x_forwarded_for", a.ForwardedFor)
	return append(b, "}\n"...)
}

// appendText adds s as JSON, null where it is "".
func appendText(b []byte, s string) []byte {
	if s == "" {
		return append(b, "null"...)
	}
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			quoted, _ := json.Marshal(s) // of a string it can't fail
			return append(b, quoted...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}
