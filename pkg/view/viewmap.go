package view

// View is an immutable set of resources of one type.
type View struct{ m map[string]*Resource }
