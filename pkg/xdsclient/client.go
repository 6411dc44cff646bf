package xdsclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// UserAgent is the name by which servers know the agent.
const UserAgent = "breakwater-agent"

const (
	quiet     = 15 * time.Second // a new stream without any answer for so long is given up
	saveDelay = 200 * time.Millisecond
	saveRetry = 10 * time.Second // after it failed, such as on a full disk
	confirm   = 10 * time.Second // how often what is saved is said to be right still
)

// Apply takes everything that is to be in force. It returns the faults of what it can't enforce, and has changed nothing then. It is
// called by one goroutine, which waits for it before a server gets its answer.
type Apply func(dataplane.Resources) []dataplane.Fault

// Check is the faults that Apply would return, and changes nothing. It is called by the same goroutine.
type Check func(dataplane.Resources) []dataplane.Fault

// Beside runs beside each conversation with a server, over the same connection, from its first answer on. It returns soon after ctx ends.
type Beside func(ctx context.Context, conn grpc.ClientConnInterface)

// Node is who the agent is.
type Node struct {
	ID       string
	Cluster  string // the calling service and its namespace, such as "orders.shop"
	Version  string // of the agent, such as "0.1.0"
	Outbound string // ip:port of the outbound listener; "" for the server's default
	Edge     bool   // who calls through the listener is outside
}

// Config is what a Client is made of. Servers, Node.ID, Node.Cluster and Apply are required.
type Config struct {
	Servers  []string // host:port, tried in turn
	Node     Node
	Layers   []string                    // names of the runtime layers, the later winning; nil: none is asked for
	TLS      func() (*tls.Config, error) // of a new connection; nil: plaintext
	StateDir string                      // where the last known good configuration is kept; "": nowhere
	Apply    Apply
	Beside   Beside       // nil: nothing
	Check    Check        // nil: the faults of what waits for other resources are found once it need not wait, when its response was accepted
	Logger   hclog.Logger // nil: silent

	dial func(context.Context, string) (net.Conn, error) // for tests; nil: TCP
}

// Status is how the client is doing.
type Status struct {
	Server    string    // of the present attempt
	Connected bool      // that server has answered on the present stream
	Since     time.Time // Connected is as it is
	Applied   time.Time // when the configuration in force last changed; zero: there is none yet
	Saved     time.Time // the configuration in force is from disk, and a server confirmed it last then; zero: one has since
	Waiting   int       // resources that wait for others
	LastNACK  string    // text of the last rejection
	NACKed    time.Time // when that was
	LastError string    // of the last stream that ended
	SaveError string    // what is in force is not on disk, and why; "": it is, or will be in a moment
	Resources int       // in force
	SaveFails int64     // attempts to save that failed

	Accepted, Rejected [view.NumTypes]int64 // responses, by type
}

// Client is an agent's side of the conversation. New starts nothing; Run does all the work. Its other methods may be called by any
// goroutine.
type Client struct {
	cfg     Config
	log     hclog.Logger
	servers *Servers
	state   *state // only Run's goroutine touches it
	cache   *Cache // nil: none
	saves   chan dataplane.Resources

	mu     sync.Mutex
	status Status // guarded by mu
}

// New checks cfg. Its error names every field that is wrong.
func New(cfg Config) (*Client, error) {
	var faults []error
	servers, err := NewServers(cfg.Servers, cfg.TLS)
	if err != nil {
		faults = append(faults, err)
	}
	if cfg.Node.ID == "" {
		faults = append(faults, errors.New("the node id is empty"))
	}
	if cfg.Node.Cluster == "" {
		faults = append(faults, errors.New("the node cluster is empty"))
	}
	if cfg.Apply == nil {
		faults = append(faults, errors.New("nothing applies the configuration"))
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	servers.dial = cfg.dial
	c := &Client{cfg: cfg, log: cfg.Logger, servers: servers, state: newState(cfg.Layers), saves: make(chan dataplane.Resources, 1)}
	if cfg.StateDir != "" {
		c.cache = NewCache(cfg.StateDir, cfg.Node)
	}
	return c, nil
}

// Status is a copy.
func (c *Client) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status
}

