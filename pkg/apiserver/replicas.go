package apiserver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"syscall"
	"time"

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

// OfReplica is the query of a read that all replicas take part in.
type OfReplica struct {
	Replica string `query:"replica" doc:"Answer for the proxies of that replica alone, by its id. Any but the one that is asked refuses it. Absent: for those of all replicas."`
}

// here reports whether this replica alone is asked. An error: another one is.
func (s *server) here(of OfReplica) (bool, error) {
	self := s.Peers.Self().ID
	if of.Replica == "" || of.Replica == self {
		return of.Replica != "", nil
	}
	return false, &api.Problem{
		Type: api.Misdirected, Title: "Another replica", Status: http.StatusMisdirectedRequest,
		Detail: fmt.Sprintf("this is replica %s: %.80q answers at another address, or has ended", self, of.Replica),
	}
}

// reply is what another replica said.
type reply[T any] struct {
	from api.Replica
	body T
	err  error
}

// askOthers asks all other replicas for what is at path, at one time, and waits so long. Those that have gone are left out.
func askOthers[T any](ctx context.Context, peers Peers, wait time.Duration, path string) []reply[T] {
	others := peers.Others()
	replies := make([]reply[T], len(others))
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	var group sync.WaitGroup
	for i, other := range others {
		group.Go(func() {
			r := &replies[i]
			r.from = other
			r.err = peers.Get(ctx, other.ID, path, &r.body)
		})
	}
	group.Wait()
	return slices.DeleteFunc(replies, func(r reply[T]) bool { return errors.Is(r.err, api.ErrGone) })
}

// unreachable are those that gave no answer.
func unreachable[T any](replies []reply[T]) []api.Unreachable {
	var list []api.Unreachable
	for _, r := range replies {
		if r.err != nil {
			list = append(list, api.Unreachable{Replica: r.from.ID, Address: r.from.Address, Reason: reason(r.err)})
		}
	}
	return list
}

// reason is err in a few words: whom it is about is said elsewhere.
func reason(err error) string {
	var problem *api.Problem
	var errno syscall.Errno
	var asked *url.Error
	switch {
	case errors.As(err, &problem):
		return cmp.Or(problem.Detail, problem.Title)
	case errors.Is(err, context.DeadlineExceeded):
		return "it does not answer in time"
	case errors.As(err, &errno):
		return errno.Error()
	case errors.As(err, &asked):
		return asked.Err.Error()
	}
	return err.Error()
}

// proxies are the connected proxies of all replicas, or of this one, and who did not say.
func (s *server) proxies(ctx context.Context, here bool) ([]api.Proxy, []api.Unreachable) {
	own := s.ownProxies()
	if here {
		return own, nil
	}
	replies := askOthers[api.ProxyList](ctx, s.Peers, s.PeerWait, api.ProxiesPath)
	lists := [][]api.Proxy{own}
	for _, r := range replies {
		lists = append(lists, r.body.Items)
	}
	return api.MergeProxies(lists...), unreachable(replies)
}

func (s *server) ownProxies() []api.Proxy {
	list := slices.Clone(s.Book.Proxies())
	for i := range list {
		list[i].Replica = s.Peers.Self().ID
	}
	return list
}

// proxy is the connected proxy of that node id, of all replicas or of this one: that with the newest stream.
func (s *server) proxy(ctx context.Context, id string, here bool) (*api.Proxy, error) {
	found := slices.DeleteFunc(s.ownProxies(), func(p api.Proxy) bool { return p.ID != id })
	var silent []api.Unreachable
	if !here {
		replies := askHolders[api.Proxy](ctx, s, api.ProxyPath(id))
		silent = unreachable(replies)
		for _, r := range replies {
			if r.err == nil {
				found = append(found, r.body)
			}
		}
	}
	if len(found) == 0 {
		return nil, missing(id, silent)
	}
	p := slices.MaxFunc(found, func(a, b api.Proxy) int { return a.Connected.Compare(b.Connected) })
	return &p, nil
}

// askHolders asks the other replicas for what is at the path of a proxy, and leaves out those to which it is not connected.
func askHolders[T any](ctx context.Context, s *server, path string) []reply[T] {
	replies := askOthers[T](ctx, s.Peers, s.PeerWait, path)
	return slices.DeleteFunc(replies, func(r reply[T]) bool { return notThere(r.err) })
}

func notThere(err error) bool {
	var p *api.Problem
	return errors.As(err, &p) && p.Status == http.StatusNotFound
}

// missing says that a proxy is not connected, or that nobody knows.
func missing(id string, silent []api.Unreachable) error {
	if len(silent) == 0 {
		return notConnected(id)
	}
	return &api.Problem{
		Type: api.Unavailable, Title: "Not known", Status: http.StatusServiceUnavailable,
		Detail: fmt.Sprintf("no proxy %q is connected to any replica that answers; no answer from %s", id, silent[0]),
	}
}
