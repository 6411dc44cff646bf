package cli

import (
	"net"

	"github.com/spf13/cobra"

	"github.com/breakwater-mesh/breakwater/pkg/envoy/bootstrap"
)

func (a *app) bootstrapCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "bootstrap", Short: "Write the configuration a proxy starts with",
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("%s: want envoy, grpc or agent", args[0])
			}
			return usagef("want envoy, grpc or agent")
		},
	}
	cmd.AddCommand(a.bootstrapEnvoyCommand(), a.bootstrapGRPCCommand(), a.bootstrapAgentCommand())
	return cmd
}

func (a *app) bootstrapEnvoyCommand() *cobra.Command {
	var o bootstrap.Options
	cmd := &cobra.Command{
		Use:   "envoy --service NAME --node-id ID [--xds HOST:PORT[,HOST:PORT]]",
		Short: "Write the bootstrap of an Envoy to the standard output",
		Example: `  bwctl bootstrap envoy --xds 127.0.0.1:18000 -n shop --service orders --node-id orders-1 > envoy.yaml
  envoy -c envoy.yaml`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return a.printBootstrap(bootstrap.Envoy, o) },
	}
	whose(cmd, &o, "Envoy's", bootstrap.DefaultAdmin)
	cmd.Flags().BoolVar(&o.Ejections, "report-ejections", false, "tell the control plane how many hosts are ejected, for dry runs; needs Envoy 1.37")
	cmd.Flags().StringVar(&o.Profile, "profile", "sidecar", "sidecar, or clusters-only where the listeners and routes are the owner's")
	return cmd
}

func (a *app) bootstrapAgentCommand() *cobra.Command {
	var o bootstrap.Options
	cmd := &cobra.Command{
		Use:   "agent --service NAME --node-id ID [--xds HOST:PORT[,HOST:PORT]]",
		Short: "Write the settings of a breakwater-agent to the standard output",
		Example: `  bwctl bootstrap agent --xds 127.0.0.1:18000 -n shop --service orders --node-id orders-1 > agent.yaml
  breakwater-agent --config agent.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.NoState = cmd.Flags().Changed("state-dir") && o.StateDir == ""
			return a.printBootstrap(bootstrap.Agent, o)
		},
	}
	whose(cmd, &o, "the agent's", bootstrap.DefaultAgentAdmin)
	cmd.Flags().StringVar(&o.StateDir, "state-dir", "", "directory of the agent's last known good configuration; '' keeps none (default: the agent's own)")
	cmd.Flags().StringVar(&o.Advertise, "advertise", "", "register the application as an endpoint of its service, at this IP:PORT")
	return cmd
}

func (a *app) bootstrapGRPCCommand() *cobra.Command {
	var o bootstrap.Options
	cmd := &cobra.Command{
		Use:   "grpc --service NAME --node-id ID [--xds HOST:PORT[,HOST:PORT]]",
		Short: "Write the bootstrap of a proxyless gRPC client to the standard output",
		Long: "Write the bootstrap of a proxyless gRPC client to the standard output. The program dials xds:///SERVICE.NAMESPACE.\n\n" +
			"Of several control planes give it one name that leads to all: of a list of addresses gRPC leaves the first only where it lacks a resource.",
		Example: `  bwctl bootstrap grpc --xds 127.0.0.1:18000 -n shop --service orders --node-id orders-1 > grpc.json
  GRPC_XDS_BOOTSTRAP=grpc.json ./orders`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return a.printBootstrap(bootstrap.GRPC, o) },
	}
	who(cmd, &o)
	return cmd
}

// whose are the flags that every kind of proxy with listeners has.
func whose(cmd *cobra.Command, o *bootstrap.Options, owner, admin string) {
	who(cmd, o)
	flags := cmd.Flags()
	flags.StringVar(&o.Admin, "listen-admin", "", "address of "+owner+" admin interface (default "+admin+")")
	flags.BoolVar(&o.Edge, "edge", false, "callers are outside: what they say of their deadline is dropped")
	flags.StringVar(&o.Outbound, "listen-outbound", "", "address the application calls through (default "+bootstrap.DefaultOutbound+")")
}

// who are the flags that every kind of proxy has.
func who(cmd *cobra.Command, o *bootstrap.Options) {
	flags := cmd.Flags()
	flags.StringSliceVar(&o.XDS, "xds", []string{net.JoinHostPort("127.0.0.1", "18000")}, "xDS addresses of the control plane")
	flags.StringVar(&o.Service, "service", "", "the service that the proxy runs beside")
	flags.StringVar(&o.NodeID, "node-id", "", "the proxy's id, unique among all")
}

func (a *app) printBootstrap(write func(bootstrap.Options) ([]byte, error), o bootstrap.Options) error {
	o.Namespace = a.namespace
	text, err := write(o)
	if err != nil {
		return usagef("%v", err)
	}
	a.printf("%s", text)
	return nil
}
