package cli

import (
	"fmt"
	"strings"

	"github.com/breakwater-mesh/breakwater/pkg/api"
)

// printDryRun says what an apply would do: to the objects, and to the proxies that are connected.
func (a *app) printDryRun(result *api.ApplyResult) error {
	a.printForeseen(result.Results, "")
	a.warn(result.Warnings)
	a.warnOf(result.Findings, api.SeverityInfo)
	i := result.Impact
	if i != nil {
		a.printWrittenFidelity(i.Fidelity)
	}
	if i != nil {
		a.warnUnreachable(i.Unreachable)
	}
	if i == nil || i.Connected == 0 && len(i.Unreachable) == 0 {
		a.notef("nothing was written; no proxy is connected\n")
		return nil
	}
	a.printf("\n%d of %d connected proxies would be sent something, about %s\n", i.Proxies, i.Connected, plural(len(i.Services), "service"))
	if err := a.printImpact(i); err != nil {
		return err
	}
	switch {
	case i.Wide && len(i.Unreachable) > 0:
		a.notef("warning: that is more than one service, on an unknown number of proxies: it needs --wide\n")
	case i.Wide:
		a.notef("warning: that is more than one service on more than 10 %% of the proxies: it needs --wide\n")
	}
	a.notef("nothing was written\n")
	return nil
}

func (a *app) printImpact(i *api.Impact) error {
	if len(i.Changes) == 0 {
		return nil
	}
	var rows [][]string
	for _, c := range i.Classes {
		rows = append(rows, []string{c.Namespace + "/" + c.Service, c.Dialect, dash(c.Version), c.Profile, fmt.Sprint(c.Proxies), fmt.Sprint(c.Resources)})
	}
	if err := a.table([]string{"CALLER", "DIALECT", "VERSION", "PROFILE", "PROXIES", "RESOURCES"}, rows); err != nil {
		return err
	}
	for _, r := range i.Rebuilt {
		a.printRebuilt(r)
	}
	if i.Drained > 0 {
		a.printf("changes a listener of %s: the applications' connections to it drain, and limits of adaptiveConcurrency start anew on new ones\n", proxies(i.Drained))
	}
	for _, c := range i.Changes {
		a.printf("\n%s, on %s\n", strings.Join(c.Resources, ", "), proxies(c.Proxies))
		for _, l := range c.Lines {
			a.printLine(l)
		}
	}
	return nil
}

// printRebuilt says what is lost with a cluster, and where it is not.
func (a *app) printRebuilt(r api.RebuiltImpact) {
	if r.Proxies > 0 {
		a.printf("rebuilds cluster %s on %s: ejections (%s), counters and connections start from nothing\n", r.Cluster, proxies(r.Proxies), ejectedNow(r))
	}
	if r.Agents > 0 {
		a.printf("changes cluster %s on %s in place: agents keep ejections (%d right now), counters and connections\n", r.Cluster, proxies(r.Agents), r.KeptEjections)
	}
}

// ejectedNow is how many ejections are lost, as far as the control plane knows.
func ejectedNow(r api.RebuiltImpact) string {
	switch {
	case r.LiveEjections == nil:
		return "unknown how many"
	case r.UnknownProxies > 0:
		return fmt.Sprintf("%d right now, and of %s unknown how many", *r.LiveEjections, proxies(r.UnknownProxies))
	}
	return fmt.Sprintf("%d right now", *r.LiveEjections)
}

// printWrittenFidelity says how exactly the written policies would be enforced, and what of that no warning says.
func (a *app) printWrittenFidelity(list []api.FidelityResponse) {
	for _, f := range list {
		for _, d := range f.Dialects {
			exact, fields := 0, 0
			for _, field := range d.Fields {
				if !field.Default {
					fields++
				}
				if !field.Default && field.Level == api.Exact {
					exact++
				}
			}
			what := fmt.Sprintf("%d of %s exact", exact, plural(fields, "field"))
			if fields == 0 {
				what = "it sets nothing, but switches off"
			}
			a.printf("policy %s/%s on %s, %s: %s\n", f.Namespace, f.Name, d, proxies(d.Proxies), what)
			for _, field := range d.Fields {
				if !field.Default && field.Level != api.Exact {
					a.printf("  %s: %s\n", field.Field, field)
				}
			}
		}
	}
}

func (a *app) printLine(l api.DiffLine) {
	at := l.Path
	if at != "" {
		at += ": "
	}
	if l.Old != "" {
		a.printf("  - %s%s\n", at, l.Old)
	}
	if l.Now != "" {
		a.printf("  + %s%s\n", at, l.Now)
	}
}
