// Package cli is bwctl, the operator's command line.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/client"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// The exit codes.
const (
	ExitOK       = 0
	ExitFailed   = 1
	ExitUsage    = 2
	ExitInvalid  = 3 // the server, or bwctl itself, refuses what was written
	ExitNotFound = 4
	ExitConflict = 5 // other policies or another edit stand in the way
	ExitDenied   = 6

	ExitUndelivered = 7 // not all proxies have accepted what was waited for
)

// Env is the world around a run.
type Env struct {
	Args    []string // without the program's name
	In      io.Reader
	Out     io.Writer // data
	Err     io.Writer // notes and errors
	Getenv  func(string) string
	Version string // of the build
}

// app is one run.
type app struct {
	Env
	server, namespace, output, reason string
	started                           bool // the command line was understood
	client                            *client.Client
	sources                           *sources // what the command read, to show faults in it
}

// Run runs one command line and returns its exit code.
func Run(ctx context.Context, env Env) int {
	a := &app{Env: env}
	root := a.root()
	root.SetArgs(env.Args)
	root.SetIn(env.In)
	root.SetOut(env.Out)
	root.SetErr(env.Err)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return ExitOK
	}
	if !a.started {
		fmt.Fprintf(env.Err, "bwctl: %v\nSee '%s --help'.\n", err, cmd.CommandPath())
		return ExitUsage
	}
	a.explain(err)
	return exitCode(err)
}

func exitCode(err error) int {
	var usage *usageError
	var faults manifest.FieldErrors
	var late *undelivered
	switch {
	case errors.As(err, &usage):
		return ExitUsage
	case errors.As(err, &late):
		return ExitUndelivered
	case errors.As(err, &faults):
		return ExitInvalid
	}
	if misnamed(err) {
		return ExitUsage
	}
	switch client.StatusOf(err) {
	case http.StatusUnprocessableEntity, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType:
		return ExitInvalid
	case http.StatusNotFound:
		return ExitNotFound
	case http.StatusConflict, http.StatusPreconditionFailed:
		return ExitConflict
	case http.StatusUnauthorized, http.StatusForbidden:
		return ExitDenied
	}
	return ExitFailed
}

// misnamed reports whether all that the server found wrong is what stood on the command line: names no object can have.
func misnamed(err error) bool {
	var p *api.Problem
	if !errors.As(err, &p) || len(p.Errors) == 0 {
		return false
	}
	return !slices.ContainsFunc(p.Errors, func(f manifest.FieldError) bool {
		return !strings.HasPrefix(f.Field, "path.") && !strings.HasPrefix(f.Field, "query.")
	})
}

// usageError is a wrong command line that only the command itself could see.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "bwctl",
		Short:         "Operate Breakwater, the resilience control plane",
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			a.started = true
			return a.connect()
		},
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	flags := root.PersistentFlags()
	flags.StringVarP(&a.server, "server", "s", a.env("SERVER", client.DefaultServer), "API of the control plane: http://HOST:PORT or unix:PATH [BREAKWATER_SERVER]")
	flags.StringVarP(&a.namespace, "namespace", "n", a.env("NAMESPACE", manifest.DefaultNamespace), "namespace of what is named [BREAKWATER_NAMESPACE]")
	root.AddCommand(
		a.applyCommand(), a.validateCommand(), a.getCommand(), a.deleteCommand(), a.waitCommand(), a.historyCommand(), a.rollbackCommand(),
		a.effectiveCommand(), a.fidelityCommand(), a.lintCommand(), a.explainCommand(), a.watchCommand(), a.proxiesCommand(), a.proxyCommand(), a.bootstrapCommand(), a.versionCommand(),
	)
	return root
}

func (a *app) env(name, fallback string) string {
	if a.Getenv != nil {
		if v := a.Getenv("BREAKWATER_" + name); v != "" {
			return v
		}
	}
	return fallback
}

func (a *app) connect() (err error) {
	if a.client, err = client.New(a.server); err != nil {
		return usagef("--server: %v", err)
	}
	if msg := manifest.CheckName(a.namespace); msg != "" {
		return usagef("--namespace: %s", msg)
	}
	if a.Getenv != nil {
		a.client.Actor = printable(a.Getenv("USER"))
	}
	return nil
}

// printable is s if it can stand in a header, else "".
func printable(s string) string {
	for _, r := range s {
		if r < 0x20 || r > 0x7e {
			return ""
		}
	}
	return s
}

// outputFlag lets a command print in several formats, the first being the default.
func (a *app) outputFlag(cmd *cobra.Command, formats ...string) {
	output := cmd.Flags().StringP("output", "o", formats[0], "format: "+join(formats))
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		a.output = *output
		if !slices.Contains(formats, a.output) {
			return usagef("--output %s: want %s", a.output, join(formats))
		}
		return run(cmd, args)
	}
}

func (a *app) printf(format string, args ...any) { fmt.Fprintf(a.Out, format, args...) }

func (a *app) notef(format string, args ...any) { fmt.Fprintf(a.Err, format, args...) }
