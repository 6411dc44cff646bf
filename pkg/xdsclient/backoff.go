package xdsclient

import "time"

const (
	firstWait   = 500 * time.Millisecond
	longestWait = 30 * time.Second
	steadyAfter = 30 * time.Second // a stream that lived so long was no failure
)

// BackOff says how long to wait before the next attempt. Each server is tried at once after another failed; after a round of all of
// them comes a wait, anywhere between nothing and a bound that doubles from round to round.
type BackOff struct {
	servers int
	tried   int // since the last wait
	rounds  int // without an answer
}

// NewBackOff is one for so many servers.
func NewBackOff(servers int) *BackOff { return &BackOff{servers: servers} }

// Next is the wait after an attempt: whether the server answered, and how long the conversation lived. Random returns a number in [0, n).
func (b *BackOff) Next(answered bool, lived time.Duration, random func(n int64) int64) time.Duration {
	if answered {
		b.rounds = 0
	}
	if lived >= steadyAfter {
		b.tried, b.rounds = 0, 0
		return 0
	}
	if b.tried++; b.tried < b.servers {
		return 0
	}
	b.tried = 0
	bound := min(longestWait, firstWait<<min(b.rounds, 10))
	b.rounds++
	return time.Duration(random(int64(bound)) + 1)
}