func (c *Client) note(f func(*Status)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.status)
}

// Run applies what is on disk, then follows the servers until ctx ends. What they say last is saved before it returns.
func (c *Client) Run(ctx context.Context) error {
	c.restore()
	var saver sync.WaitGroup
	saver.Go(c.save)
	defer saver.Wait()
	defer close(c.saves)

	back := NewBackOff(len(c.cfg.Servers))
	heard := false // a server has answered
	for i := 0; ; i++ {
		server := c.cfg.Servers[i%len(c.cfg.Servers)]
		begun := time.Now()
		answered, err := c.follow(ctx, server)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		err = c.servers.Learn(err)
		wait := back.Next(answered, time.Since(begun), rand.Int64N)
		c.note(func(s *Status) {
			if s.Connected {
				s.Connected, s.Since = false, time.Now()
			}
			s.LastError = err.Error()
		})
		heard = heard || answered
		c.log.Warn(c.standing(heard), "server", server, "error", err, "retry", wait)
		if err := c.pause(ctx, wait); err != nil {
			return err
		}
	}
}

// standing is what is in force now that no server can be reached.
func (c *Client) standing(heard bool) string {
	s := c.Status()
	switch {
	case heard:
		return "control plane lost; what it last said stays in force"
	case s.Saved.IsZero():
		return "no control plane can be reached; nothing is in force yet"
	}
	return fmt.Sprintf("no control plane can be reached; what was saved %v ago is in force", time.Since(s.Saved).Round(time.Second))
}

// pause waits, and puts into force what has waited long enough meanwhile.
func (c *Client) pause(ctx context.Context, wait time.Duration) error {
	end := time.NewTimer(wait)
	defer end.Stop()
	for {
		alarm := c.alarm()
		select {
		case <-ctx.Done():
			alarm.Stop()
			return context.Cause(ctx)
		case <-end.C:
			alarm.Stop()
			return nil
		case <-alarm.C:
			c.apply(nil)
		}
	}
}

// alarm fires when time alone may change what is in force.
func (c *Client) alarm() *time.Timer {
	now := time.Now()
	at := c.state.alarm(now)
	if at.IsZero() {
		at = now.Add(time.Hour)
	}
	return time.NewTimer(at.Sub(now))
}

// restore puts what is on disk into force.
func (c *Client) restore() {
	if c.cache == nil {
		return
	}
	saved, err := c.cache.Load()
	if err != nil && !errors.Is(err, os.ErrNotExist) || err != nil && saved != nil {
		c.log.Error("a saved configuration can't be used", "error", err)
	}
	if saved == nil {
		return
	}
	for _, f := range saved.Dropped {
		c.log.Error("a saved resource can't be enforced", "fault", f)
	}
	r := saved.Resources
	r.Layers = c.cfg.Layers
	for range 3 { // once more without what was refused, and once more where that uncovered others
		faults := c.cfg.Apply(r)
		if len(faults) == 0 {
			c.restored(r, saved.At)
			return
		}
		c.log.Error("the saved configuration can't be enforced as it is", "faults", dataplane.Text(faults))
		var drop []dataplane.Change
		for _, f := range faults {
			drop = append(drop, dataplane.Change{ID: f.ID})
		}
		r = r.With(drop)
	}
}

func (c *Client) restored(r dataplane.Resources, at time.Time) {
	c.state.restore(r)
	c.note(func(s *Status) { s.Applied, s.Saved, s.Resources = time.Now(), at, r.Len() })
	c.log.Warn("serving the configuration that was saved", "age", time.Since(at).Round(time.Second), "resources", r.Len())
}

