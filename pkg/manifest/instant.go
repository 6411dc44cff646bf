package manifest

import (
	"strconv"
	"time"
)

// Instant is a moment as an author writes it, by RFC 3339 with a zone: "2026-11-24T18:00:00Z". An Instant that passed validation
// always parses.
type Instant string

const instantHint = "write a date and a time with its zone, such as 2026-11-24T18:00:00Z or 2026-11-24T18:00:00+01:00"

// T is the moment; the zero time for text that is none.
func (i Instant) T() time.Time {
	t, err := time.Parse(time.RFC3339, string(i))
	if err != nil {
		return time.Time{}
	}
	return t
}

// Check says what is wrong with the text; "" when nothing is.
func (i Instant) Check() string {
	if i.T().IsZero() {
		return strconv.Quote(clip(string(i))) + " is no moment: " + instantHint
	}
	return ""
}
