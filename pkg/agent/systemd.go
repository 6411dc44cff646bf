package agent

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/hashicorp/go-hclog"
)

// socket is one that the service manager opened.
type socket struct {
	file *os.File
	used bool // something listens there, or has
}

// inherit takes over the sockets that the service manager opened (LISTEN_FDS), by their addresses. A listener at such an address is
// served from its socket, which stays open when the agent ends: a restart drops no connection.
func inherit(log hclog.Logger) map[string]*socket {
	sockets := map[string]*socket{}
	for _, f := range activation.Files(true) {
		l, err := net.FileListener(f)
		if err != nil {
			log.Error("a socket of the service manager is of no use", "socket", f.Name(), "error", err)
			_ = f.Close()
			continue
		}
		sockets[l.Addr().String()] = &socket{file: f}
		_ = l.Close() // a copy; f stays open
	}
	return sockets
}

// listen opens address, or takes the socket that is open there already.
func (a *agent) listen(address string) (net.Listener, error) {
	if s := a.inherited[address]; s != nil {
		s.used = true
		return net.FileListener(s.file)
	}
	return net.Listen("tcp", address)
}

// closeUnused closes the sockets that nothing has asked for: who connects there would wait for ever. It is called when all that
// listens from the start does. mu is held.
func (a *agent) closeUnused() {
	for address, s := range a.inherited {
		if s.used {
			continue
		}
		a.log.Warn("a socket of the service manager is closed, as nothing listens at its address; callers wait there as long as the service manager has it open: end its socket unit",
			"address", address)
		_ = s.file.Close()
		delete(a.inherited, address)
	}
}

const (
	readyPoll   = 20 * time.Millisecond
	probeLimit  = 5 * time.Second
	noInterval  = time.Hour // in place of a watchdog that nobody asked for
	pingsPerDog = 3         // within the time after which the service manager would act
)

// notify tells the service manager when the agent serves and, as ctx ends, that it goes; and until drained is closed that it is alive, as
// often as it wants to hear. Without a service manager it does nothing.
func (a *agent) notify(ctx context.Context, drained <-chan struct{}, adminAddress string) {
	if os.Getenv("NOTIFY_SOCKET") == "" {
		return
	}
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		a.log.Error("the watchdog's interval can't be read", "error", err)
	}
	if interval /= pingsPerDog; interval <= 0 {
		interval = noInterval
	}
	ready, dog := time.NewTicker(readyPoll), time.NewTicker(interval)
	defer ready.Stop()
	defer dog.Stop()
	stop := ctx.Done()
	for {
		select {
		case <-drained:
			if stop != nil {
				a.say(daemon.SdNotifyStopping)
			}
			return
		case <-stop:
			a.say(daemon.SdNotifyStopping)
			ready.Stop()
			stop = nil
		case <-ready.C:
			if a.ready() == nil {
				a.say(daemon.SdNotifyReady)
				ready.Stop()
			}
		case <-dog.C:
			err := a.probe(context.WithoutCancel(ctx), adminAddress, min(interval, probeLimit))
			if err == nil {
				a.say(daemon.SdNotifyWatchdog)
			} else if ctx.Err() == nil { // at the end the admin port goes too
				a.log.Error("the watchdog is not told that all is well", "error", err)
			}
		}
	}
}

func (a *agent) say(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		a.log.Error("the service manager can't be told", "state", state, "error", err)
	}
}

// probe asks whether the process does its work: a configuration can be applied, and a connection to it is accepted and answered.
func (a *agent) probe(ctx context.Context, address string, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for !a.mu.TryLock() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("a configuration has been coming into force for %v", limit)
		case <-time.After(readyPoll):
		}
	}
	a.mu.Unlock()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/healthz", nil)
	if err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("/healthz answers %s", response.Status)
	}
	return nil
}
