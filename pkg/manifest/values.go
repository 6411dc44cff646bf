package manifest

import (
	"math"
	"time"
)

// Duration is a length of time as an author writes it: "250ms", "30s", or "none" where no limit in time makes sense.
// A Duration that passed validation always parses.
type Duration string

// None is the Duration without a limit.
const None Duration = "none"

// D is the duration, 0 for None and for text that is no duration.
func (d Duration) D() time.Duration {
	v, err := time.ParseDuration(string(d))
	if err != nil {
		return 0
	}
	return v
}

// Count is a number of things, or "unlimited".
type Count uint32

// Unlimited is the Count without a limit, as Envoy writes it.
const Unlimited Count = math.MaxUint32
