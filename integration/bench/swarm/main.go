// Command swarm measures what a fleet costs the control plane: thousands of light xDS clients, one TCP connection each, in this
// process, against a server in another one. The control plane is measured beside two others that hold the same resources: bare
// grpc-go streams that send the bytes that it sent (the floor: nothing over grpc-go is cheaper), and go-control-plane's LinearCache
// behind a MuxCache. Server and clients share the cores, so that time on the wall says how long both take; what is compared is the
// CPU time of the server's process.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// settings are the flags.
type settings struct {
	clients  []int // how many, a cell each
	services []int
	dialects []string
	servers  []string
	callers  int // services that the clients belong to
	edits    int // of each kind, in each cell
	churn    time.Duration
	streams  int
	profile  string
	write    string
}

func main() {
	s := settings{clients: []int{1, 100, 1000, 10000}, services: []int{100, 1000}, dialects: []string{"delta"}, servers: []string{breakwaterName, floorName, linearName}}
	flag.Func("n", "clients, with commas between (default 1,100,1000,10000)", numbers(&s.clients))
	flag.Func("s", "services, with commas between (default 100,1000)", numbers(&s.services))
	flag.Func("dialect", "delta, sotw or both, with a comma between (default delta)", words(&s.dialects, "delta", "sotw"))
	flag.Func("server", "breakwater, floor, linear, with commas between; what the first sends is what the others need (default all)", words(&s.servers, breakwaterName, floorName, linearName))
	flag.IntVar(&s.callers, "callers", 10, "services that the clients belong to: each is a class")
	flag.IntVar(&s.edits, "edits", 0, "edits of each kind; 0: fewer the more clients there are")
	flag.DurationVar(&s.churn, "churn", time.Minute, "after the table, register endpoints for so long, with at most 1000 clients; 0: don't")
	flag.IntVar(&s.streams, "streams", 100_000, "at the end, open and close so many streams; 0: don't")
	flag.StringVar(&s.profile, "profile", "", "write profiles of the control plane, during storms, edits and churn, to this folder")
	flag.StringVar(&s.write, "write", "", "write the table to this file too, with how it was measured")
	flag.Parse()
	if err := run(s, flag.Arg(0)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run is one of the processes of the bench: a server to compare with or, where role is "", the swarm, which starts them all.
func run(s settings, role string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch role {
	case floorName:
		return serveChild(newFloor())
	case linearName:
		return serveChild(newLinear())
	case "":
		return measure(ctx, s)
	}
	return fmt.Errorf("%q: want no argument", role)
}

func numbers(to *[]int) func(string) error {
	return func(text string) error {
		*to = nil
		for word := range strings.SplitSeq(text, ",") {
			n, err := strconv.Atoi(word)
			if err != nil || n < 1 {
				return fmt.Errorf("%q is not a number above 0", word)
			}
			*to = append(*to, n)
		}
		return nil
	}
}

func words(to *[]string, known ...string) func(string) error {
	return func(text string) error {
		*to = strings.Split(text, ",")
		for _, word := range *to {
			if !strings.Contains(","+strings.Join(known, ",")+",", ","+word+",") {
				return fmt.Errorf("%q: want some of %s", word, strings.Join(known, ", "))
			}
		}
		return nil
	}
}
