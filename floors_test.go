package breakwater_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/breakwater-mesh/breakwater"

// floors is the house: a package imports packages of lower floors only. A package that is not listed fails the test: give it a floor.
var floors = map[string]int{
	"pkg/manifest": 0, "pkg/view": 0, "pkg/resilience": 0,
	"pkg/catalog": 1, "pkg/policy": 1,
	"pkg/lint": 2, "pkg/envoy": 2, "pkg/envoy/bootstrap": 2, "pkg/envoy/carriers": 2, "pkg/api": 2, "pkg/dataplane": 2,
	"pkg/world": 3, "pkg/store": 3, "pkg/ejections": 3, "pkg/telemetry": 3, "pkg/client": 3, "pkg/settings": 3, "pkg/credentials": 3,
	"pkg/store/etcd": 4, "pkg/store/embedded": 5, // the embedded etcd is used through pkg/store/etcd
	"pkg/store/storetest": 4, "pkg/registration": 4, "pkg/names": 4, "pkg/xds": 4, "pkg/xdsclient": 4, "pkg/admin": 4, "pkg/engine": 4,
	"pkg/reconcile": 5, "pkg/apiserver": 5, "pkg/fleet": 5, "pkg/proxy": 5, "pkg/relay": 5,
	"pkg/controlplane": 6, "pkg/cli": 6, "pkg/agent": 6,
	"cmd/controlplane": 7, "cmd/bwctl": 7, "cmd/agent": 7,
}

// aboveParent are sub-packages with a floor of their own beside their parent's.
var aboveParent = map[string]bool{}

// free may import any floor: tests and what only tests and the demo link.
func free(pkg string) bool {
	return pkg == "." || strings.HasPrefix(pkg, "internal/testkit") || strings.HasPrefix(pkg, "integration")
}

// fences say who may import a library, directly, outside of tests.
var fences = []struct {
	prefix  string
	allowed []string
	why     string
}{
	{"go.etcd.io/etcd/", []string{"pkg/store/etcd", "pkg/store/embedded"}, "the store seam hides etcd"},
	{"github.com/envoyproxy/go-control-plane", []string{"pkg/envoy", "pkg/xds", "pkg/dataplane", "pkg/xdsclient", "pkg/relay"}, "only the compiler, the server, the agent's table and its relay know Envoy"},
	{"go.opentelemetry.io/proto/", []string{"pkg/ejections"}, "only what receives and sends reports of ejections knows their wire"},
	{"github.com/prometheus/", []string{"pkg/telemetry"}, "metric names live in one place"},
	{"github.com/danielgtaylor/huma", []string{"pkg/apiserver"}, "the API's shape must not depend on its framework"},
	{"github.com/spf13/cobra", []string{"pkg/cli", "pkg/controlplane", "pkg/agent"}, "command lines are for the homes"},
}

// pureForbidden are what floors 0-2 must not import: they do no I/O, take no context and read no clock.
var pureForbidden = []string{"context", "os", "net", "net/http", "io/fs", "os/exec", "log", "log/slog", "sync", "math/rand", "math/rand/v2", "crypto/rand"}

type file struct {
	pkg  string // directory below the root
	path string
	ast  *ast.File
	test bool
}

