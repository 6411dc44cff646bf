package breakwater_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestTrapsAreShown holds the table of docs/xds-traps.md against the tests: all 36 numbers are there, in order; the tests that a line names
// exist and have its number; and no test is named after a trap that the table does not name.
func TestTrapsAreShown(t *testing.T) {
	const traps = 36
	there := trapTests(t)
	number := 0
	for line := range strings.Lines(read(t, "docs/xds-traps.md")) {
		cells := strings.Split(line, " | ")
		n, err := strconv.Atoi(strings.TrimPrefix(cells[0], "| "))
		if err != nil {
			continue
		}
		if number++; n != number || len(cells) != 4 {
			t.Fatalf("line %d of the table is %q", number, line)
		}
		in := ""
		found := 0
		for _, word := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[3], -1) {
			if strings.Contains(word[1], "/") || word[1] == "integration" {
				in = word[1]
				continue
			}
			if name := word[1]; there[in+" "+name] && strings.HasPrefix(name, fmt.Sprintf("TestTrap%02d_", n)) {
				found++
				delete(there, in+" "+name)
			} else {
				t.Errorf("trap %d: %s has no such test: %s", n, in, name)
			}
		}
		if found == 0 {
			t.Errorf("trap %d: no test shows it", n)
		}
	}
	if number != traps {
		t.Errorf("%d traps, want %d", number, traps)
	}
	for name := range there {
		t.Errorf("docs/xds-traps.md does not name %s", name)
	}
}

// trapTests are the tests that are named after traps, as "pkg/xds TestTrap01_X".
func trapTests(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func (TestTrap\w+)\(`)
	for _, pattern := range []string{"pkg/*/*_test.go", "pkg/*/*/*_test.go", "integration/*_test.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range declared.FindAllStringSubmatch(string(text), -1) {
				names[filepath.Dir(file)+" "+m[1]] = true
			}
		}
	}
	return names
}
