package api

import (
	"errors"
	"strings"
	"time"
)

// Replica is one of the control planes over one store.
type Replica struct {
	ID        string    `json:"id"`
	Address   string    `json:"address"` // of its API, as the other replicas reach it: host:port or unix:PATH
	StartedAt time.Time `json:"startedAt"`
	Version   string    `json:"version,omitempty"` // of the build
	Vintage   int       `json:"vintage,omitempty"` // the last one that it can build
}

// ErrGone is of a replica that is not registered and does not answer: nobody has to count on it.
var ErrGone = errors.New("the replica is gone")

// ReplicaList is the control planes that are registered, by id.
type ReplicaList struct {
	Items []Replica `json:"items"`
	Self  string    `json:"self"` // the one that answers
}

// Unreachable is a replica that did not answer for the proxies that are connected to it.
type Unreachable struct {
	Replica string `json:"replica"` // its id
	Address string `json:"address"`
	Reason  string `json:"reason"`
}

// String names it and says why.
func (u Unreachable) String() string {
	return "replica " + u.Replica + " at " + u.Address + " (" + u.Reason + ")"
}

func unreachableNames(list []Unreachable) string {
	var names []string
	for _, u := range list {
		names = append(names, u.String())
	}
	return strings.Join(names, ", ")
}
