package xds

import "time"

// lag is how far behind the world a proxy is: since the first change that it lacks was seen. Changes that come before it is up to date
// again count with that first one.
type lag struct {
	seen  time.Time // of the newest change that was looked at
	since time.Time // of the first that the proxy lacks; zero: none
	sent  time.Time // the last response
}

// look takes in the head that is compared with what the proxy holds, and when the first change was seen that came with it.
func (l *lag) look(n *news) {
	if n.head.Seen.After(l.seen) {
		l.seen = n.head.Seen
		if l.since.IsZero() {
			l.since = n.since
		}
	}
}

// end is called when nothing is left to send and to be answered. It says how long it took from the change to the last response about it, and
// to the last answer; false where the proxy lacked nothing, or was told nothing.
func (l *lag) end(now time.Time) (sent, answered time.Duration, ok bool) {
	since := l.since
	if l.since = (time.Time{}); since.IsZero() || l.sent.Before(since) {
		return 0, 0, false
	}
	return l.sent.Sub(since), now.Sub(since), true
}
