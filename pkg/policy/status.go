package policy

import (
	"encoding/json"
	"errors"
	"strconv"
)

// Status is a status of HTTP, written 503, or a hundred of them, written "5xx".
type Status string

const statusFault = `must be a status from 100 to 599, or a hundred of them such as "5xx"`

// MarshalJSON writes a number, or the text of a hundred.
func (s Status) MarshalJSON() ([]byte, error) {
	if n, err := strconv.ParseUint(string(s), 10, 16); err == nil {
		return strconv.AppendUint(nil, n, 10), nil
	}
	return json.Marshal(string(s))
}

// UnmarshalJSON reads a number or text.
func (s *Status) UnmarshalJSON(data []byte) error {
	var n uint16
	if json.Unmarshal(data, &n) == nil {
		*s = Status(strconv.FormatUint(uint64(n), 10))
	} else if json.Unmarshal(data, (*string)(s)) != nil {
		return errors.New(statusFault)
	}
	if _, _, ok := s.Range(); !ok {
		return errors.New(statusFault)
	}
	return nil
}

// Range is the first and the last status that s stands for; ok is false where it is no status.
func (s Status) Range() (first, last uint32, ok bool) {
	if len(s) != 3 || s[0] < '1' || s[0] > '5' {
		return 0, 0, false
	}
	if hundred := 100 * uint32(s[0]-'0'); s[1:] == "xx" {
		return hundred, hundred + 99, true
	}
	n, err := strconv.ParseUint(string(s), 10, 16)
	return uint32(n), uint32(n), err == nil
}

// Covers reports whether status is one of those that list stands for.
func Covers(list []Status, status uint32) bool {
	for _, s := range list {
		if first, last, ok := s.Range(); ok && first <= status && status <= last {
			return true
		}
	}
	return false
}

// statuses checks a list of them.
func (f *faults) statuses(path string, list []Status) {
	words := make([]string, len(list))
	for i, s := range list {
		words[i] = string(s)
	}
	f.unique(path, words)
}
