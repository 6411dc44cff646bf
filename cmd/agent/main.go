// Command agent is breakwater-agent: the policies on a host without Envoy.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/breakwater-mesh/breakwater/pkg/agent"
	"github.com/breakwater-mesh/breakwater/pkg/settings"
)

func main() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		signal.Stop(signals) // before anything drains: a second signal ends the program at once
		cancel()
	}()
	if err := agent.Command(os.Stderr).ExecuteContext(ctx); err != nil {
		os.Exit(settings.Fail(os.Stderr, "breakwater-agent", err))
	}
}
