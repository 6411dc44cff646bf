package xds

import (
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

const (
	quiet     = 10 * time.Minute // for so long nothing is said twice
	mostNamed = 100              // for the same in that time
)

// offenders are named in the log once in a while, not once a message: by who they are and what they do.
type offenders struct {
	log hclog.Logger

	mu     sync.Mutex
	since  time.Time
	said   map[string]map[string]bool // who was named since then, by what they did
	unsaid int
}

// first reports whether who does what for the first time in a while, and it is to be said.
func (o *offenders) first(now time.Time, who, what string) bool {
	say, _ := o.book(now, who, what)
	return say
}

// name writes a line of the log about who does what, unless that was said or many others were named for the same.
func (o *offenders) name(now time.Time, who, what, line string, args ...any) {
	say, unsaid := o.book(now, who, what)
	if unsaid > 0 {
		o.log.Warn("proxies did again what the log says of them, or were too many to be named", "times", unsaid, "within", quiet)
	}
	if say {
		o.log.Warn(line, args...)
	}
}

func (o *offenders) book(now time.Time, who, what string) (say bool, unsaid int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if now.Sub(o.since) >= quiet {
		unsaid = o.unsaid
		o.since, o.unsaid, o.said = now, 0, make(map[string]map[string]bool)
	}
	if o.said[what][who] || len(o.said[what]) >= mostNamed {
		o.unsaid++
		return false, unsaid
	}
	if o.said[what] == nil {
		o.said[what] = make(map[string]bool)
	}
	o.said[what][who] = true
	return true, unsaid
}
