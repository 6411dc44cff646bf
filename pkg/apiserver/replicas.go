package apiserver

import (
	"cmp"
	"context"
	"slices"

	"github.com/breakwater-mesh/breakwater/pkg/api"
)

// alone is the Peers of a server without others.
type alone struct{}

func (alone) Self() api.Replica { return api.Replica{ID: "self"} }

func (alone) Others() []api.Replica { return nil }

func (alone) Changed() <-chan struct{} { return nil }

func (alone) Get(context.Context, string, string, any) error { return api.ErrGone }

func (s *server) listReplicas(context.Context, *struct{}) (*answer[api.ReplicaList], error) {
	self := s.Peers.Self()
	list := append([]api.Replica{self}, s.Peers.Others()...)
	slices.SortFunc(list, func(a, b api.Replica) int { return cmp.Compare(a.ID, b.ID) })
	return &answer[api.ReplicaList]{Body: api.ReplicaList{Items: list, Self: self.ID}}, nil
}
