package controlplane

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/breakwater-mesh/breakwater/pkg/settings"
	"github.com/breakwater-mesh/breakwater/pkg/telemetry"
)

// Command is the breakwater program. Its log goes to log.
func Command(log io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:           "breakwater",
		Short:         "Breakwater pushes resilience policies to every caller of a fleet",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return settings.UsageError{Err: fmt.Errorf("unknown command %q: want serve or version", args[0])}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return settings.UsageError{Err: err} })
	root.AddCommand(serveCommand(log), versionCommand())
	return root
}

func serveCommand(log io.Writer) *cobra.Command {
	config := Defaults()
	var file string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the control plane",
		Long: `Run the control plane: the API, the xDS server and, unless --etcd-endpoints is given, an embedded etcd.

Every flag can also be set by environment (BREAKWATER_LISTEN_XDS for --listen-xds) or in the YAML file of --config, by the flag's
name. A flag wins over the environment, and the environment over the file.`,
		Args: func(_ *cobra.Command, args []string) error { return settings.NoArguments(args) },
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := settings.Complete(cmd.Flags(), EnvPrefix, file, os.Getenv); err != nil {
				return settings.UsageError{Err: err}
			}
			if err := config.Validate(); err != nil {
				return settings.UsageError{Err: err}
			}
			logger, err := telemetry.NewLogger("breakwater", config.LogLevel, config.LogJSON, log)
			if err != nil {
				return settings.UsageError{Err: fmt.Errorf("--log-level: %w", err)}
			}
			telemetry.RouteGRPC(logger.Named("grpc"))
			return Run(cmd.Context(), config, logger)
		},
	}
	config.Flags(cmd.Flags())
	cmd.Flags().StringVar(&file, "config", os.Getenv(EnvPrefix+"CONFIG"), "YAML file with settings by flag name")
	return cmd
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		Run:   func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), telemetry.Version) },
	}
}
