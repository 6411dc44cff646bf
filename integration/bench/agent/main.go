// Command agent measures what a request costs in the proxy's process: the agent beside a real Envoy with the same resources from the
// same control plane, and beside a bare httputil.ReverseProxy. The proxy has one core, upstream and load the other; what is compared
// is CPU time per request, which a busy machine disturbs less than time on the wall.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// settings are the flags.
type settings struct {
	rounds      int
	window      time.Duration // of one measurement
	connections int           // idle ones
	rate        int           // requests a second, where latency is measured
	most        float64       // of the agent's CPU per request, as a multiple of the bare proxy's; 0: any
	only        string        // of the workloads, by name; "" is all
}

func main() {
	var s settings
	flag.IntVar(&s.rounds, "rounds", 5, "rounds, each with another order of the proxies")
	flag.DurationVar(&s.window, "window", 2*time.Second, "length of one measurement")
	flag.IntVar(&s.connections, "idle", 2000, "idle connections whose memory is measured")
	flag.IntVar(&s.rate, "rate", 1000, "requests a second where latency is measured")
	flag.Float64Var(&s.most, "most", 0, "fail where the agent takes more than this multiple of the bare proxy for a small request; 0 never does")
	flag.StringVar(&s.only, "only", "", "measure this workload alone")
	flag.Parse()
	if err := run(s, flag.Arg(0)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run is one of the processes of the bench: an upstream, a bare proxy, or, where role is "", the one that starts and loads them all.
func run(s settings, role string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch role {
	case "upstream":
		return serveUpstream(ctx)
	case "bare":
		return serveBare(ctx, flag.Arg(1), flag.Arg(2))
	case "":
		return measure(ctx, s)
	}
	return fmt.Errorf("%q: want no argument", role)
}
