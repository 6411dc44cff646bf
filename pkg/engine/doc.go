// Package engine takes one call through the policies: its route, a host, admission, the attempt, what it means for ejection and
// retries, and the answer. It holds the state that outlives a table: counters, ejections and statistics, by cluster and host. It
// speaks no protocol; an Upstream does the attempts.
package engine
