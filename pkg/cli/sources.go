package cli

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// sources are the files of a command, and the one text that is made of them: everything goes in one transaction.
type sources struct {
	files []source
	text  []byte
}

// source is one file and where it begins in the text.
type source struct {
	name  string
	first int // line of the text that is the file's line 1
	lines int
	body  string
}

const stdinName = "-"

// readSources reads files, directories (their .yaml, .yml and .json files) and "-", the standard input.
func (a *app) readSources(names []string) (*sources, error) {
	if len(names) == 0 {
		return nil, usagef("-f is required: a file, a directory, or - for the standard input")
	}
	s := &sources{}
	for i, name := range names {
		if name == stdinName && slices.Contains(names[:i], stdinName) {
			return nil, usagef("-f -: the standard input can be read once")
		}
		if err := a.readSource(s, name); err != nil {
			return nil, err
		}
	}
	a.sources = s
	return s, nil
}

func (a *app) readSource(s *sources, name string) error {
	if name == stdinName {
		body, err := io.ReadAll(a.In)
		if err != nil {
			return fmt.Errorf("read the standard input: %w", err)
		}
		s.add("stdin", body)
		return nil
	}
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return s.addFile(name)
	}
	entries, err := os.ReadDir(name)
	if err != nil {
		return err
	}
	before := len(s.files)
	for _, e := range entries {
		if !e.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(e.Name())) {
			if err := s.addFile(filepath.Join(name, e.Name())); err != nil {
				return err
			}
		}
	}
	if len(s.files) == before {
		return fmt.Errorf("%s: there is no .yaml, .yml or .json file in it", name)
	}
	return nil
}

func (s *sources) addFile(name string) error {
	body, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	s.add(name, body)
	return nil
}

// add appends a file as documents of its own.
func (s *sources) add(name string, body []byte) {
	body = bytes.TrimPrefix(body, []byte("\ufeff"))
	if len(s.files) > 0 {
		s.text = append(s.text, "---\n"...)
	}
	first := bytes.Count(s.text, []byte("\n")) + 1
	s.text = append(s.text, body...)
	if len(body) > 0 && body[len(body)-1] != '\n' {
		s.text = append(s.text, '\n')
	}
	last := bytes.Count(s.text, []byte("\n"))
	s.files = append(s.files, source{name: name, first: first, lines: last - first + 1, body: string(body)})
}

// locate moves a fault of the text to the file it stands in, and returns the line of source.
func (s *sources) locate(f *manifest.FieldError) (line string, ok bool) {
	if f.Line == 0 {
		return "", false
	}
	for _, file := range slices.Backward(s.files) {
		if f.Line < file.first {
			continue
		}
		f.File, f.Line = file.name, f.Line-file.first+1
		lines := strings.Split(file.body, "\n")
		if f.Line > len(lines) {
			return "", false
		}
		return strings.TrimSuffix(lines[f.Line-1], "\r"), true
	}
	return "", false
}
