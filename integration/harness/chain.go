package harness

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"
)

// ChainNames are the services of the chain in calling order. Edge has no hosts: whoever sends the load is its app.
var ChainNames = []string{"edge", "orders", "payments", "billing", "email"}

// Hop is a service of the chain: several hosts, which call the next hop through the proxy beside them.
type Hop struct {
	Name  string
	Next  string // "" for the last
	Hosts []*Host
	Out   atomic.Pointer[Client] // through the proxy beside this service; nil until it runs
}

// StartChain starts so many hosts of every service behind edge. What it started before an error it returns too.
func StartChain(hosts int) ([]*Hop, error) {
	var hops []*Hop
	for i, name := range ChainNames {
		h := &Hop{Name: name}
		if i+1 < len(ChainNames) {
			h.Next = ChainNames[i+1]
		}
		hops = append(hops, h)
		if i == 0 {
			continue
		}
		for range hosts {
			host, err := StartHost(0, http.HandlerFunc(h.serve))
			if err != nil {
				return hops, err
			}
			h.Hosts = append(h.Hosts, host)
		}
	}
	return hops, nil
}

// StopChain stops the hosts of hops.
func StopChain(hops []*Hop) {
	for _, h := range hops {
		for _, host := range h.Hosts {
			host.Close()
		}
	}
}

// workTime is what a host does itself, before it calls the next one.
const workTime = 2 * time.Millisecond

// serve answers one call. How far a request goes is in its path: /3 crosses three more hops. A failed dependency is reported as 500,
// never as 502-504: those say that this very host is at fault, and hops above would retry and eject it for another's failure.
func (h *Hop) serve(w http.ResponseWriter, r *http.Request) {
	select {
	case <-time.After(workTime):
	case <-r.Context().Done():
		return
	}
	var depth int
	if _, err := fmt.Sscanf(r.URL.Path, "/%d", &depth); err != nil || depth <= 0 || h.Next == "" {
		fmt.Fprintln(w, h.Name)
		return
	}
	if status := h.call(r.Context(), depth-1); status < 200 || status > 299 {
		http.Error(w, fmt.Sprintf("%s: %s answered %d", h.Name, h.Next, status), http.StatusInternalServerError)
		return
	}
	fmt.Fprintln(w, h.Name)
}

// call sends one request to the next hop and returns the status, 0 for no answer.
func (h *Hop) call(ctx context.Context, depth int) int {
	out := h.Out.Load()
	if out == nil {
		return 0
	}
	return out.GetContext(ctx, h.Next, fmt.Sprintf("/%d", depth)).Status
}
