package etcdcluster

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/breakwater-mesh/breakwater/internal/testkit/program"
)

// slowDisk names the environment variable that names the file with how long a disk takes.
const slowDisk = "SLOW_DISK"

// slowSync stands in for the file in which etcd makes the log of its transactions safe, and takes so much longer.
const slowSync = `package fileutil

import (
	"os"
	"syscall"
	"time"
)

func slow() {
	text, _ := os.ReadFile(os.Getenv("` + slowDisk + `"))
	d, _ := time.ParseDuration(string(text))
	time.Sleep(d)
}

func Fsync(f *os.File) error { slow(); return f.Sync() }

func Fdatasync(f *os.File) error { slow(); return syscall.Fdatasync(int(f.Fd())) }
`

// module is the one of etcd's that syncs files.
const module = "go.etcd.io/etcd/client/pkg/v3"

// buildSlow builds the member with a disk that can be slow: with a copy of one of etcd's modules, in which one file is another. The copy
// stays where it is, so that what depends on it is not compiled again.
func buildSlow() (string, error) {
	root, err := program.Root()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, ".cache", "etcd-slow")
	if err := copyModule(filepath.Join(dir, "module")); err != nil {
		return "", fmt.Errorf("a copy of %s: %w", module, err)
	}
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		return "", err
	}
	sum, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		return "", err
	}
	mod = fmt.Appendf(mod, "\nreplace %s => %s\n", module, filepath.Join(dir, "module"))
	file := filepath.Join(dir, "go.mod")
	if err := errors.Join(keep(file, mod), keep(filepath.Join(dir, "go.sum"), sum)); err != nil {
		return "", err
	}
	return program.BuildAs("etcdmember-slow", "./internal/testkit/etcdmember", "-modfile", file)
}

func copyModule(to string) error {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		return err
	}
	from := strings.TrimSpace(string(out))
	return filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if filepath.Base(path) == "sync_linux.go" {
			text = []byte(slowSync)
		}
		return keep(filepath.Join(to, strings.TrimPrefix(path, from)), text)
	})
}

// keep writes a file, whole or not at all, unless it has that text. Several processes may call it at once.
func keep(path string, text []byte) error {
	if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, text) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "new-*.tmp")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
