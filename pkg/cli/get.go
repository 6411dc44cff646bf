package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// listing is some objects in every form they can be printed in.
type listing struct {
	head, wide []string   // columns; wide ones come after head
	rows       [][]string // head, then wide
	names      []name
	qualified  bool // names have their namespaces
	items      []any
	whole      any // what -o json prints for a list
}

// name is an object as -o name prints it, and get and delete take it.
type name struct {
	kind      string
	namespace string // "" where it has none
	name      string
}

func (n name) text(qualified bool) string {
	if qualified && n.namespace != "" {
		return n.kind + "/" + n.namespace + "/" + n.name
	}
	return n.kind + "/" + n.name
}

func (a *app) getCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "get (policies|guardrails|services|endpoints|proxies) [NAME...] | KIND/[NAMESPACE/]NAME...",
		Short: "Read objects",
		Long: "Read objects. The name of an endpoint is its service's name: all endpoints of the service are printed.\n" +
			"What -o name prints, get and delete take; with -A it has the namespaces.",
		Example: `  bwctl get policies -A
  bwctl get policy orders-to-payments -n shop -o yaml
  bwctl get endpoints payments -n shop`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			refs, err := a.references(args)
			if err != nil {
				return err
			}
			if all && len(refs) > 0 {
				return usagef("-A lists; it takes no names")
			}
			kind, namespace := args[0], a.namespace
			if all {
				namespace = ""
			}
			if len(refs) > 0 {
				kind = refs[0].kind
			}
			for _, r := range refs {
				if plurals[r.kind] != plurals[kind] {
					return usagef("%s and %s: get prints one kind at a time", kind, r.kind)
				}
			}
			l, err := a.list(cmd, kind, namespace, refs)
			if err != nil {
				return err
			}
			l.qualified = all || slices.ContainsFunc(refs, func(r reference) bool { return r.namespace != a.namespace })
			return a.print(l, len(refs) == 1 && plurals[kind] != endpointPlural)
		},
	}
	cmd.Flags().BoolVarP(&all, "all-namespaces", "A", false, "list all namespaces")
	a.outputFlag(cmd, "table", "wide", "yaml", "json", "name")
	return cmd
}

// list is what refs name, or all of a kind in a namespace, which may be "" for all of them.
func (a *app) list(cmd *cobra.Command, kind, namespace string, refs []reference) (*listing, error) {
	switch plurals[kind] {
	case api.Policies:
		return a.listPolicies(cmd, namespace, refs)
	case api.Guardrails:
		return a.listGuardrails(cmd, namespace, refs)
	case api.Services:
		return a.listServices(cmd, namespace, refs)
	case endpointPlural:
		return a.listEndpoints(cmd, namespace, refs)
	case api.Proxies:
		var ids []string
		for _, r := range refs {
			ids = append(ids, r.name)
		}
		return a.listProxies(cmd, ids)
	}
	return nil, usagef("%s: want policies, guardrails, services, endpoints or proxies", kind)
}

func (a *app) listPolicies(cmd *cobra.Command, namespace string, refs []reference) (*listing, error) {
	list := &api.PolicyList{}
	var err error
	if len(refs) == 0 {
		list, err = a.client.Policies(cmd.Context(), namespace)
	}
	for _, r := range refs {
		p, e := a.client.Policy(cmd.Context(), r.namespace, r.name)
		if e != nil {
			return nil, e
		}
		list.Items = append(list.Items, *p)
	}
	if err != nil {
		return nil, err
	}
	l := &listing{head: []string{"NAMESPACE", "NAME", "TO", "FROM", "GENERATION", "EXPIRES", "EFFECTIVE", "PROGRAMMED"}, wide: []string{"SECTIONS", "REVISION", "UPDATED BY"}, whole: list}
	for _, p := range list.Items {
		l.add(p, p.Metadata, "policy",
			side(p.Spec.To.Namespace, p.Spec.To.Service, p.Spec.To.Selector), from(p.Spec.From), fmt.Sprint(p.Metadata.Generation),
			dash(string(orZero(p.Spec.ExpiresAt))), condition(p.Status, api.Effective), condition(p.Status, api.Programmed),
			strings.Join(sectionsOf(p), ","), fmt.Sprint(p.Metadata.Revision), p.Metadata.UpdatedBy)
	}
	return l, nil
}

func (a *app) listGuardrails(cmd *cobra.Command, namespace string, refs []reference) (*listing, error) {
	list := &api.GuardrailList{}
	var err error
	if len(refs) == 0 {
		list, err = a.client.Guardrails(cmd.Context(), namespace)
	}
	for _, r := range refs {
		g, e := a.client.Guardrail(cmd.Context(), r.namespace, r.name)
		if e != nil {
			return nil, e
		}
		list.Items = append(list.Items, *g)
	}
	if err != nil {
		return nil, err
	}
	l := &listing{head: []string{"NAMESPACE", "NAME", "TO", "FROM", "BOUNDS", "EFFECTIVE", "PROGRAMMED"}, wide: []string{"RESOLVED", "GENERATION", "REVISION", "UPDATED BY"}, whole: list}
	for _, g := range list.Items {
		l.add(g, g.Metadata, "guardrail",
			side(g.Spec.To.Namespace, g.Spec.To.Service, g.Spec.To.Selector), from(g.Spec.From), bounds(g.Spec.Bounds),
			condition(g.Status, api.Effective), condition(g.Status, api.Programmed), condition(g.Status, api.ResolvedRefs), fmt.Sprint(g.Metadata.Generation), fmt.Sprint(g.Metadata.Revision), g.Metadata.UpdatedBy)
	}
	return l, nil
}

