package xdsclient

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// ErrInUse says that another process uses the directory.
var ErrInUse = errors.New("in use")

// Lock makes the process the only one that uses dir, which need not exist yet, until release or its end, however that comes. Its
// error says which process has it, and is ErrInUse then; other errors are those of the disk.
func Lock(dir string) (release func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); {
	case errors.Is(err, syscall.EWOULDBLOCK):
		who := "another agent"
		if id, _ := os.ReadFile(f.Name()); len(strings.TrimSpace(string(id))) > 0 { // on a full disk it is missing
			who = "the agent with process id " + strings.TrimSpace(string(id))
		}
		_ = f.Close()
		return nil, fmt.Errorf("%s is %w by %s: give each its own", dir, ErrInUse, who)
	case err != nil:
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	// The id is for people: on a full disk it may be missing, and the lock holds all the same.
	if f.Truncate(0) == nil {
		_, _ = fmt.Fprintln(f, os.Getpid())
	}
	return func() { _ = f.Close() }, nil
}
