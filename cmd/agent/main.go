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
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	if err := agent.Command(os.Stderr).ExecuteContext(ctx); err != nil {
		os.Exit(settings.Fail(os.Stderr, "breakwater-agent", err))
	}
}
