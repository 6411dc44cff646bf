package engine

import "time"

// began is where steady starts from.
var began = time.Now()

// steady is the present as it goes on from the start of the program. Differences of times need it not: time.Time keeps a clock beside
// the wall's for them. But what is counted in slots of seconds takes a time by its number, and that jumps when a clock is set.
func steady() time.Time { return steadyAt(time.Now()) }

func steadyAt(now time.Time) time.Time { return began.Add(now.Sub(began)) }
