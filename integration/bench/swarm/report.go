package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// output is where the table goes.
var output io.Writer = os.Stdout

const results = `# What a fleet costs
Written by "make bench-swarm BENCH_FLAGS='-write RESULTS.md'", on %d cores, on %s. N clients, each one TCP connection, are configured by a server in another
process that holds S services; then one policy is edited again and again. Servers: breakwater; the floor, bare grpc-go streams that
send the same bytes; linear, go-control-plane's LinearCache behind a MuxCache.

- storm: from the first connection until the last client has everything; CPU ms is the server's, a client; x floor is that cost as a multiple of the floor's
- KiB resident: by how much an idle client makes the server's process larger; in use: its heap and stacks alone, after a collection
- an edit of a route, a limit (runtime), a cluster, or of every route of the namespace (wide): p50 and p99 of the time from the write's
  answer until the last client has it; CPU us of the server a client and edit, without what the edit takes with one client (alone ms)

`

// write has the table written to a file too.
func write(file string) (closed func() error, err error) {
	f, err := os.Create(file)
	if err != nil {
		return nil, err
	}
	output = io.MultiWriter(os.Stdout, f)
	_, err = fmt.Fprintf(f, results, runtime.NumCPU(), time.Now().UTC().Format(time.DateOnly))
	return f.Close, err
}

// head prints the head of the table, which is Markdown.
func head() {
	columns := []string{"N", "S", "dialect", "server", "storm s", "CPU ms", "x floor", "KiB sent", "KiB resident", "KiB in use"}
	for _, k := range kinds {
		columns = append(columns, k.name+" p50 ms", "p99 ms", "CPU us", "x floor", "KiB sent", "alone ms")
	}
	row(columns...)
	row(slices.Repeat([]string{"---:"}, len(columns))...)
}

func row(columns ...string) { fmt.Fprintln(output, "| "+strings.Join(columns, " | ")+" |") }

// print prints one line of the table; floor, which may be nil, is the floor of its cell.
func (c *cell) print(floor *cell) {
	columns := []string{fmt.Sprint(c.clients), fmt.Sprint(c.services), c.dialect, c.server}
	if c.failed != nil {
		row(append(columns, c.failed.Error())...)
		return
	}
	columns = append(columns,
		fmt.Sprintf("%.2f", c.took.Seconds()), fmt.Sprintf("%.2f", c.cpu/1000), times(c, floor, func(c *cell) float64 { return c.cpu }),
		kibi(c.sent), kibi(c.resident), kibi(c.inUse))
	for _, k := range kinds {
		e := c.edits[k.name]
		columns = append(columns, millis(percentile(e.last, 50)), millis(percentile(e.last, 99)), each(c, e.cpu),
			times(c, floor, func(c *cell) float64 { return c.edits[k.name].cpu }), kibi(e.sent), fmt.Sprintf("%.2f", e.alone))
	}
	row(columns...)
}

// fleet is how many clients there must be, for what each costs to be told from chance.
const fleet = 100

func each(c *cell, us float64) string {
	if c.clients < fleet {
		return ""
	}
	return fmt.Sprintf("%.1f", us)
}

// times is how often the floor's cost goes into that of c.
func times(c, floor *cell, cost func(*cell) float64) string {
	if floor == nil || c.clients < fleet {
		return ""
	}
	return fmt.Sprintf("%.2f", cost(c)/cost(floor))
}

func kibi(n int64) string { return fmt.Sprintf("%.1f", float64(n)/1024) }

func millis(d time.Duration) string { return fmt.Sprintf("%.2f", float64(d.Microseconds())/1000) }

func percentile(d []time.Duration, p int) time.Duration {
	sorted := slices.Sorted(slices.Values(d))
	return sorted[(len(sorted)*p+99)/100-1]
}

func (c *churned) print() {
	fmt.Fprintf(output, "\nChurn: %d endpoints registered, %.0f a second, N=%d, S=%d: from the acknowledgement until a client has it p50 %s ms, p99 %s ms, at most %s ms; "+
		"p99 of the last sixth %s ms; %d did not reach a client; the server took %.2f cores.\n",
		c.writes, c.rate, c.clients, c.services, millis(c.p50), millis(c.p99), millis(c.latest), millis(c.late99), c.missing, c.cpu)
}

func (t *turned) print() {
	fmt.Fprintf(output, "\nTurnover: %d streams opened, configured and closed, %d at once, S=%d, in %.0f s. In use without clients: before %s KiB and %d goroutines, after %s KiB and %d goroutines; "+
		"resident %s KiB and %s KiB.\n", t.streams, turnoverAtOnce, turnoverServices, t.took.Seconds(), kibi(int64(t.before.inUse)), t.before.goroutines, kibi(int64(t.after.inUse)), t.after.goroutines,
		kibi(t.before.resident), kibi(t.after.resident))
}
