package main

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"text/tabwriter"
)

// middle is the median of values, 0 of none.
func middle[T cmp.Ordered](values []T) (m T) {
	if len(values) == 0 {
		return m
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// ratio is the median of what a is to b, round by round: what disturbs a round disturbs both.
func ratio(a, b []float64) float64 {
	ratios := make([]float64, min(len(a), len(b)))
	for i := range ratios {
		ratios[i] = a[i] / b[i]
	}
	return middle(ratios)
}

func (m *mesh) named(name string) *subject {
	i := slices.IndexFunc(m.subjects, func(p *subject) bool { return p.name == name })
	return m.subjects[i]
}

// report prints what was measured. It is an error where the agent takes more than it may.
func (m *mesh) report(s settings) error {
	bare, envoy := m.named(bareName), m.named("envoy")
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "CPU us of a request\tproxy\tmedian\tmin\tx bare\tx envoy\t")
	for _, w := range workloads() {
		for _, p := range m.subjects {
			if cost := p.cost[w.name]; len(cost) > 0 {
				fmt.Fprintf(t, "%s\t%s\t%.1f\t%.1f\t%.2f\t%.2f\t\n", w.name, p.name, middle(cost), slices.Min(cost),
					ratio(cost, bare.cost[w.name]), ratio(cost, envoy.cost[w.name]))
			}
		}
	}
	fmt.Fprintln(t, "\t\t\t\t\t\t")
	fmt.Fprintf(t, "memory and delay\tproxy\tMiB fresh\tMiB loaded\tKiB an idle connection\tus added at %d/s\t\n", s.rate)
	for _, p := range m.subjects {
		fmt.Fprintf(t, "\t%s\t%.1f\t%.1f\t%.1f\t%.0f\t\n", p.name, mebi(p.fresh), mebi(p.loaded), float64(p.held)/1024, middle(p.added))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	return m.judge(s.most)
}

func mebi(n int64) float64 { return float64(n) / (1 << 20) }

func (m *mesh) judge(most float64) error {
	for _, name := range gated {
		got := ratio(m.named("agent").cost[name], m.named(bareName).cost[name])
		if most > 0 && got > most {
			return fmt.Errorf("%s: the agent takes %.2f x the CPU of a bare ReverseProxy, want at most %.2f", name, got, most)
		}
	}
	return nil
}
