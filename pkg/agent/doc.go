// Package agent is the home of breakwater-agent: its settings, its parts put together, and its admin port.
package agent
