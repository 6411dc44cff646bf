// Command breakwater is the control plane.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/breakwater-mesh/breakwater/pkg/controlplane"
	"github.com/breakwater-mesh/breakwater/pkg/settings"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	if err := controlplane.Command(os.Stderr).ExecuteContext(ctx); err != nil {
		os.Exit(settings.Fail(os.Stderr, "breakwater", err))
	}
}
