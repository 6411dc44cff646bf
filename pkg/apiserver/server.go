// Package apiserver is the HTTP API and the only write path: it decodes and checks what operators send, writes it to the store in one
// transaction, and answers reads from the replica's world.
package apiserver

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/hashicorp/go-hclog"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/store"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

// Worlds is where reads come from.
type Worlds interface {
	// World is everything this replica has seen, nil until it has read the store.
	World() *world.World
	// Wait returns once the world has reached a revision, or with ctx's error.
	Wait(ctx context.Context, revision int64) error
	// Advanced is closed when the world moves on. Take it before World.
	Advanced() <-chan struct{}
}

// Book knows the proxies.
type Book interface {
	// Proxies are the connected proxies, in any order.
	Proxies() []api.Proxy
	// Look is the proxies as they are now, and those that went not long ago.
	Look() Fleet
	// Changed is closed when something may have come of a delivery since. Take it before Look.
	Changed() <-chan struct{}
}

// Peers are the control planes over the same store.
type Peers interface {
	// Self is this one.
	Self() api.Replica
	// Others are those that may have proxies, by id.
	Others() []api.Replica
	// Changed is closed when there are other Others. Take it before them.
	Changed() <-chan struct{}
	// Get asks one of the others, for itself alone, for what is at path, as JSON, into v. A *api.Problem is what it refused with;
	// api.ErrGone says that nobody has to count on it.
	Get(ctx context.Context, id, path string, v any) error
}

// Config is what the API needs. KV and Worlds must be set.
type Config struct {
	KV      store.KV
	Worlds  Worlds
	Book    Book         // nil: no proxies, delivery unknown
	Peers   Peers        // nil: there are no others
	Log     hclog.Logger // nil: silent
	Version string       // of the build

	// Classes counts the connected proxies of each class; nil: there are none.
	Classes func() map[world.ClassKey]int

	// Ejected is what the connected proxies of each class say that they have ejected, hosts by cluster as ejections.StatName has it, one entry
	// for each proxy: nil where it does not say. Nil: none says anything.
	Ejected func() map[world.ClassKey][]map[string]int

	// Quarantined are the policies and guardrails that this replica can't build some service with; nil: there are none.
	Quarantined func() []world.Quarantined

	// Hosts are the names, beside localhost and IP addresses, under which the API may be asked. Any other Host header is refused:
	// a web page can point a name of its own at this address (DNS rebinding).
	Hosts []string

	// Held is what the proxy of that node id should hold and holds; with diff, only where that differs, line by line. Nil: it is not
	// connected. As a field nil: no proxy is.
	Held func(ctx context.Context, id string, diff bool) (*api.ProxyConfig, error)

	Stopping    <-chan struct{}  // closed when the server is to stop: who waits for a delivery is answered then; nil: never
	Now         func() time.Time // nil: time.Now
	PeerWait    time.Duration    // how long another replica may take over an answer; 0: 2 s
	ReadWait    time.Duration    // how long a read waits for ?revision=; 0: 10 s
	CatchUp     time.Duration    // how long a write waits for the world to see it; 0: 1 s
	WriteLimit  time.Duration    // how long the store may take over a write; 0: 5 s
	HistoryKept int64            // generations kept of an object; 0: 50

	WatchBeat     time.Duration // between two signs of life of a watch; 0: 15 s
	WatchPatience time.Duration // a watch whose client reads nothing for so long is cut off; 0: 30 s
}

func (c Config) withDefaults() Config {
	if c.Log == nil {
		c.Log = hclog.NewNullLogger()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Book == nil {
		c.Book = noBook{}
	}
	if c.Peers == nil {
		c.Peers = alone{}
	}
	if c.Classes == nil {
		c.Classes = func() map[world.ClassKey]int { return nil }
	}
	if c.Ejected == nil {
		c.Ejected = func() map[world.ClassKey][]map[string]int { return nil }
	}
	if c.Quarantined == nil {
		c.Quarantined = func() []world.Quarantined { return nil }
	}
	c.PeerWait = or(c.PeerWait, 2*time.Second)
	c.ReadWait = or(c.ReadWait, 10*time.Second)
	c.CatchUp = or(c.CatchUp, time.Second)
	c.WriteLimit = or(c.WriteLimit, 5*time.Second)
	c.HistoryKept = or(c.HistoryKept, 50)
	c.WatchBeat = or(c.WatchBeat, 15*time.Second)
	c.WatchPatience = or(c.WatchPatience, 30*time.Second)
	return c
}

func or[T comparable](v, fallback T) T {
	var zero T
	if v == zero {
		return fallback
	}
	return v
}

// noBook is the Book of a server without proxies.
type noBook struct{}

func (noBook) Proxies() []api.Proxy { return nil }

func (noBook) Look() Fleet { return noFleet{} }

func (noBook) Changed() <-chan struct{} { return nil }

// noFleet is nobody.
type noFleet struct{}

var errNotTracked = errors.New("this server does not track proxies")

func (noFleet) Revision(rev int64, _ bool) api.Delivery {
	d := api.Delivery{Revision: rev, World: rev}
	d.Sum()
	return d
}

func (noFleet) Object(context.Context, string, manifest.Key, bool) (api.Delivery, error) {
	return api.Delivery{}, errNotTracked
}

// server holds what the handlers share. It is read-only after New, but for the surveys, the powerless and the watches.
type server struct {
	Config
	writer    *writer
	surveys   surveys
	powerless powerless
	watches   *watches
	findings  *findings // of the writer too
}

// New is the API as a handler. It starts no goroutine.
func New(c Config) http.Handler {
	c = c.withDefaults()
	s := &server{Config: c, writer: newWriter(c)}
	s.findings, s.watches = s.writer.findings, newWatches(s)
	mux := http.NewServeMux()
	h := humago.New(mux, humaConfig(c))
	s.routes(h)
	finishDocument(h.OpenAPI())
	return s.guard(mux)
}

func humaConfig(c Config) huma.Config {
	registry := huma.NewMapRegistry("#/components/schemas/", schemaName)
	aliasTypes(registry)
	return huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI:    "3.1.0",
			Info:       &huma.Info{Title: "Breakwater", Version: or(c.Version, "devel"), Description: "Resilience policies, pushed over xDS."},
			Components: &huma.Components{Schemas: registry},
		},
		OpenAPIPath:                  "/openapi",
		Formats:                      map[string]huma.Format{"application/json": jsonFormat(), "json": jsonFormat(), "application/yaml": yamlFormat(), "yaml": yamlFormat()},
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
		Transformers:                 []huma.Transformer{asProblem(c.Log)},
	}
}
