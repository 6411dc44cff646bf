package settings_test

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/breakwater-mesh/breakwater/pkg/settings"
)

// complete is what --name, --list and --config are after environment and file.
func complete(t *testing.T, args []string, env map[string]string, file string) (name string, list []string, err error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file.yaml")
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	var labels map[string]string
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	fs.StringVar(&name, "name", "default", "")
	fs.StringSliceVar(&list, "list", nil, "")
	fs.StringToStringVar(&labels, "labels", nil, "")
	fs.String("config", "", "")
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	err = settings.Complete(fs, "X_", path, func(n string) string { return env[n] })
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		list = append(list, key+"="+labels[key])
	}
	return name, list, err
}

func TestAFlagWinsOverTheEnvironmentAndThatOverTheFile(t *testing.T) {
	env := map[string]string{"X_NAME": "env"}
	for _, tt := range []struct {
		want, file string
		args       []string
		env        map[string]string
	}{
		{"default", "", nil, nil},
		{"file", "name: file", nil, nil},
		{"env", "name: file", nil, env},
		{"flag", "name: file", []string{"--name", "flag"}, env},
		{"default", "name: file", []string{"--name", "default"}, env},
	} {
		if got, _, err := complete(t, tt.args, tt.env, tt.file); err != nil || got != tt.want {
			t.Errorf("args %v, environment %v, file %q: %q %v, want %q", tt.args, tt.env, tt.file, got, err, tt.want)
		}
	}
	if _, list, err := complete(t, nil, nil, "list: [a, b]"); err != nil || strings.Join(list, " ") != "a b" {
		t.Errorf("a list: %q %v, want a and b", list, err)
	}
}

func TestAMapIsWrittenAsAMap(t *testing.T) {
	for file, want := range map[string]string{
		"labels: {a: b, c: \"d,e\"}": "a=b|c=d,e",
		"labels:\n  a: b\n":          "a=b",
		"labels: a=b,c=d":            "a=b|c=d",
		"labels: {a: \"d,e\"}":       "a=d,e",
		"labels: [a=b, c=d]":         "a=b|c=d",
		"labels: [\"a=d,e\"]":        "a=d,e",
	} {
		if _, list, err := complete(t, nil, nil, file); err != nil || strings.Join(list, "|") != want {
			t.Errorf("%s: %q %v, want %q", file, list, err, want)
		}
	}
}

func TestEachLineOfAFailureNamesTheProgram(t *testing.T) {
	for want, err := range map[string]error{
		"x: EOF\nx: EOF\n1": errors.Join(io.EOF, io.EOF),
		"x: EOF\n2":         settings.UsageError{Err: io.EOF},
		"x: unknown argument \"a\": only flags are taken; --help lists them\n2": settings.NoArguments([]string{"a", "b"}),
	} {
		var out strings.Builder
		code := settings.Fail(&out, "x", err)
		if got := fmt.Sprint(out.String(), code); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if err := settings.NoArguments(nil); err != nil {
		t.Error(err)
	}
}

func TestAFileIsStrict(t *testing.T) {
	for file, want := range map[string]string{
		"nmae: x":               ":1: nmae: unknown setting",
		"name: x\n\nconfig: y":  ":3: config: unknown setting",
		"name: x\nname: y":      ":2: name: set twice",
		"name: [x]":             ":1: name: want a plain value",
		"labels: {a: [b]}":      ":1: labels: want NAME=VALUE",
		"labels: {}":            ":1: labels: want NAME=VALUE",
		"nmae: x\nnaem: y":      "file.yaml:2: naem",
		"name: {a: b}":          ":1: name: want a plain value",
		"[name]":                ":1: want a mapping",
		"name: x\n---\nname: y": "want one document",
	} {
		if _, _, err := complete(t, nil, nil, file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", file, err, want)
		}
	}
}

func TestTheEnvironmentDoesNotSetWhatIsNoSetting(t *testing.T) {
	if _, _, err := complete(t, nil, map[string]string{"X_CONFIG": "/elsewhere"}, ""); err != nil {
		t.Error(err)
	}
}

func TestAUsageErrorSaysWhatWasWrong(t *testing.T) {
	err := error(settings.UsageError{Err: io.EOF})
	if !errors.Is(err, io.EOF) || err.Error() != "EOF" {
		t.Errorf("%v, want EOF", err)
	}
	if got := settings.Env("X_", "listen-admin"); got != "X_LISTEN_ADMIN" {
		t.Errorf("variable %s", got)
	}
}
