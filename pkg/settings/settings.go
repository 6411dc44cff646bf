// Package settings fills in a program's settings: by flag, else by environment, else by file, else the default.
package settings

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v4"
)

// UsageError is a mistake in how the program was called; it ends with exit code 2.
type UsageError struct{ Err error }

func (e UsageError) Error() string { return e.Err.Error() }

// Unwrap is what was wrong.
func (e UsageError) Unwrap() error { return e.Err }

// NoArguments is the UsageError of a program that takes flags only and was given args; nil where there are none.
func NoArguments(args []string) error {
	if len(args) == 0 {
		return nil
	}
	return UsageError{fmt.Errorf("unknown argument %q: only flags are taken; --help lists them", args[0])}
}

// Fail tells w why program ends, each line with its name in front, and returns its exit code: 2 for a UsageError, else 1.
func Fail(w io.Writer, program string, err error) int {
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintf(w, "%s: %s\n", program, line)
	}
	if errors.As(err, new(UsageError)) {
		return 2
	}
	return 1
}

// Env is the environment variable of a flag, such as BREAKWATER_LISTEN_XDS for the prefix BREAKWATER_ and the flag listen-xds.
func Env(prefix, flag string) string {
	return prefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Complete fills in, for every flag of fs not given on the command line, the environment's value or the file's. The file may be "".
func Complete(fs *pflag.FlagSet, prefix, file string, getenv func(string) string) error {
	values := map[string]fileValue{}
	if file != "" {
		var err error
		if values, err = readFile(fs, file); err != nil {
			return err
		}
	}
	var firstErr error
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Changed || firstErr != nil || slices.Contains(notSettings, f.Name) {
			return
		}
		env := Env(prefix, f.Name)
		if text := getenv(env); text != "" {
			if err := fs.Set(f.Name, text); err != nil {
				firstErr = fmt.Errorf("environment %s: %w", env, err)
			}
		} else if v, ok := values[f.Name]; ok {
			if err := fs.Set(f.Name, v.text); err != nil {
				firstErr = fmt.Errorf("--config %s:%d: %s: %w", file, v.line, f.Name, err)
			}
		}
	})
	return firstErr
}

type fileValue struct {
	text string
	line int
}

// notSettings are flags that a file can't set.
var notSettings = []string{"config", "help", "version", "check"}

// readFile reads a YAML mapping from flag names to values. Every unknown or repeated name, and every value of the wrong shape, is
// in the error, with its line.
func readFile(fs *pflag.FlagSet, path string) (map[string]fileValue, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("--config: %w", err)
	}
	root, line, err := oneMapping(data)
	if err != nil {
		return nil, fmt.Errorf("--config %s:%d: %w", path, line, err)
	}
	values := map[string]fileValue{}
	var faults []string
	for i := 0; root != nil && i < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		text, line, err := setting(fs, key, value)
		if _, twice := values[key.Value]; twice {
			err = errors.New("set twice")
		}
		if err != nil {
			faults = append(faults, fmt.Sprintf("%s:%d: %s: %v", path, line, key.Value, err))
		}
		values[key.Value] = fileValue{text, key.Line}
	}
	if len(faults) > 0 {
		return nil, fmt.Errorf("--config %s", strings.Join(faults, "\n--config "))
	}
	return values, nil
}

// oneMapping is the mapping that the one document of data holds; nil where it is empty. The line is where an error lies.
func oneMapping(data []byte) (root *yaml.Node, line int, err error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, 0, nil
	} else if err != nil {
		return nil, 1, err
	}
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, max(more.Line, 1), errors.New("want one document")
	}
	if len(doc.Content) == 0 {
		return nil, 0, nil
	}
	if root = doc.Content[0]; root.Kind != yaml.MappingNode {
		return nil, root.Line, errors.New("want a mapping from flag names to values")
	}
	return root, 0, nil
}

// setting is the text that sets a flag to value, and the line to blame.
func setting(fs *pflag.FlagSet, key, value *yaml.Node) (text string, line int, err error) {
	flag := fs.Lookup(key.Value)
	if flag == nil || slices.Contains(notSettings, key.Value) {
		return "", key.Line, errors.New("unknown setting; the names are those of the flags, such as listen-admin")
	}
	if value.Kind == yaml.SequenceNode && flag.Value.Type() != "stringSlice" && flag.Value.Type() != "stringToString" {
		return "", value.Line, errors.New("want a plain value, not a list")
	}
	if flag.Value.Type() == "stringToString" {
		text, err = pairs(value)
		return text, value.Line, err
	}
	text, err = scalarOrList(value)
	return text, value.Line, err
}

// pairs is a mapping, or a list of NAME=VALUE, as a flag takes it: NAME=VALUE[,NAME=VALUE], an item with a comma in quotes.
func pairs(n *yaml.Node) (string, error) {
	if n.Kind == yaml.ScalarNode {
		return n.Value, nil
	}
	var items []string
	if n.Kind == yaml.SequenceNode {
		for _, item := range n.Content {
			if item.Kind != yaml.ScalarNode {
				return "", errors.New("want a list of NAME=VALUE")
			}
			items = append(items, item.Value)
		}
	}
	for i := 0; n.Kind == yaml.MappingNode && i < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode || value.Kind != yaml.ScalarNode {
			items = nil
			break
		}
		items = append(items, key.Value+"="+value.Value)
	}
	if len(items) == 0 {
		return "", errors.New("want NAME=VALUE[,NAME=VALUE], a list of NAME=VALUE, or a mapping from names to plain values")
	}
	var text strings.Builder
	w := csv.NewWriter(&text)
	_ = w.Write(items) // into memory
	w.Flush()
	return strings.TrimSuffix(text.String(), "\n"), nil
}

func scalarOrList(n *yaml.Node) (string, error) {
	switch n.Kind {
	case yaml.ScalarNode:
		return n.Value, nil
	case yaml.SequenceNode:
		items := make([]string, len(n.Content))
		for i, item := range n.Content {
			if item.Kind != yaml.ScalarNode {
				return "", fmt.Errorf("want a list of plain values")
			}
			items[i] = item.Value
		}
		return strings.Join(items, ","), nil
	}
	return "", fmt.Errorf("want a plain value or a list of them")
}
