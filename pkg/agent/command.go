package agent

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/breakwater-mesh/breakwater/pkg/settings"
	"github.com/breakwater-mesh/breakwater/pkg/telemetry"
)

// Command is the breakwater-agent program. Its log goes to log.
func Command(log io.Writer) *cobra.Command {
	config := Defaults()
	var file string
	var check bool
	cmd := &cobra.Command{
		Use:   "breakwater-agent --xds HOST:PORT[,HOST:PORT] --service NAME --node-id ID",
		Short: "Enforces Breakwater's policies on the calls of one application, without Envoy",
		Long: `Enforces Breakwater's policies on the calls of one application, without Envoy.

The application calls through --listen-outbound and names the service that it wants in the Host header. What is to be enforced comes
from the control plane of --xds, and is kept in --state-dir, from where the agent serves when no control plane can be reached.

Every flag can also be set by environment (BREAKWATER_AGENT_XDS for --xds) or in the YAML file of --config, by the flag's name. A
flag wins over the environment, and the environment over the file; "bwctl bootstrap agent" writes such a file.

SIGTERM lets requests under way finish and ends the agent, a second one ends it at once; SIGHUP and SIGUSR1 reopen the access log.`,
		Example: `  breakwater-agent --xds 127.0.0.1:18000 --namespace shop --service orders --node-id orders-1
  bwctl bootstrap agent --xds 127.0.0.1:18000 -n shop --service orders --node-id orders-1 > agent.yaml
  breakwater-agent --config agent.yaml --check && breakwater-agent --config agent.yaml`,
		Args:          func(_ *cobra.Command, args []string) error { return settings.NoArguments(args) },
		Version:       telemetry.Version,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := settings.Complete(cmd.Flags(), EnvPrefix, file, os.Getenv); err != nil {
				return settings.UsageError{Err: err}
			}
			logger, err := prepare(&config, log)
			if err != nil {
				return settings.UsageError{Err: err}
			}
			if check {
				if err := config.checkPlaces(); err != nil {
					return settings.UsageError{Err: err}
				}
				fmt.Fprintln(cmd.OutOrStdout(), "the settings are sound")
				return nil
			}
			telemetry.RouteGRPC(logger.Named("grpc"))
			return Run(cmd.Context(), config, logger)
		},
	}
	config.Flags(cmd.Flags())
	cmd.Flags().StringVar(&file, "config", os.Getenv(settings.Env(EnvPrefix, "config")), "YAML file with settings by flag name")
	cmd.Flags().BoolVar(&check, "check", false, "check the settings and end: with 0 where they are sound, with 2 where they are not")
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return settings.UsageError{Err: err} })
	cmd.SetVersionTemplate("{{.Version}}\n")
	cmd.AddCommand(versionCommand())
	return cmd
}

// prepare checks config and makes the log that it asks for.
func prepare(config *Config, log io.Writer) (hclog.Logger, error) {
	logger, err := telemetry.NewLogger("breakwater-agent", config.LogLevel, config.LogJSON, log)
	if err != nil {
		err = fmt.Errorf("--log-level: %w", err)
	}
	return logger, errors.Join(config.Validate(), err)
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		Run:   func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), telemetry.Version) },
	}
}
