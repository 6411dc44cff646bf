package lint

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write what is found into the goldens")

// text is a finding with all that it says.
func (f Finding) text() string {
	more := ""
	if f.More > 0 {
		more = fmt.Sprintf(", and %d more", f.More)
	}
	return fmt.Sprintf("%s %s: %s %s %s\n  calls: %s%s\n  why: %s\n  instead: %s\n", f.Severity, f.Code, f.Kind, f.Object, f.Path, strings.Join(f.Calls, " -> "), more, f.Why, f.Instead)
}

// TestFindingsOfGoldens lints the manifests of each golden.
func TestFindingsOfGoldens(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no goldens: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			golden, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			for _, f := range Run(read(t, string(golden.Files[0].Data))) {
				got.WriteString(f.text())
			}
			compareGolden(t, file, golden, got.String())
		})
	}
}

// compareGolden holds what is found against the last file of a golden.
func compareGolden(t *testing.T, file string, golden *txtar.Archive, got string) {
	t.Helper()
	last := &golden.Files[len(golden.Files)-1]
	if d := cmp.Diff(string(last.Data), got); d != "" && !*update {
		t.Errorf("%s (-want +got):\n%s", file, d)
	}
	if *update {
		last.Data = []byte(got)
		if err := os.WriteFile(file, txtar.Format(golden), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
