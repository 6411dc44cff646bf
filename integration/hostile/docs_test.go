package hostile

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/breakwater-mesh/breakwater/internal/testkit/program"
)

var update = flag.Bool("update", false, "write the table of docs/hostile-clients.md anew")

func TestDocsHostileClients(t *testing.T) {
	root, err := program.Root()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(root, "docs", "hostile-clients.md")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- the kinds -->\n", "<!-- end of the kinds -->"
	head, rest, ok := strings.Cut(string(b), begin)
	_, tail, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s has no generated part", file)
	}
	table := "| a client that | the server |\n| --- | --- |\n"
	for _, k := range kinds() {
		table += fmt.Sprintf("| %s | %s |\n", k.does, k.server)
	}
	want := head + begin + table + end + tail
	switch {
	case want == string(b):
	case *update:
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("%s is not what the kinds say: run go test -run Docs ./integration/hostile -update and review the difference", file)
	}
}
