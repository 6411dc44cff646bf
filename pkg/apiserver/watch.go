package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

type watchInput struct {
	Kinds     string `query:"kinds" doc:"What is watched, separated by commas: policies, guardrails, services, proxies, delivery. Absent: policies, guardrails and services."`
	Namespace string `query:"namespace" doc:"Only what is in this namespace; of proxies the caller's. Absent: all."`
	LastID    string `header:"Last-Event-ID" doc:"The id of the last event that was seen: the watch goes on after it, on any replica."`
}

// mostWatches is how many watches one replica serves.
const mostWatches = 256

// watches are what a server knows of its watches.
type watches struct {
	slots      chan struct{} // one is taken by each watch
	proxies    camera
	deliveries camera
}

func newWatches(s *server) *watches {
	return &watches{slots: make(chan struct{}, mostWatches), proxies: camera{take: (&roll{server: s}).take}, deliveries: camera{take: s.watchedDeliveries}}
}

// watch tells changes as server-sent events.
func (s *server) watch(ctx context.Context, in *watchInput) (*huma.StreamResponse, error) {
	kinds, err := in.check()
	if err != nil {
		return nil, err
	}
	w := &watcher{server: s, namespace: in.Namespace, kinds: kinds}
	if err := w.begin(ctx, in.LastID); err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(hctx huma.Context) {
		x := exchangeOf(hctx.Context())
		select {
		case s.watches.slots <- struct{}{}:
			defer func() { <-s.watches.slots }()
		default:
			x.writer.Header().Set("Retry-After", "5")
			writeProblem(x.writer, x.request, &api.Problem{
				Type: api.Unavailable, Title: "Too many watches", Status: http.StatusServiceUnavailable,
				Detail: fmt.Sprintf("%d watches are open on this replica, and that is the most", mostWatches),
			})
			return
		}
		w.out = newSSE(x.writer, s.WatchPatience)
		if err := w.run(hctx.Context()); err != nil {
			s.Log.Debug("a watch ended in the middle", "request", x.id, "error", err)
		}
	}}, nil
}

// check reads what is watched.
func (in *watchInput) check() (kinds []string, err error) {
	if in.Namespace != "" {
		if err := checkNames("query.namespace", in.Namespace); err != nil {
			return nil, err
		}
	}
	if in.Kinds == "" {
		return []string{api.Policies, api.Guardrails, api.Services}, nil
	}
	var faults []manifest.FieldError
	for kind := range strings.SplitSeq(in.Kinds, ",") {
		switch {
		case !slices.Contains(api.Watchable, kind):
			faults = append(faults, manifest.FieldError{Field: "query.kinds", Message: fmt.Sprintf("%q can't be watched: want some of %s", kind, strings.Join(api.Watchable, ", "))})
		case !slices.Contains(kinds, kind):
			kinds = append(kinds, kind)
		}
	}
	if len(faults) > 0 {
		return nil, invalid(faults...)
	}
	return kinds, nil
}

// watcher is one watch. What it has told is a world and two pictures, which it shares with others: however slowly its client reads, it holds no more,
// and tells the newest there is.
type watcher struct {
	*server
	namespace string
	kinds     []string
	out       *sse

	told *world.World // objects were told up to here; nil: nothing yet
	from int64        // where told is nil: the client knows objects up to this revision; 0: nothing
	why  string       // it has to be told all anew; "": it was never told anything

	proxies, deliveries glance
}

// begin finds out where to go on. Its error is the answer.
func (w *watcher) begin(ctx context.Context, id string) error {
	now, err := w.worldAt(ctx, 0)
	if err != nil || id == "" {
		return err
	}
	cluster, rev, ok := parseID(id)
	switch {
	case !ok:
		w.why = "the id is none of this API's"
		return nil
	case cluster != now.Cluster:
		w.why = "the id is of another store"
		return nil
	case rev > now.Rev:
		late, err := w.worldAt(ctx, rev)
		if err != nil {
			return w.ahead(ctx, rev, err)
		}
		now = late
	}
	if !now.Recalls(rev) {
		w.why = "the id is too old, or from before this replica began or the store was restored"
		return nil
	}
	w.from = rev
	return nil
}

// ahead tells a client that is ahead of this replica, which comes late, from one that has seen a store that went back since.
func (w *watcher) ahead(ctx context.Context, rev int64, late error) error {
	ctx, cancel := context.WithTimeout(ctx, w.WriteLimit)
	defer cancel()
	if head, err := w.KV.Head(ctx); err != nil || head.Revision >= rev {
		return late
	}
	w.why = "the store went back: it has not come as far as the id"
	return nil
}

// idOf is where a watch goes on that was told everything up to a revision.
func idOf(cluster uint64, rev int64) string { return fmt.Sprintf("%x-%d", cluster, rev) }

func parseID(id string) (cluster uint64, rev int64, ok bool) {
	store, revision, _ := strings.Cut(id, "-")
	cluster, err := strconv.ParseUint(store, 16, 64)
	rev, errRev := strconv.ParseInt(revision, 10, 64)
	return cluster, rev, errors.Join(err, errRev) == nil && rev > 0
}

// run tells whatever there is to tell until the client has gone, does not read, or the server stops.
func (w *watcher) run(ctx context.Context) error {
	beat := time.NewTicker(w.WatchBeat)
	defer beat.Stop()
	for {
		advanced := w.Worlds.Advanced()
		if err := w.tell(w.Worlds.World()); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-w.Stopping:
			return nil // the client goes on elsewhere
		case <-advanced:
		case <-w.proxies.pause:
			w.proxies.pause = nil
		case <-w.proxies.changed():
		case <-w.deliveries.pause:
			w.deliveries.pause = nil
		case <-w.deliveries.changed():
		case <-beat.C:
			if err := w.out.beat(idOf(w.told.Cluster, w.told.Rev)); err != nil {
				return err
			}
		}
	}
}
