package xdsclient

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOneProcessADirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	release, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Lock(dir); err == nil || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) || !strings.Contains(err.Error(), dir) {
		t.Errorf("a second lock: %v, %v; want an error that names the process and the directory", again != nil, err)
	}
	if err := os.Truncate(filepath.Join(dir, "lock"), 0); err != nil { // as on a full disk
		t.Fatal(err)
	}
	if _, err := Lock(dir); err == nil || !strings.HasSuffix(err.Error(), "is in use by another agent: give each its own") {
		t.Errorf("a second lock where the process is not known: %v", err)
	}
	release()
	release, err = Lock(dir)
	if err != nil {
		t.Fatalf("after the first ended: %v", err)
	}
	release()
}
