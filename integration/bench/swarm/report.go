package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// head prints the head of the table, which is Markdown.
func head() {
	columns := []string{"N", "S", "dialect", "server", "storm s", "CPU ms", "x floor", "KiB sent", "KiB resident", "KiB in use"}
	for _, k := range kinds {
		columns = append(columns, k.name+" p50 ms", "p99 ms", "CPU us", "x floor", "KiB sent", "alone ms")
	}
	row(columns...)
	row(slices.Repeat([]string{"---:"}, len(columns))...)
}

func row(columns ...string) { fmt.Println("| " + strings.Join(columns, " | ") + " |") }

// print prints one line of the table; floor, which may be nil, is the floor of its cell.
func (c *cell) print(floor *cell) {
	columns := []string{fmt.Sprint(c.clients), fmt.Sprint(c.services), c.dialect, c.server}
	if c.failed != nil {
		row(append(columns, c.failed.Error())...)
		return
	}
	columns = append(columns,
		fmt.Sprintf("%.2f", c.took.Seconds()), fmt.Sprintf("%.2f", c.cpu/1000), times(c, floor, func(c *cell) float64 { return c.cpu }),
		kibi(c.sent), kibi(c.resident), kibi(c.inUse))
	for _, k := range kinds {
		e := c.edits[k.name]
		columns = append(columns, millis(percentile(e.last, 50)), millis(percentile(e.last, 99)), each(c, e.cpu),
			times(c, floor, func(c *cell) float64 { return c.edits[k.name].cpu }), kibi(e.sent), fmt.Sprintf("%.2f", e.alone))
	}
	row(columns...)
}

// fleet is how many clients there must be, for what each costs to be told from chance.
const fleet = 100

func each(c *cell, us float64) string {
	if c.clients < fleet {
		return ""
	}
	return fmt.Sprintf("%.1f", us)
}

// times is how often the floor's cost goes into that of c.
func times(c, floor *cell, cost func(*cell) float64) string {
	if floor == nil || c.clients < fleet {
		return ""
	}
	return fmt.Sprintf("%.2f", cost(c)/cost(floor))
}

func kibi(n int64) string { return fmt.Sprintf("%.1f", float64(n)/1024) }

func millis(d time.Duration) string { return fmt.Sprintf("%.2f", float64(d.Microseconds())/1000) }

func percentile(d []time.Duration, p int) time.Duration {
	sorted := slices.Sorted(slices.Values(d))
	return sorted[(len(sorted)*p+99)/100-1]
}