func parse(t *testing.T) []file {
	t.Helper()
	var files []file
	fset := token.NewFileSet()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "tools" || d.Name() == "breakwater-data") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		f, err := parser.ParseFile(fset, path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		files = append(files, file{filepath.ToSlash(filepath.Dir(path)), path, f, strings.HasSuffix(path, "_test.go")})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func imports(f file) []string {
	var list []string
	for _, spec := range f.ast.Imports {
		path, _ := strconv.Unquote(spec.Path.Value)
		list = append(list, path)
	}
	return list
}

func TestImportsGoDownOnly(t *testing.T) {
	for _, f := range parse(t) {
		if f.test || free(f.pkg) {
			continue
		}
		floor, ok := floors[f.pkg]
		if !ok {
			t.Errorf("%s: package %s has no floor: add it to the list", f.path, f.pkg)
			continue
		}
		for _, path := range imports(f) {
			target, ours := strings.CutPrefix(path, module+"/")
			if !ours {
				continue
			}
			if free(target) {
				t.Errorf("%s imports %s, which is for tests and the demo", f.path, target)
			}
			if below, ok := floors[target]; ok && below >= floor && !(aboveParent[f.pkg] && filepath.Dir(f.pkg) == target) {
				t.Errorf("%s (floor %d) imports %s (floor %d): imports go down only", f.path, floor, target, below)
			}
		}
	}
}

func TestEveryFloorIsLivedIn(t *testing.T) {
	seen := make(map[string]bool)
	for _, f := range parse(t) {
		seen[f.pkg] = true
	}
	for pkg := range floors {
		if !seen[pkg] {
			t.Errorf("%s is listed but does not exist", pkg)
		}
	}
}

func TestFences(t *testing.T) {
	for _, f := range parse(t) {
		if f.test || free(f.pkg) {
			continue
		}
		for _, path := range imports(f) {
			for _, fence := range fences {
				if strings.HasPrefix(path, fence.prefix) && !slices.Contains(fence.allowed, f.pkg) {
					t.Errorf("%s imports %s; only %v may: %s", f.path, path, fence.allowed, fence.why)
				}
			}
		}
	}
}

func TestPureFloors(t *testing.T) {
	for _, f := range parse(t) {
		if floor, ok := floors[f.pkg]; f.test || !ok || floor > 2 {
			continue
		}
		for _, path := range imports(f) {
			// pkg/view shares lazily made bytes between streams, which needs sync.Once; nothing else below floor 3 may lock.
			if path == "sync" && f.pkg == "pkg/view" {
				continue
			}
			if slices.Contains(pureForbidden, path) {
				t.Errorf("%s imports %s: floors 0-2 do no I/O, take no context, read no clock", f.path, path)
			}
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				t.Errorf("%s starts a goroutine: floors 0-2 are pure", f.path)
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains([]string{"Now", "Since", "Until", "Sleep", "After", "NewTimer", "NewTicker", "AfterFunc", "Tick"}, n.Sel.Name) {
					t.Errorf("%s reads the clock (time.%s): floors 0-2 are pure", f.path, n.Sel.Name)
				}
			}
			return true
		})
	}
}

func TestNoInitNoAttic(t *testing.T) {
	comments := make(map[string]int)
	for _, f := range parse(t) {
		if slices.Contains([]string{"util", "utils", "common", "helpers", "base", "misc", "shared"}, filepath.Base(f.pkg)) {
			t.Errorf("%s: name the package after what it is for", f.path)
		}
		if !f.test && f.ast.Doc != nil {
			comments[f.pkg]++
		} else if !f.test {
			comments[f.pkg] += 0
		}
		for _, decl := range f.ast.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s has a func init: write the call where it is needed", f.path)
			}
		}
	}
	for pkg, n := range comments {
		if n != 1 {
			t.Errorf("package %s has %d package comments, want exactly 1", pkg, n)
		}
	}
}

// TestLinks looks at the whole dependency tree of what must stay light.
func TestLinks(t *testing.T) {
	for _, rule := range []struct {
		pkg, forbidden, why string
	}{
		{".", "go.etcd.io/etcd", "the library for Go programs links no etcd"},
		{"./pkg/client", "go.etcd.io/etcd", "the API client links no etcd"},
		{"./pkg/client", "github.com/envoyproxy/go-control-plane", "the API client links no Envoy protos"},
		{"./pkg/proxy", "go.etcd.io/etcd", "the data plane links no etcd"},
		{"./cmd/agent", "go.etcd.io/etcd", "the agent links no etcd"},
		{"./cmd/bwctl", "go.etcd.io/etcd", "bwctl builds in seconds"},
		{"./cmd/bwctl", "github.com/envoyproxy/go-control-plane", "bwctl builds in seconds"},
	} {
		out, err := exec.Command("go", "list", "-deps", rule.pkg).Output()
		if err != nil {
			t.Errorf("go list -deps %s: %v", rule.pkg, err)
			continue
		}
		for dep := range strings.Lines(string(out)) {
			if strings.HasPrefix(dep, rule.forbidden) {
				t.Errorf("%s links %s: %s", rule.pkg, strings.TrimSpace(dep), rule.why)
				break
			}
		}
	}
}
