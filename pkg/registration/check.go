package registration

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
)

// Check asks the application whether it can take calls. Nil: it can. It respects the context's deadline.
type Check func(context.Context) error

// ParseCheck is the check of a URL: tcp://HOST:PORT succeeds where a connection is accepted, http://HOST:PORT/PATH where a GET is
// answered with a status from 200 to 299.
func ParseCheck(text string) (Check, error) {
	u, err := url.Parse(text)
	if err != nil || u.Port() == "" || u.Hostname() == "" {
		return nil, fmt.Errorf("%q: want http://HOST:PORT/PATH or tcp://HOST:PORT", text)
	}
	switch {
	case u.Scheme == "tcp" && u.Path == "" && u.RawQuery == "":
		return tcp(u.Host), nil
	case u.Scheme == "http":
		return get(text), nil
	}
	return nil, fmt.Errorf("%q: want http://HOST:PORT/PATH or tcp://HOST:PORT", text)
}

func tcp(address string) Check {
	return func(ctx context.Context) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return conn.Close()
	}
}

// maxAnswer is what is read of the answer to a check.
const maxAnswer = 64 << 10

func get(address string) Check {
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true}, // a new connection tells more, and no proxy is asked
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer))
		if resp.StatusCode < 200 || resp.StatusCode > 299 {
			return fmt.Errorf("GET %s: %s", address, resp.Status)
		}
		return nil
	}
}
