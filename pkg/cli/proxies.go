package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/breakwater-mesh/breakwater/pkg/api"
)

func (a *app) proxiesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "proxies [ID]",
		Short: "Show who is connected, and what each proxy acked or rejected",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && (a.output == "table" || a.output == "wide") {
				return a.showProxy(cmd, args[0])
			}
			l, err := a.listProxies(cmd, args)
			if err != nil {
				return err
			}
			return a.print(l, len(args) == 1)
		},
	}
	a.outputFlag(cmd, "table", "wide", "yaml", "json", "name")
	return cmd
}

func (a *app) listProxies(cmd *cobra.Command, ids []string) (*listing, error) {
	list := &api.ProxyList{Items: []api.Proxy{}}
	for _, id := range ids {
		p, err := a.client.Proxy(cmd.Context(), id)
		if err != nil {
			return nil, err
		}
		list.Items = append(list.Items, *p)
	}
	if len(ids) == 0 {
		var err error
		if list, err = a.client.Proxies(cmd.Context()); err != nil {
			return nil, err
		}
	}
	l := &listing{head: []string{"ID", "CALLER", "DIALECT", "VERSION", "PENDING", "REJECTED"}, wide: []string{"PROFILE", "ADDRESS", "CONNECTED", "REPLICA"}, whole: list}
	a.warnUnreachable(list.Unreachable)
	for _, p := range list.Items {
		pending, rejected := outstanding(p)
		l.items = append(l.items, p)
		l.names = append(l.names, name{kind: "proxy", name: p.ID})
		l.rows = append(l.rows, []string{
			p.ID, p.Namespace + "/" + p.Service, p.Dialect, p.Version, fmt.Sprint(pending), fmt.Sprint(rejected),
			dash(p.Profile), dash(p.Address), p.Connected.UTC().Format("2006-01-02T15:04:05Z"), dash(p.Replica),
		})
	}
	return l, nil
}

func (a *app) showProxy(cmd *cobra.Command, id string) error {
	p, err := a.client.Proxy(cmd.Context(), id)
	if err != nil {
		return err
	}
	a.notef("%s: %s/%s, %s %s\n", p.ID, p.Namespace, p.Service, p.Dialect, p.Version)
	var rows [][]string
	for _, t := range p.Types {
		rows = append(rows, []string{t.Type, fmt.Sprint(t.Subscribed), fmt.Sprint(t.Acked), fmt.Sprint(t.Pending), fmt.Sprint(len(t.Rejected))})
	}
	if err := a.table([]string{"TYPE", "SUBSCRIBED", "ACKED", "PENDING", "REJECTED"}, rows); err != nil {
		return err
	}
	for _, cluster := range slices.Sorted(maps.Keys(p.Ejected)) {
		a.printf("\n%s: %s ejected\n", cluster, plural(p.Ejected[cluster], "host"))
	}
	if p.Ejected == nil {
		a.printf("\nit does not say which hosts it has ejected\n")
	}
	for _, t := range p.Types {
		for _, r := range t.Rejected {
			a.printf("\n%s %s rejected: %s\n", t.Type, r.Name, r.Message)
			if len(r.Policies) > 0 {
				a.printf("  shaped by %s\n", strings.Join(r.Policies, ", "))
			}
		}
	}
	return nil
}

// outstanding is how many resources a proxy has not answered, and how many it has rejected.
func outstanding(p api.Proxy) (pending, rejected int) {
	for _, t := range p.Types {
		pending += t.Pending
		rejected += len(t.Rejected)
	}
	return pending, rejected
}

// warnUnreachable names the replicas of whose proxies nothing is known.
func (a *app) warnUnreachable(list []api.Unreachable) {
	for _, u := range list {
		a.notef("no answer from %s: its proxies are left out\n", u)
	}
}
