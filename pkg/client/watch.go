package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/api"
)

// How a watch is kept.
const (
	silence     = 45 * time.Second // three beats: a connection without a word for so long is dead
	maxEvent    = 16 << 20
	firstPause  = 200 * time.Millisecond
	longPause   = 5 * time.Second
	watchAnswer = time.Minute // for the first byte
)

// Watch calls f with each event of a watch, in order, and goes on after the last one when the connection breaks, here or on another replica behind
// the same address. It returns when ctx ends, f fails, or the server refuses: with a *api.Problem that is not its unavailability. Lost, which may
// be nil, is called when a connection is lost that will be tried anew.
func (c *Client) Watch(ctx context.Context, q api.WatchQuery, f func(api.Watched) error, lost func(error)) error {
	w := &watch{client: c, path: api.WatchFor(q), f: f}
	pause := firstPause
	for {
		begun := w.events
		err := w.once(ctx)
		var refused *api.Problem
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case w.failed != nil:
			return w.failed
		case errors.As(err, &refused) && refused.Status < 500:
			return err
		}
		if lost != nil {
			lost(err)
		}
		if w.events > begun {
			pause = firstPause
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
		pause = min(2*pause, longPause)
	}
}

// watch is one Watch over all of its connections.
type watch struct {
	client *Client
	path   string
	f      func(api.Watched) error
	failed error  // what f said
	last   string // id of the last event
	events int
}

// once reads one connection to its end.
func (w *watch) once(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	dead := time.AfterFunc(watchAnswer, func() { cancel(errors.New("no answer")) })
	defer dead.Stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.client.base+w.path, nil)
	if err != nil {
		return fmt.Errorf("ask %s: %w", w.client.base, err)
	}
	req.Header.Set("Accept", "text/event-stream, application/json")
	setIf(req.Header, "Last-Event-ID", w.last)
	resp, err := w.client.stream.Do(req)
	if err != nil {
		return fmt.Errorf("ask the server: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		answer := &Answer{Status: resp.StatusCode, Header: resp.Header}
		if answer.Body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer)); err != nil {
			return fmt.Errorf("read the answer of %s: %w", w.client.base, err)
		}
		return problem(answer)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(make([]byte, 0, 64<<10), maxEvent)
	if err := w.read(lines, func() { dead.Reset(silence) }); err != nil {
		return err
	}
	if cause := context.Cause(ctx); cause != nil && ctx.Err() != nil {
		return fmt.Errorf("the connection is silent: %w", cause)
	}
	return errors.New("the server ended the connection")
}

// read takes event after event from lines; heard is called with each of them.
func (w *watch) read(lines *bufio.Scanner, heard func()) error {
	var change, id string
	var data []byte
	for lines.Scan() {
		heard()
		line := lines.Text()
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "":
			if id != "" {
				w.last = id
			}
			if data != nil {
				if err := w.event(change, id, data); err != nil {
					return err
				}
			}
			change, id, data = "", "", nil
		case field == "event":
			change = value
		case field == "id":
			id = value
		case field == "data":
			data = append(bytes.Clone(data), value...)
		}
	}
	return lines.Err()
}

func (w *watch) event(change, id string, data []byte) error {
	e := api.Watched{Change: api.Change(change), ID: id}
	if err := json.Unmarshal(data, &e); err != nil {
		return fmt.Errorf("read an event: %w", err)
	}
	w.events++
	w.failed = w.f(e)
	return w.failed
}
