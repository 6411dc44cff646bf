package apiserver

import (
	"encoding/json"
	"errors"
	"io"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// accepted is an Accept header in which every name of a format that a body may have is the one that answers are given in. The
// framework would echo the client's.
func accepted(header []string) string {
	ranges := strings.Split(strings.Join(header, ","), ",")
	for i, text := range ranges {
		media, params, _ := strings.Cut(text, ";")
		switch strings.ToLower(strings.TrimSpace(media)) {
		case "yaml", "text/yaml", "text/x-yaml", "application/x-yaml", "application/problem+yaml":
			media = "application/yaml"
		case "json", "text/json", "application/problem+json":
			media = "application/json"
		}
		if ranges[i] = strings.TrimSpace(media); params != "" {
			ranges[i] += ";" + params
		}
	}
	return strings.Join(ranges, ",")
}

func jsonFormat() huma.Format {
	return huma.Format{Marshal: writeJSON, Unmarshal: readNothing}
}

func yamlFormat() huma.Format {
	return huma.Format{Marshal: writeYAML, Unmarshal: readNothing}
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// writeYAML goes by way of JSON: the structs' json tags are the one schema, and their order is the order of the text.
func writeYAML(w io.Writer, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if text, err = manifest.ToYAML(text); err != nil {
		return err
	}
	_, err = w.Write(text)
	return err
}

// readNothing is the Unmarshal of both formats: the framework reads no bodies here.
func readNothing([]byte, any) error { return errors.New("bodies are read by the decoder") }
