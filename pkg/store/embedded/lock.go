package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// lock is the directory's: held by one process, freed by the system when that process ends in whatever way.
type lock struct{ file *os.File }

// lockDir makes dir where it is not there, and takes its lock without waiting. What it made is gone again when it fails.
func lockDir(dir string) (*lock, error) {
	made, err := makeDir(dir)
	if err != nil {
		return nil, err
	}
	l, err := takeLock(filepath.Join(dir, "lock"))
	if err != nil {
		for _, path := range made {
			_ = os.Remove(path) // refuses what is not empty, which is then not ours alone
		}
		return nil, err
	}
	return l, nil
}

// makeDir makes dir and its parents, readable for the owner alone, and returns what it made, the deepest first.
func makeDir(dir string) (made []string, err error) {
	for path := dir; ; path = filepath.Dir(path) {
		info, err := os.Stat(path)
		if err == nil && !info.IsDir() {
			return nil, fmt.Errorf("%s is not a directory", path)
		}
		if err == nil {
			break
		}
		if !os.IsNotExist(err) {
			return nil, err
		}
		made = append(made, path)
	}
	return made, os.MkdirAll(dir, 0o700)
}

func takeLock(path string) (*lock, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = errors.New("the directory is in use by another process")
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &lock{file}, nil
}

func (l *lock) release() error { return l.file.Close() }
