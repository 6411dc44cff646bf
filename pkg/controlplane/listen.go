package controlplane

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
)

// listeners are the three ports, bound before anything else so that a busy one ends the start at once.
type listeners struct{ xds, api, admin net.Listener }

// open binds all ports or none. An error names the flag.
func open(c Config) (listeners, error) {
	var ls listeners
	for _, l := range []struct {
		flag, address string
		to            *net.Listener
	}{
		{"--listen-xds", c.ListenXDS, &ls.xds}, {"--listen-api", c.ListenAPI, &ls.api}, {"--listen-admin", c.ListenAdmin, &ls.admin},
	} {
		opened, err := listen(l.address)
		if err != nil {
			ls.close()
			return listeners{}, fmt.Errorf("%s %s: %w", l.flag, l.address, err)
		}
		*l.to = opened
	}
	return ls, nil
}

func (ls listeners) close() {
	for _, l := range []net.Listener{ls.xds, ls.api, ls.admin} {
		if l != nil {
			_ = l.Close()
		}
	}
}

func listen(address string) (net.Listener, error) {
	path, unix := strings.CutPrefix(address, "unix:")
	if !unix {
		l, err := net.Listen("tcp", address)
		return l, plain(err)
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	return l, plain(err)
}

// removeStale deletes a socket that a killed process left behind; a live one is in use.
func removeStale(path string) error {
	if info, err := os.Lstat(path); err != nil || info.Mode()&os.ModeSocket == 0 {
		return nil // nothing there, or no socket: listening will say what is wrong
	}
	conn, err := net.Dial("unix", path)
	if err == nil {
		_ = conn.Close()
		return errors.New("address already in use")
	}
	return os.Remove(path)
}

// plain strips the address that the caller names already.
func plain(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}
