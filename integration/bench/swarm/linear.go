package main

import (
	"cmp"
	"context"
	"maps"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	xdsserver "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// linear is go-control-plane's own way to serve many clients the same resources: a LinearCache for each type behind a MuxCache.
type linear struct {
	caches map[view.Type]*cache.LinearCache
	mux    *cache.MuxCache
	known  map[view.ID]string // the bytes of what the caches hold
}

func newLinear() *linear {
	s := &linear{caches: make(map[view.Type]*cache.LinearCache), known: make(map[view.ID]string)}
	s.mux = &cache.MuxCache{
		Classify:      func(r *cache.Request) string { return r.GetTypeUrl() },
		ClassifyDelta: func(r *cache.DeltaRequest) string { return r.GetTypeUrl() },
		Caches:        make(map[string]cache.Cache),
	}
	for t := range view.NumTypes {
		s.caches[t] = cache.NewLinearCache(t.URL())
		s.mux.Caches[t.URL()] = s.caches[t]
	}
	return s
}

func (s *linear) options() []grpc.ServerOption { return nil }

func (s *linear) register(g *grpc.Server) {
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, xdsserver.NewServer(context.Background(), s.mux, nil))
}

// load sets the resources that the control plane's responses hold, before anyone asks.
func (s *linear) load(all []said) error {
	sets, err := s.changes(all)
	for t, set := range sets {
		s.caches[t].SetResources(set)
	}
	return err
}

// edit updates those that changed, all of a type at once.
func (s *linear) edit(all []said) error {
	sets, err := s.changes(all)
	for t, set := range sets {
		err = cmp.Or(err, s.caches[t].UpdateResources(set, nil))
	}
	return err
}

func (s *linear) changes(all []said) (map[view.Type]map[string]types.Resource, error) {
	sets := make(map[view.Type]map[string]types.Resource)
	for _, m := range all {
		set, err := s.changed(m)
		if err != nil {
			return nil, err
		}
		if len(set) == 0 {
			continue
		}
		if sets[m.Type] == nil {
			sets[m.Type] = set
		}
		maps.Copy(sets[m.Type], set)
	}
	return sets, nil
}

// changed are the resources in a response that are not the same as before, by name.
func (s *linear) changed(m said) (map[string]types.Resource, error) {
	set := make(map[string]types.Resource)
	var first error
	err := fields(m.Bytes, func(n protowire.Number, value []byte) {
		if n != fieldResources {
			return
		}
		any := &anypb.Any{}
		if m.Delta {
			var r discoveryv3.Resource
			first = cmp.Or(first, proto.Unmarshal(value, &r))
			any = r.GetResource()
		} else {
			first = cmp.Or(first, proto.Unmarshal(value, any))
		}
		inner, err := any.UnmarshalNew()
		first = cmp.Or(first, err)
		if err != nil {
			return
		}
		id := view.ID{Type: m.Type, Name: cache.GetResourceName(inner)}
		if s.known[id] != string(any.GetValue()) {
			s.known[id], set[id.Name] = string(any.GetValue()), inner
		}
	})
	return set, cmp.Or(first, err)
}
