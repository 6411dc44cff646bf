package resilience

import "strings"

// Headers returns the values of a header or pseudo header by its lower-case name; none means that it is absent.
type Headers func(name string) []string

// Matches reports whether m matches. Several values are matched as one, joined by commas. An absent header matches nothing, inverted
// or not, unless m asks for its presence or treats it as empty.
func (m *HeaderMatch) Matches(get Headers) bool {
	values := get(m.Name)
	switch m.Kind {
	case Present:
		return (len(values) > 0) != m.Invert
	case Absent:
		return (len(values) == 0) != m.Invert
	}
	switch len(values) {
	case 0:
		return m.TreatMissingAsEmpty && m.matchesValue("") != m.Invert
	case 1:
		return m.matchesValue(values[0]) != m.Invert
	}
	return m.matchesValue(strings.Join(values, ",")) != m.Invert
}

// matchesEach is Matches for response headers that decide on a retry: one matching value of several is enough.
func (m *HeaderMatch) matchesEach(get Headers) bool {
	values := get(m.Name)
	if len(values) < 2 || m.Kind == Present || m.Kind == Absent {
		return m.Matches(get)
	}
	for _, value := range values {
		if m.matchesValue(value) {
			return !m.Invert
		}
	}
	return m.Invert
}

func (m *HeaderMatch) matchesValue(value string) bool {
	if m.Kind == Regex {
		return m.Match(value)
	}
	if len(value) < len(m.Value) {
		return false
	}
	tail := len(value) - len(m.Value)
	switch m.Kind {
	case Exact:
		return tail == 0 && m.equal(value)
	case Prefix:
		return m.equal(value[:len(m.Value)])
	case Suffix:
		return m.equal(value[tail:])
	}
	for i := range tail + 1 {
		if m.equal(value[i : i+len(m.Value)]) {
			return true
		}
	}
	return false
}

// equal compares a string of the right length with the value, in ASCII.
func (m *HeaderMatch) equal(s string) bool {
	if !m.IgnoreCase {
		return s == m.Value
	}
	for i := range len(s) {
		if lowerASCII(s[i]) != lowerASCII(m.Value[i]) {
			return false
		}
	}
	return true
}

func lowerASCII(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// matchesAny reports whether one of list matches, or list is empty.
func matchesAny(list []HeaderMatch, get Headers) bool {
	for i := range list {
		if list[i].Matches(get) {
			return true
		}
	}
	return len(list) == 0
}
