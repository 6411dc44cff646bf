package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// checkPlaces says what of the files that the agent is to write can't be written, as --check is asked. Nothing of what it tries is left.
func (c *Config) checkPlaces() error {
	var faults []error
	place := func(flag, path string, err error) {
		if err != nil {
			faults = append(faults, fmt.Errorf("%s %s: %w", flag, path, err))
		}
	}
	if c.StateDir != "" {
		place("--state-dir", c.StateDir, writable(existing(c.StateDir)))
	}
	if path, socket := strings.CutPrefix(c.Relay, "unix:"); socket {
		place("--relay", c.Relay, writable(filepath.Dir(path)))
	}
	if c.AccessLog != "" && c.AccessLog != "-" && c.AccessLog != "stdout" {
		place("--access-log", c.AccessLog, appendable(c.AccessLog))
	}
	return errors.Join(faults...)
}

// existing is dir, or what of the way to it is there already.
func existing(dir string) string {
	for {
		_, err := os.Lstat(dir)
		if up := filepath.Dir(dir); errors.Is(err, os.ErrNotExist) && up != dir {
			dir = up
			continue
		}
		return dir
	}
}

// writable is why no file can be made in dir.
func writable(dir string) error {
	f, err := os.CreateTemp(dir, ".breakwater-check-*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// appendable is why nothing can be added to the file at path, which need not exist yet.
func appendable(path string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return writable(filepath.Dir(path))
	}
	if err != nil {
		return err
	}
	return f.Close()
}
