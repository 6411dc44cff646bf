package world

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/envoy"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// ClassKey is what two proxies must share to get the same resources. It is comparable.
type ClassKey struct {
	Namespace string // of the caller
	Service   string // the caller
	Dialect   string // envoy
	Profile   string // sidecar
	Tier      string // version tier of the dialect, such as "1.40"
	Outbound  string // address:port of the outbound listener
	Runtime   bool   // the proxy has our runtime layers
	Edge      bool   // who calls through it is outside

	OwnRetries bool // where the routes are the owner's: so are the retries
}

// target is what the proxies of the class can take.
func (k ClassKey) target() envoy.Target {
	return envoy.Target{Profile: k.Profile, Version: k.Tier, Runtime: k.Runtime, Edge: k.Edge, OwnRetries: k.OwnRetries}
}

// peers is the key of what all callers of a namespace have in common, who mostly hold the same.
func (k ClassKey) peers() ClassKey {
	k.Service = ""
	return k
}

// Head is everything a class must hold at one revision. It is immutable.
type Head struct {
	Rev   int64
	Views [view.NumTypes]*view.View
	Seen  time.Time // when the change was seen that its views came with; zero: they came with the class
}

// Class is the proxies that share a key. Its head is replaced by the reconcile loop alone; any goroutine may read it.
type Class struct {
	Key  ClassKey
	head atomic.Pointer[Head]
	seat int   // its bit in the log of batches
	born int64 // the revision of its first head

	mu          sync.Mutex
	subscribers map[Subscriber]struct{} // guarded by mu
}

// Subscriber is told of new heads.
type Subscriber interface {
	Wake() // there is one: the newest is all that is of interest. It must not block
}

// NewClass is a class that has a first head already.
func NewClass(key ClassKey, head *Head) *Class {
	c := &Class{Key: key, subscribers: make(map[Subscriber]struct{})}
	c.head.Store(head)
	return c
}

// Born is the revision of the class's first head: no batch up to it says what the class holds of it.
func (c *Class) Born() int64 { return c.born }

// Head is the class's present head, never nil.
func (c *Class) Head() *Head { return c.head.Load() }

// Publish replaces the head and wakes every stream of the class. It never blocks.
func (c *Class) Publish(h *Head) {
	c.head.Store(h)
	c.mu.Lock()
	defer c.mu.Unlock()
	for s := range c.subscribers {
		s.Wake()
	}
}

// Subscribe has s woken by Publish, until stop is called.
func (c *Class) Subscribe(s Subscriber) (stop func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.subscribers[s] = struct{}{}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.subscribers, s)
	}
}

// advance replaces the head by one that differs in its revision alone: no stream has anything to send.
func (c *Class) advance(h *Head) { c.head.Store(h) }
