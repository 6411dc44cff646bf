package apiserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// readBody reads the request's body, of at most limit bytes, and says in which format it claims to be.
func readBody(ctx context.Context, limit int64) (body []byte, format manifest.Format, err error) {
	x := exchangeOf(ctx)
	if format, err = bodyFormat(x.request.Header.Values("Content-Type")); err != nil {
		return nil, 0, err
	}
	if encoding := x.request.Header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return nil, 0, unsupported(fmt.Sprintf("Content-Encoding %q is not understood; send the body as it is", encoding))
	}
	body, err = io.ReadAll(http.MaxBytesReader(x.writer, x.request.Body, limit))
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		return nil, 0, tooLarge(fmt.Sprintf("the body is over the limit of %d bytes", limit))
	case err != nil:
		return nil, 0, invalidField("body", "can't be read to its end")
	}
	return body, format, nil
}

// bodyFormat is the format that a Content-Type names. Without one a body is read as YAML, of which JSON is a part.
func bodyFormat(types []string) (manifest.Format, error) {
	if len(types) == 0 || types[0] == "" {
		return manifest.YAML, nil
	}
	media, params, err := mime.ParseMediaType(types[0])
	if err != nil || len(types) > 1 {
		return 0, unsupported("Content-Type can't be read; send application/yaml or application/json")
	}
	if charset, ok := params["charset"]; ok && charset != "utf-8" && charset != "UTF-8" {
		return 0, unsupported(fmt.Sprintf("charset %q is not understood; send UTF-8", charset))
	}
	switch media {
	case "application/json":
		return manifest.JSON, nil
	case "application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml":
		return manifest.YAML, nil
	case "application/x-www-form-urlencoded": // what curl --data-binary sends when not told
		return manifest.YAML, nil
	}
	return 0, unsupported(fmt.Sprintf("Content-Type %q is not understood; send application/yaml or application/json", media))
}

func unsupported(detail string) *api.Problem {
	return &api.Problem{Type: api.UnsupportedMedia, Title: "Unsupported media type", Status: http.StatusUnsupportedMediaType, Detail: detail}
}
