package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// errOnce ends a watch that was to tell once what there is.
var errOnce = errors.New("all is told")

func (a *app) watchCommand() *cobra.Command {
	var all, once bool
	cmd := &cobra.Command{
		Use:   "watch [policies|guardrails|services|proxies|delivery ...]",
		Short: "Show what there is, and then every change as it comes",
		Long: "Show what there is, and then every change as it comes, a line each; without a kind the policies, guardrails and services.\n" +
			"Who reads slowly is told the newest, not each step. It goes on after the last change when the connection breaks, until it is interrupted.",
		Example: `  bwctl watch policies delivery -n shop
  bwctl watch proxies -A -o json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			q := api.WatchQuery{Namespace: a.namespace}
			if all {
				q.Namespace = ""
			}
			for _, kind := range args {
				if plural, ok := plurals[kind]; ok {
					kind = plural
				}
				if !slices.Contains(api.Watchable, kind) {
					return usagef("%q can't be watched: want some of %s", kind, strings.Join(api.Watchable, ", "))
				}
				q.Kinds = append(q.Kinds, kind)
			}
			err := a.client.Watch(cmd.Context(), q, func(e api.Watched) error {
				if err := a.printWatched(e, once); err != nil {
					return err
				}
				if once && e.Change == api.Synced {
					return errOnce
				}
				return nil
			}, func(err error) { a.notef("%v; trying again\n", err) })
			if errors.Is(err, errOnce) || errors.Is(err, context.Canceled) {
				return nil
			}
			return err
		},
	}
	cmd.Flags().BoolVarP(&all, "all-namespaces", "A", false, "watch all namespaces")
	cmd.Flags().BoolVar(&once, "once", false, "end when all that there is has been told")
	a.outputFlag(cmd, "text", "json")
	return cmd
}

func (a *app) printWatched(e api.Watched, last bool) error {
	if a.output == "json" {
		text, err := json.Marshal(struct {
			Change api.Change `json:"change"`
			ID     string     `json:"id,omitempty"`
			api.Watched
		}{e.Change, e.ID, e})
		a.printf("%s\n", text)
		return err
	}
	switch e.Change {
	case api.Resync:
		a.notef("all %s: %s\n", strings.Join(e.Kinds, ", "), e.Reason)
	case api.Synced:
		then := "; changes from here on"
		if last {
			then = ""
		}
		a.notef("at revision %d%s\n", e.Revision, then)
	default:
		what, err := watchedText(e)
		if err != nil {
			return fmt.Errorf("read an event: %w", err)
		}
		a.printf("%-6s %s%s\n", e.Change, watchedName(e), what)
	}
	return nil
}

// watchedName is what e tells of, as get takes it.
func watchedName(e api.Watched) string {
	switch e.Kind {
	case api.ProxyKind:
		return name{kind: "proxy", name: e.Name}.text(true)
	case api.UnreachableKind:
		return "unreachable " + e.Name
	case api.DeliveryKind:
		return "delivery of " + name{strings.ToLower(e.Of), e.Namespace, e.Name}.text(true)
	}
	return name{strings.ToLower(e.Kind), e.Namespace, e.Name}.text(true)
}

// watchedText is what there is to say of it in the rest of a line.
func watchedText(e api.Watched) (string, error) {
	if e.Object == nil {
		return "", nil
	}
	switch e.Kind {
	case api.ProxyKind:
		var p api.Proxy
		err := json.Unmarshal(e.Object, &p)
		pending, rejected := outstanding(p)
		return fmt.Sprintf("  %s/%s, %s %s, %d pending, %d rejected", p.Namespace, p.Service, p.Dialect, p.Version, pending, rejected), err
	case api.UnreachableKind:
		var u api.Unreachable
		err := json.Unmarshal(e.Object, &u)
		return fmt.Sprintf("  at %s: %s", u.Address, u.Reason), err
	case api.DeliveryKind:
		var d api.Delivery
		err := json.Unmarshal(e.Object, &d)
		return fmt.Sprintf("  revision %d %s: %s", d.Revision, d.State, d.Message), err
	}
	var o manifest.Object[json.RawMessage]
	err := json.Unmarshal(e.Object, &o)
	return fmt.Sprintf("  revision %d, generation %d by %s", o.Metadata.Revision, o.Metadata.Generation, dash(o.Metadata.UpdatedBy)), err
}
