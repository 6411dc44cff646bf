package resilience

// Predicate is a rule over headers. Exactly one field is set.
type Predicate struct {
	Any     bool          // matches whatever there is
	Headers []HeaderMatch // all of them
	Not     *Predicate
	And, Or []*Predicate
}

// Matches reports whether p matches the headers.
func (p *Predicate) Matches(get Headers) bool {
	switch {
	case p.Any:
		return true
	case p.Not != nil:
		return !p.Not.Matches(get)
	case len(p.Or) > 0:
		for _, rule := range p.Or {
			if rule.Matches(get) {
				return true
			}
		}
		return false
	}
	for _, rule := range p.And {
		if !rule.Matches(get) {
			return false
		}
	}
	for i := range p.Headers {
		if !p.Headers[i].Matches(get) {
			return false
		}
	}
	return true
}

// MatchedOutcome is the outcome of a response with this status where a predicate says what is an error: codes of errors below 500
// count as 500, and everything else as a success.
func MatchedOutcome(status Outcome, isError bool) Outcome {
	switch {
	case !isError:
		return 200
	case status < 500:
		return 500
	}
	return status
}
