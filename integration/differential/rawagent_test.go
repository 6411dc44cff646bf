package differential_test

import (
	"bytes"
	"context"
	"path/filepath"
	"sync"

	"github.com/hashicorp/go-hclog"

	"github.com/breakwater-mesh/breakwater/pkg/agent"
	"github.com/breakwater-mesh/breakwater/pkg/proxy"
)

// rawAgent is an agent in this process, so that what it tells of each request is at hand, and a race detector looks on.
type rawAgent struct {
	admin  string
	log    *lines
	cancel context.CancelFunc
	done   chan struct{}

	mu   sync.Mutex
	told map[string][]proxy.Access // by listener
}

func (r *rawRig) startAgent(admin string) error {
	ctx, cancel := context.WithCancel(context.Background())
	a := &rawAgent{admin: admin, log: new(lines), cancel: cancel, done: make(chan struct{}), told: map[string][]proxy.Access{}}
	config := agent.Defaults()
	config.XDS, config.NodeID, config.Namespace, config.Service = []string{r.planes[right].address}, "raw-right", "raw", right
	config.ListenAdmin, config.StateDir, config.DrainTimeout = admin, filepath.Join(r.dir, "raw-state"), 0
	config.Access = func(access proxy.Access) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.told[access.Listener] = append(a.told[access.Listener], access)
	}
	logger := hclog.New(&hclog.LoggerOptions{Level: hclog.Debug, Output: a.log})
	go func() { // ends with stop
		defer close(a.done)
		if err := agent.Run(ctx, config, logger); err != nil && ctx.Err() == nil {
			logger.Error("ended", "error", err)
		}
	}()
	r.agent = a
	return nil
}

func (a *rawAgent) stop() {
	a.cancel()
	<-a.done
}

// of is what was told of a listener.
func (a *rawAgent) of(listener string) []proxy.Access {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]proxy.Access(nil), a.told[listener]...)
}

// lines is a log in memory.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
