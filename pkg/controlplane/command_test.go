package controlplane_test

import (
	"errors"
	"io"
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/controlplane"
	"github.com/breakwater-mesh/breakwater/pkg/settings"
)

func TestAnUnknownArgumentIsAUsageError(t *testing.T) {
	for _, args := range [][]string{{"serve", "now"}, {"now"}} {
		cmd := controlplane.Command(io.Discard)
		cmd.SetOut(io.Discard)
		cmd.SetArgs(args)
		if err := cmd.ExecuteContext(t.Context()); !errors.As(err, new(settings.UsageError)) {
			t.Errorf("%v: %v, want a usage error", args, err)
		}
	}
}
