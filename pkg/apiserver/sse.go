package apiserver

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/api"
)

// sse writes server-sent events to one client. Nothing is queued: who does not read holds up its own watch alone, and is cut off when it has taken
// nothing for as long as patience.
type sse struct {
	w        http.ResponseWriter
	control  *http.ResponseController
	patience time.Duration
	buffer   bytes.Buffer
}

// mostBuffered is how much is gathered before it is written.
const mostBuffered = 32 << 10

func newSSE(w http.ResponseWriter, patience time.Duration) *sse {
	s := &sse{w: w, control: http.NewResponseController(w), patience: patience}
	_ = s.control.SetReadDeadline(time.Time{}) // that of the request would end the watch; a writer in memory has none
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // proxies that know it pass events on at once
	w.WriteHeader(http.StatusOK)
	return s
}

// event adds an event; id, if any, is where a watch goes on that has seen it.
func (s *sse) event(e api.Watched, id string) error {
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	fmt.Fprintf(&s.buffer, "event: %s\ndata: %s\n", e.Change, data)
	s.id(id)
	s.buffer.WriteByte('\n')
	if s.buffer.Len() >= mostBuffered {
		return s.flush()
	}
	return nil
}

func (s *sse) id(id string) {
	if id != "" {
		fmt.Fprintf(&s.buffer, "id: %s\n", id)
	}
}

// beat shows that both ends are there, and where a watch goes on that has come so far.
func (s *sse) beat(id string) error {
	s.buffer.WriteString(": beat\n")
	s.id(id)
	s.buffer.WriteByte('\n')
	return s.flush()
}

// flush sends what was added.
func (s *sse) flush() error {
	if s.buffer.Len() == 0 {
		return nil
	}
	_ = s.control.SetWriteDeadline(time.Now().Add(s.patience)) // as above
	_, err := s.w.Write(s.buffer.Bytes())
	s.buffer.Reset()
	if err != nil {
		return err
	}
	return s.control.Flush()
}
