package agent

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/breakwater-mesh/breakwater/pkg/telemetry"
)

// Command is the breakwater-agent program. Its log goes to log.
func Command(log io.Writer) *cobra.Command {
	config := Defaults()
	cmd := &cobra.Command{
		Use:           "breakwater-agent",
		Short:         "Enforces Breakwater's policies on the calls of one application, without Envoy",
		Args:          cobra.NoArgs,
		Version:       telemetry.Version,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := config.Validate(); err != nil {
				return err
			}
			logger, err := telemetry.NewLogger("breakwater-agent", config.LogLevel, config.LogJSON, log)
			if err != nil {
				return fmt.Errorf("--log-level: %w", err)
			}
			telemetry.RouteGRPC(logger.Named("grpc"))
			return Run(cmd.Context(), config, logger)
		},
	}
	config.Flags(cmd.Flags())
	return cmd
}
