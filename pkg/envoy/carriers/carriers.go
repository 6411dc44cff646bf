// Package carriers says what becomes of each field of the policy language on its way to a proxy: which resource carries it, at which
// place, how well each profile enforces it, and since which Envoy. The table is generated from the compiler: it links none of it.
package carriers

import "slices"

// Carrier is what becomes of one field.
type Carrier struct {
	Field    string // such as retry.backOff.base
	Resource string // Cluster, Route or Runtime; "" where Envoy gets no part of it
	At       string // the field of Envoy's API, or the end of the runtime key
	Fidelity []Fidelity
	Since    string // the oldest Envoy that knows it, such as "1.36"; "" for any that is served
}

// Fidelity is how well the proxies of a profile enforce the field.
type Fidelity struct{ Profile, Level string }

// Of is what becomes of a field; ok is false for what is no field with a value.
func Of(field string) (c Carrier, ok bool) {
	i := slices.IndexFunc(table, func(c Carrier) bool { return c.Field == field })
	if i < 0 {
		return Carrier{}, false
	}
	return table[i], true
}

// Text is what Envoy gets, as the documents say it.
func (c Carrier) Text() string {
	switch {
	case c.Resource == "" && slices.Contains(c.Fidelity, Fidelity{"agent", "exact"}):
		return "nothing: for the agent"
	case c.Resource == "":
		return "nothing"
	}
	return c.Resource + " " + c.At
}
