package api

import (
	"net/url"
	"strconv"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// History is what is kept of the edits of one object, the newest first. It outlives the object.
type History struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Items     []Edit `json:"items"`
	Revision  int64  `json:"revision"` // of the store when it was read
}

// Edit is one generation of an object: who made it, when, and of what.
type Edit struct {
	Generation int64     `json:"generation"`
	Revision   int64     `json:"revision"` // of the store at that write
	Action     Action    `json:"action" enum:"created,updated,deleted"`
	At         time.Time `json:"at"`
	By         string    `json:"by"`
	Why        string    `json:"why,omitempty"`
	UID        string    `json:"uid,omitempty"`     // of the object; absent where it was deleted
	Changed    []string  `json:"changed,omitempty"` // the fields that an update changed, where the generation before is kept
}

// ETag is that of the object at this edit; "" where it was deleted.
func (e Edit) ETag() string {
	if e.Action == Deleted {
		return ""
	}
	return ETag(manifest.Meta{UID: e.UID, Revision: e.Revision})
}

// Past is one generation of an object as it was.
type Past[S any] struct {
	Edit
	Object *manifest.Object[S] `json:"object,omitempty"` // absent where it was deleted
}

// HistoryPath is the history of an object.
func HistoryPath(plural, namespace, name string) string {
	return ObjectPath(plural, namespace, name) + "/history"
}

// GenerationPath is one generation of an object.
func GenerationPath(plural, namespace, name string, generation int64) string {
	return HistoryPath(plural, namespace, name) + "/" + strconv.FormatInt(generation, 10)
}

// RollbackPath writes a generation of an object anew.
func RollbackPath(plural, namespace, name string, generation int64) string {
	return ObjectPath(plural, namespace, name) + "/rollback?" + url.Values{"generation": {strconv.FormatInt(generation, 10)}}.Encode()
}
