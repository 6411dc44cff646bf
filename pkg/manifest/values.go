package manifest

import (
	"encoding/json"
	"errors"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Duration is a length of time as an author writes it: "250ms", "30s", or "none" where no limit in time makes sense.
// A Duration that passed validation always parses.
type Duration string

// None is the Duration without a limit.
const None Duration = "none"

// The bounds of a Duration. Envoy counts in milliseconds; it would take more than a day, but hardly anyone means it.
const (
	MinDuration = time.Millisecond
	MaxDuration = 24 * time.Hour
)

// D is the duration, 0 for None and for text that is no duration.
func (d Duration) D() time.Duration {
	v, err := time.ParseDuration(string(d))
	if err != nil {
		return 0
	}
	return v
}

// Same reports whether d and o are the same length of time: "1s" and "1000ms" are.
func (d Duration) Same(o Duration) bool {
	return d == o || d != None && o != None && d.D() == o.D()
}

// DurationOf writes v, of at least a millisecond, the short way: "5m", not "5m0s".
func DurationOf(v time.Duration) Duration {
	s := v.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return Duration(s)
}

// Check says what is wrong with the text; "" when nothing is.
func (d Duration) Check(noneAllowed bool) string {
	if d == None {
		if noneAllowed {
			return ""
		}
		return `can't be "none": write a duration, such as 5s`
	}
	if noneAllowed && d.endless() {
		return toNone
	}
	if _, err := strconv.ParseFloat(string(d), 64); err == nil && strings.ContainsAny(string(d), "0123456789") {
		return "write a unit, such as 5s or 250ms"
	}
	v, err := time.ParseDuration(string(d))
	switch {
	case err != nil && overlong(string(d)):
		return "must be at most 24h"
	case err != nil:
		return strconv.Quote(clip(string(d))) + " is not a duration: write a number with a unit, such as 250ms, 5s or 1m30s"
	case v < 0:
		return "must not be negative"
	case v < MinDuration:
		return "must be at least 1ms"
	case v > MaxDuration:
		return "must be at most 24h"
	case v%time.Millisecond != 0:
		return "must be a whole number of milliseconds"
	}
	return ""
}

// toNone is for those who mean no limit and say it otherwise.
const toNone = `write "none" for no limit`

// endless reports whether d is how someone may write that there is no limit.
func (d Duration) endless() bool {
	switch word := strings.ToLower(string(d)); word {
	case "off", "inf", "infinite", "infinity", "forever", "never", "unlimited", "disabled", "null":
		return true
	default:
		v, err := time.ParseDuration(word)
		return err == nil && v == 0
	}
}

// overlong reports whether s, which can't be parsed, is a duration all the same: one of more than 292 years.
func overlong(s string) bool {
	ok, _ := regexp.MatchString(`^([0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h))+$`, s)
	return ok
}

// Count is a number of things, or "unlimited".
type Count uint32

// Unlimited is the Count without a limit, as Envoy writes it.
const Unlimited Count = math.MaxUint32

const unlimited = "unlimited"

// MarshalJSON writes the number, or "unlimited".
func (c Count) MarshalJSON() ([]byte, error) {
	if c == Unlimited {
		return []byte(`"` + unlimited + `"`), nil
	}
	return strconv.AppendUint(nil, uint64(c), 10), nil
}

// UnmarshalJSON reads a number, or "unlimited".
func (c *Count) UnmarshalJSON(data []byte) error {
	if string(data) == `"`+unlimited+`"` {
		*c = Unlimited
		return nil
	}
	var n uint32
	if err := json.Unmarshal(data, &n); err != nil {
		return errors.New(`must be a number or "unlimited"`)
	}
	*c = Count(n)
	return nil
}

// String is the number, or "unlimited".
func (c Count) String() string {
	if c == Unlimited {
		return unlimited
	}
	return strconv.FormatUint(uint64(c), 10)
}