// bounds are those of a guardrail as a cell.
func bounds(list []policy.Bound) string {
	var texts []string
	for _, b := range list {
		text := b.Field
		if b.Min != nil {
			text = string(*b.Min) + "<=" + text
		}
		if b.Max != nil {
			text += "<=" + string(*b.Max)
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, ",")
}

func (a *app) listServices(cmd *cobra.Command, namespace string, refs []reference) (*listing, error) {
	list := &api.ServiceList{}
	var err error
	if len(refs) == 0 {
		list, err = a.client.Services(cmd.Context(), namespace)
	}
	for _, r := range refs {
		s, e := a.client.Service(cmd.Context(), r.namespace, r.name)
		if e != nil {
			return nil, e
		}
		list.Items = append(list.Items, *s)
	}
	if err != nil {
		return nil, err
	}
	l := &listing{head: []string{"NAMESPACE", "NAME", "PROTOCOL", "HOSTS", "DEPENDS ON", "RESOLVED"}, wide: []string{"STATIC ENDPOINTS", "GENERATION", "REVISION"}, whole: list}
	for _, s := range list.Items {
		protocol := string(s.Spec.Protocol)
		if protocol == "" {
			protocol = "http"
		}
		depends := "*"
		if s.Spec.DependsOn != nil {
			depends = dash(strings.Join(*s.Spec.DependsOn, ","))
		}
		l.add(s, s.Metadata, "service", protocol, dash(strings.Join(s.Spec.Hosts, ",")), depends, condition(s.Status, api.ResolvedRefs),
			fmt.Sprint(len(s.Spec.Endpoints)), fmt.Sprint(s.Metadata.Generation), fmt.Sprint(s.Metadata.Revision))
	}
	return l, nil
}

func (a *app) listEndpoints(cmd *cobra.Command, namespace string, refs []reference) (*listing, error) {
	if len(refs) == 0 {
		list, err := a.client.Services(cmd.Context(), namespace)
		if err != nil {
			return nil, err
		}
		for _, s := range list.Items {
			refs = append(refs, reference{endpointPlural, s.Metadata.Namespace, s.Metadata.Name})
		}
	}
	whole := &api.EndpointList{Items: []api.Endpoint{}}
	l := &listing{head: []string{"NAMESPACE", "SERVICE", "ID", "ADDRESS", "SOURCE", "HEALTH", "AGENT"}, wide: []string{"WEIGHT", "ZONE", "LEASE", "SINCE"}, whole: whole}
	for _, r := range refs {
		list, err := a.endpointsOf(cmd, r)
		if err != nil {
			return nil, err
		}
		whole.Revision = max(whole.Revision, list.Revision)
		for _, e := range list.Items {
			whole.Items = append(whole.Items, e)
			l.addEndpoint(e)
		}
	}
	return l, nil
}

// endpointsOf are the endpoints of the service that r names, or the one endpoint.
func (a *app) endpointsOf(cmd *cobra.Command, r reference) (*api.EndpointList, error) {
	service, id, one := strings.Cut(r.name, "/")
	if !one {
		return a.client.Endpoints(cmd.Context(), r.namespace, service)
	}
	e, err := a.client.Endpoint(cmd.Context(), r.namespace, service, id)
	if err != nil {
		return nil, err
	}
	return &api.EndpointList{Items: []api.Endpoint{*e}}, nil
}

func (l *listing) addEndpoint(e api.Endpoint) {
	address, weight, zone, since := e.Spec.Address, "-", "-", "-"
	if e.Spec.Port != nil {
		address = fmt.Sprintf("%s:%d", address, *e.Spec.Port)
	}
	if e.Spec.Weight != nil {
		weight = fmt.Sprint(*e.Spec.Weight)
	}
	if e.Spec.Locality != nil {
		zone = dash(e.Spec.Locality.Zone)
	}
	if e.Since != nil {
		since = e.Since.UTC().Format(time.RFC3339)
	}
	l.items = append(l.items, e)
	if e.ID != "" { // a static one is a part of its service
		l.names = append(l.names, name{"endpoint", e.Namespace, e.Service + "/" + e.ID})
	}
	l.rows = append(l.rows, []string{e.Namespace, e.Service, dash(e.ID), address, e.Source, dash(string(e.Spec.Health)), dash(e.State),
		weight, zone, dash(e.Lease), since})
}

func (l *listing) add(item any, m manifest.Meta, kind string, cells ...string) {
	l.items = append(l.items, item)
	l.names = append(l.names, name{kind, m.Namespace, m.Name})
	l.rows = append(l.rows, append([]string{m.Namespace, m.Name}, cells...))
}

// print writes a listing in the wanted format; single says that one object was asked for by name.
func (a *app) print(l *listing, single bool) error {
	switch a.output {
	case "json":
		if single {
			return a.printJSON(l.items[0])
		}
		return a.printJSON(l.whole)
	case "yaml":
		return a.printYAML(l.items)
	case "name":
		for _, n := range l.names {
			a.printf("%s\n", n.text(l.qualified))
		}
		return nil
	}
	head := l.head
	if a.output == "wide" {
		head = slices.Concat(l.head, l.wide)
	}
	if len(l.rows) == 0 {
		a.notef("nothing found\n")
		return nil
	}
	return a.table(head, l.rows)
}

// printYAML writes each item as a document of its own, so that apply takes the output back.
func (a *app) printYAML(items []any) error {
	for i, item := range items {
		text, err := json.Marshal(item)
		if err != nil {
			return err
		}
		if text, err = manifest.ToYAML(text); err != nil {
			return err
		}
		if i > 0 {
			a.printf("---\n")
		}
		a.printf("%s", text)
	}
	return nil
}

func (a *app) printJSON(v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return err
	}
	a.printf("%s", b.String())
	return nil
}