// save writes what is in force, some time after it changed: a burst is one file. What could not be written is tried again. While a
// server confirms what is written, the file says so.
func (c *Client) save() {
	var due, written dataplane.Resources
	waiting := false
	confirmed := time.NewTicker(confirm)
	defer confirmed.Stop()
	timer := time.NewTimer(saveRetry)
	timer.Stop()
	defer timer.Stop()
	for open := true; open; {
		select {
		case r, more := <-c.saves:
			if open = more; open {
				if due = r; !waiting {
					waiting = true
					timer.Reset(saveDelay)
				}
				continue
			}
		case <-confirmed.C:
			if s := c.Status(); c.cache != nil && !waiting && s.Connected && s.Saved.IsZero() && !s.Applied.IsZero() {
				_ = c.cache.Confirm(time.Now()) // else it will look older than it is
			}
			continue
		case <-timer.C:
		}
		if waiting = false; c.cache == nil || due.Same(written) {
			continue
		}
		if err := c.cache.Save(due, time.Now()); err != nil {
			c.log.Error("configuration not saved; what was saved before, if anything, stays", "error", err, "retry", saveRetry)
			c.note(func(s *Status) { s.SaveError, s.SaveFails = err.Error(), s.SaveFails+1 })
			waiting = true
			timer.Reset(saveRetry)
			continue
		}
		written = due
		c.note(func(s *Status) { s.SaveError = "" })
	}
}

// apply puts into force what can be. Its faults are those of changes, and a server is to hear of them: what they replaced stays.
func (c *Client) apply(changes []dataplane.Change) []dataplane.Fault {
	var mine, last []dataplane.Fault
	for range 3 { // once more without what was refused, and once more where that uncovered others
		next := c.state.settle(time.Now())
		if last = nil; next.Same(c.state.inForce) {
			break
		}
		if last = c.cfg.Apply(next); len(last) == 0 {
			c.state.commit(next)
			c.keep(next)
			break
		}
		c.log.Error("a configuration was not taken", "faults", dataplane.Text(last))
		mine = append(mine, c.state.refuse(last, next, changes)...)
	}
	if len(last) > 0 { // nobody knows on whose account
		c.state.revert(changes)
		mine = append(mine, last...)
	}
	c.state.commit(c.state.inForce)
	mine = append(mine, c.early(changes)...)
	c.note(func(s *Status) { s.Waiting, s.Resources = len(c.state.waiting), c.state.inForce.Len() })
	return mine
}

// early is the faults of those of changes that still wait for other resources: their response is answered now, and what they replaced
// stays.
func (c *Client) early(changes []dataplane.Change) []dataplane.Fault {
	if c.cfg.Check == nil || !slices.ContainsFunc(changes, c.state.waits) {
		return nil
	}
	all := c.state.received
	mine := slices.DeleteFunc(c.cfg.Check(all), func(f dataplane.Fault) bool { return !puts(changes, f.ID) })
	return c.state.refuse(mine, all, changes)
}

// keep hands r to the saver, in the place of what it has not begun on.
func (c *Client) keep(r dataplane.Resources) {
	c.note(func(s *Status) { s.Applied = time.Now() })
	select {
	case <-c.saves:
	default:
	}
	c.saves <- r
}

func (c *Client) node() *corev3.Node {
	fields := map[string]*structpb.Value{
		"breakwater.profile": structpb.NewStringValue("sidecar"),
		"breakwater.runtime": structpb.NewStringValue(fmt.Sprint(len(c.cfg.Layers))),
	}
	if c.cfg.Node.Outbound != "" {
		fields["breakwater.outbound"] = structpb.NewStringValue(c.cfg.Node.Outbound)
	}
	if c.cfg.Node.Edge {
		fields["breakwater.edge"] = structpb.NewStringValue("true")
	}
	return &corev3.Node{
		Id: c.cfg.Node.ID, Cluster: c.cfg.Node.Cluster, UserAgentName: UserAgent,
		UserAgentVersionType: &corev3.Node_UserAgentVersion{UserAgentVersion: c.cfg.Node.Version},
		Metadata:             &structpb.Struct{Fields: fields},
	}
}

// wildcard reports whether everything of a type is asked for.
func wildcard(t view.Type) bool { return t == view.CDS || t == view.LDS || t == view.SRDS }
