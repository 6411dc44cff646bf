package registration

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/client"
	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

const (
	callTimeout  = 3 * time.Second // of one request to one server
	leaveTimeout = 5 * time.Second // of all attempts to take the endpoint out at the end
)

// Config says what is registered where. All of it must be set.
type Config struct {
	Servers                []string // of the API, tried in turn; see client.New
	Namespace, Service, ID string
	Spec                   catalog.EndpointSpec
	Lease                  time.Duration

	Check    Check
	Interval time.Duration // between two checks; also how long one may take
	Rand     resilience.Rand
	Log      hclog.Logger
}

// Status is how a registration stands.
type Status struct {
	Endpoint   string     `json:"endpoint"` // namespace/service/id
	Address    string     `json:"address"`
	Check      string     `json:"check"`             // "passing", or why not
	Registered bool       `json:"registered"`        // as far as the agent knows
	Renewed    *time.Time `json:"renewed,omitempty"` // when the control plane last heard of it
	Error      string     `json:"error,omitempty"`   // why the last word to the control plane failed
}

// Registrar keeps one endpoint registered. Make one with New.
type Registrar struct {
	config  Config
	clients []*client.Client
	wake    chan struct{} // capacity 1: the health has changed

	mu     sync.Mutex // guards all below
	health health
	status Status

	// Only the goroutine that talks touches these.
	ledger ledger
	server int // of clients, the one that answered last
}

// New is a registrar. It opens no connection and starts no goroutine yet.
func New(c Config) (*Registrar, error) {
	r := &Registrar{config: c, wake: make(chan struct{}, 1), ledger: ledger{lease: c.Lease}}
	for _, server := range c.Servers {
		cl, err := client.New(server)
		if err != nil {
			return nil, err
		}
		cl.Actor, cl.Reason = c.ID, "the agent's registration"
		r.clients = append(r.clients, cl)
	}
	if len(r.clients) == 0 {
		return nil, errors.New("no server of the API")
	}
	r.status = Status{Endpoint: c.Namespace + "/" + c.Service + "/" + c.ID, Address: c.Spec.Address, Check: "none yet"}
	if c.Spec.Port != nil {
		r.status.Address = fmt.Sprintf("%s:%d", c.Spec.Address, *c.Spec.Port)
	}
	return r, nil
}

// Status is how the registration stands now. Any goroutine may ask.
func (r *Registrar) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status
}

// Run checks the application and keeps its endpoint registered until ctx ends. Then it takes the endpoint out: left says that it was in use
// until then, the error why that failed: proxies may call the endpoint until its lease has run out. What goes wrong before is retried
// for ever.
func (r *Registrar) Run(ctx context.Context) (left bool, err error) {
	defer func() {
		for _, c := range r.clients {
			c.Close()
		}
	}()
	var group errgroup.Group
	group.Go(func() error { r.watch(ctx); return nil })
	group.Go(func() error { r.talk(ctx); return nil })
	_ = group.Wait()
	left = r.Status().Registered
	return left, r.leave(context.WithoutCancel(ctx))
}

// watch checks the application at every interval.
func (r *Registrar) watch(ctx context.Context) {
	tick := time.NewTicker(r.config.Interval)
	defer tick.Stop()
	for {
		checking, cancel := context.WithTimeout(ctx, r.config.Interval)
		err := r.config.Check(checking)
		cancel()
		if ctx.Err() != nil {
			return
		}
		r.saw(err)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (r *Registrar) saw(err error) {
	r.mu.Lock()
	before := r.health
	changed := r.health.saw(err)
	up := r.health.up
	r.status.Check = "passing"
	if err != nil {
		r.status.Check = "failing: " + err.Error()
	}
	r.mu.Unlock()
	if !changed {
		return
	}
	switch {
	case up:
		r.config.Log.Info("the application answers", "endpoint", r.config.ID)
	case !before.up:
		r.config.Log.Warn("the application does not answer yet: it is not registered", "endpoint", r.config.ID, "checks failed", fall, "error", err)
	default:
		r.config.Log.Warn("the application does not answer: its endpoint is taken out", "endpoint", r.config.ID, "checks failed", fall, "error", err)
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// talk says to the control plane what the ledger asks for.
func (r *Registrar) talk(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		r.mu.Lock()
		h := r.health
		r.mu.Unlock()
		a, wait := r.ledger.next(h, time.Now())
		if a != nothing {
			// A request under way is let end, so that the removal at the end comes after it.
			err := r.say(context.WithoutCancel(ctx), a)
			r.book(a, err)
			r.ledger.done(a, err, time.Now(), r.config.Rand)
			wait = 0
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		case <-timer.C:
		}
	}
}

// book notes how an act ended, and logs what is new.
func (r *Registrar) book(a act, err error) {
	r.mu.Lock()
	old := r.status
	r.status.Error = ""
	if err != nil {
		r.status.Error = err.Error()
	} else {
		now := time.Now().UTC()
		r.status.Registered, r.status.Renewed = a == put, &now
	}
	now := r.status
	r.mu.Unlock()
	switch log := r.config.Log; {
	case now.Error != "" && now.Error != old.Error:
		log.Warn("the control plane can't be told of the endpoint; trying again", "endpoint", now.Endpoint, "error", now.Error)
	case now.Registered != old.Registered || old.Error != "" && now.Error == "":
		log.Info("the control plane was told", "endpoint", now.Endpoint, "address", now.Address, "registered", now.Registered)
	}
}

// say does one act with the first server that takes it, beginning with the one that did last.
func (r *Registrar) say(ctx context.Context, a act) error {
	var err error
	for range r.clients {
		if err = r.sayTo(ctx, r.clients[r.server], a); err != nil {
			err = fmt.Errorf("%s: %w", r.config.Servers[r.server], err)
		}
		if err == nil || final(err) || ctx.Err() != nil {
			return err
		}
		r.server = (r.server + 1) % len(r.clients)
	}
	return err
}

func (r *Registrar) sayTo(ctx context.Context, c *client.Client, a act) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if a == put {
		_, err := c.LeaseEndpoint(ctx, r.config.Namespace, r.config.Service, r.config.ID, r.config.Spec, r.config.Lease)
		return err
	}
	_, err := c.DeleteEndpoint(ctx, r.config.Namespace, r.config.Service, r.config.ID)
	if client.StatusOf(err) == http.StatusNotFound {
		return nil // it is not there: nothing else was wanted
	}
	return err
}

// final says that another server would answer the same.
func final(err error) bool {
	status := client.StatusOf(err)
	return status >= 400 && status < 500
}

// leave takes the endpoint out, if the control plane may have it: also one that an earlier agent of the id has left.
func (r *Registrar) leave(ctx context.Context) error {
	if r.ledger.removed {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	for n := uint32(1); ; n++ {
		err := r.say(ctx, remove)
		r.book(remove, err)
		if err == nil || final(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(resilience.BackOff{Base: 200 * time.Millisecond, Max: time.Second}.Wait(n, r.config.Rand)):
		}
	}
}
