package differential_test

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/proxy"
)

// record is one line of an access log, field by field: "" is what a proxy has not to tell.
type record map[string]string

// The fields that are compared, in order.
var logged = []string{"method", "path", "authority", "protocol", "status", "flags", "details", "in", "out", "cluster", "host", "route", "attempts", "grpc"}

func (r record) line() string {
	var b strings.Builder
	for _, name := range logged {
		fmt.Fprintf(&b, "%s=%s ", name, r[name])
	}
	return b.String()
}

// records are a raw trial's on one side, without those of warm requests.
func (t *trial) records(side string) []record {
	if t.raw == nil {
		return nil
	}
	var all []record
	if side == left {
		all = envoyRecords(t.rig.log(t, side))
	} else {
		for _, a := range t.rig.agent.of(t.service) {
			all = append(all, agentRecord(a))
		}
	}
	return slices.DeleteFunc(all, func(rec record) bool { return rec["path"] == warmPath })
}

func envoyRecords(file string) []record {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil // nothing was written yet
	}
	var all []record
	for line := range strings.Lines(string(text)) {
		var fields map[string]any
		if json.Unmarshal([]byte(line), &fields) != nil {
			continue // the rest of it is not written yet
		}
		r := record{}
		for name, value := range fields {
			if value != nil && value != "-" {
				r[name] = fmt.Sprint(value)
			}
		}
		r.normalise()
		all = append(all, r)
	}
	return all
}

func agentRecord(a proxy.Access) record {
	r := record{
		"method": a.Method, "path": a.Path, "authority": a.Authority, "protocol": a.Protocol, "flags": a.Flags.String(), "details": a.Details,
		"in": fmt.Sprint(a.In), "out": fmt.Sprint(a.Out), "cluster": a.Cluster, "route": a.Route, "grpc": a.GRPCStatus,
	}
	if a.Protocol != "" { // no TCP
		r["status"], r["attempts"] = fmt.Sprint(a.Status), fmt.Sprint(a.Attempts)
	}
	if a.Host.IsValid() {
		r["host"] = dataplane.AddressText(a.Host)
	}
	r.normalise()
	return r
}

// afterBar is what the operating system had to say of a connection: in Envoy's words, which are not the agent's.
var afterBar = regexp.MustCompile(`\|.*}$`)

// normalise sorts the flags, whose order means nothing.
func (r record) normalise() {
	if r["flags"] == "-" {
		r["flags"] = ""
	}
	flags := strings.Split(r["flags"], ",")
	slices.Sort(flags)
	r["details"] = afterBar.ReplaceAllString(r["details"], "}")
	r["flags"] = strings.Join(flags, ",")
}

// written is the access log once two readings agree, and there is a line for every answer.
func (s *side) written() []record {
	if s.unlogged {
		return nil
	}
	last := s.records()
	if s.cluster != s.service {
		return last // under a policy there is none
	}
	s.until("access log at rest", func() bool {
		next := s.records()
		same := len(next) == len(last) && len(next) >= len(s.answers)
		last = next
		return same
	})
	return last
}

func (d *diff) records(sc *scenario, envoy, agent []record) {
	d.add(len(envoy) == len(agent), "access log", len(envoy), len(agent))
	if sc.concurrent {
		for _, list := range [][]record{envoy, agent} {
			slices.SortStableFunc(list, func(a, b record) int { return strings.Compare(a.line(), b.line()) })
		}
	}
	for i := range min(len(envoy), len(agent)) {
		for _, name := range logged {
			if name == "host" && (sc.anyHost || sc.concurrent) || slices.Contains(sc.ignore, name) {
				continue
			}
			d.add(envoy[i][name] == agent[i][name], fmt.Sprintf("log %d: %s", i+1, name), envoy[i][name], agent[i][name])
		}
	}
}
