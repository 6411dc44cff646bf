package resilience

// overprovisioning is Envoy's share in percent by which a priority may lose hosts before load moves on.
const overprovisioning = 140

// heads counts hosts, or their weights.
type heads struct{ all, healthy, degraded, excluded int }

// present is how many hosts count as what healthy hosts are a share of.
func (n heads) present() int { return n.all - n.excluded }

// population is the hosts of a priority.
type population struct {
	heads
	weights heads // 1 for each host where their weights do not matter
	factor  int   // of overprovisioning, in percent
}

// share is the part of the present hosts in percent, overprovisioned, at most 100.
func (n population) share(part int) int {
	if n.present() <= 0 {
		return 0
	}
	return min(100, n.factor*part/n.weights.present())
}

func (n population) healthyShare() int  { return n.share(n.weights.healthy) }
func (n population) degradedShare() int { return n.share(n.weights.degraded) }

// panics reports whether too few hosts are fit to be used.
func (n population) panics(threshold uint32) bool {
	fit := 0.0
	if n.present() > 0 {
		fit = 100*float64(n.healthy)/float64(n.present()) + 100*float64(n.degraded)/float64(n.present())
	}
	return fit < float64(min(100, threshold))
}

// load is the percentage of calls that a priority gets, and whether it is in panic: then they go to any of its hosts.
type load struct {
	healthy, degraded int
	panic             bool
}

// spread gives 100 percent to priorities: to healthy hosts from the first priority down, then to degraded ones. Where all are in panic,
// it goes by the number of hosts.
func spread(priorities []population, threshold uint32) []load {
	loads := make([]load, len(priorities))
	if len(loads) == 0 {
		return loads
	}
	total := available(priorities)
	fill(loads, priorities, total)
	panics := 0
	for i, n := range priorities {
		if loads[i].panic = total < 100 && n.panics(threshold); loads[i].panic {
			panics++
		}
	}
	if panics == len(loads) {
		byCount(loads, priorities)
	}
	return loads
}

// available is the sum of all shares, at most 100.
func available(priorities []population) (total int) {
	for _, n := range priorities {
		total += n.healthyShare() + n.degradedShare()
	}
	return min(100, total)
}

// fill distributes what total, the sum of all shares, allows. What rounding leaves goes to the first priority that is fit.
func fill(loads []load, priorities []population, total int) {
	if total == 0 {
		loads[0].healthy = 100
		return
	}
	left := 100
	var first *int
	firstPriority := len(priorities)
	give := func(to *int, priority, share int) {
		if share > 0 && priority < firstPriority {
			first, firstPriority = to, priority
		}
		*to = min(left, 100*share/total)
		left -= *to
	}
	for i, n := range priorities {
		give(&loads[i].healthy, i, n.healthyShare())
	}
	for i, n := range priorities {
		give(&loads[i].degraded, i, n.degradedShare())
	}
	*first += left
}

func byCount(loads []load, priorities []population) {
	hosts := 0
	for _, n := range priorities {
		hosts += n.all
	}
	if hosts == 0 {
		return
	}
	left, first := 100, -1
	for i, n := range priorities {
		if n.all > 0 && first < 0 {
			first = i
		}
		loads[i] = load{healthy: 100 * n.all / hosts, panic: true}
		left -= loads[i].healthy
	}
	loads[first].healthy += left
}

// choosePriority is the priority that a draw falls to, and whether to its degraded hosts.
func choosePriority(loads []load, draw uint64) (priority int, degraded bool) {
	left := int(draw%100) + 1
	for i, load := range loads {
		if left -= load.healthy; left <= 0 {
			return i, false
		}
	}
	for i, load := range loads {
		if left -= load.degraded; left <= 0 {
			return i, true
		}
	}
	return 0, false
}
