// Package manifest is the envelope every Breakwater object travels in, and the one strict reader of it:
// YAML or JSON in, typed objects or a list of faults with file, line and column out.
package manifest

import (
	"strings"
	"time"
)

// APIVersion is the only apiVersion this build reads and writes.
const APIVersion = "breakwater/v1alpha1"

// SystemNamespace is the one namespace whose policies may reach into every other one.
const SystemNamespace = "breakwater-system"

// DefaultNamespace is where an object without a namespace lives.
const DefaultNamespace = "default"

// Key names an object within its kind.
type Key struct {
	Namespace string
	Name      string
}

// String is the resource name of the object, such as "shop/payments".
func (k Key) String() string { return k.Namespace + "/" + k.Name }

// Compare orders keys by namespace, then name.
func (k Key) Compare(o Key) int {
	if d := strings.Compare(k.Namespace, o.Namespace); d != 0 {
		return d
	}
	return strings.Compare(k.Name, o.Name)
}

// Less reports whether k comes before o.
func (k Key) Less(o Key) bool { return k.Compare(o) < 0 }

// Meta is the metadata of an object. The first four fields are the author's, the rest the server's.
type Meta struct {
	Namespace   string            `json:"namespace,omitempty"`
	Name        string            `json:"name,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`

	// UID tells an object from a later one of the same name.
	UID string `json:"uid,omitempty" set:"server"`
	// Revision is the store revision of the last write. It is not part of the stored value.
	Revision int64 `json:"revision,omitempty" set:"server"`
	// Generation counts the edits of the object, from 1, across deletes too.
	Generation int64      `json:"generation,omitempty" set:"server"`
	CreatedAt  *time.Time `json:"createdAt,omitempty" set:"server"`
	UpdatedAt  *time.Time `json:"updatedAt,omitempty" set:"server"`
	UpdatedBy  string     `json:"updatedBy,omitempty" set:"server"`
}

// Key is the object's key.
func (m Meta) Key() Key { return Key{m.Namespace, m.Name} }

// Object is the envelope: one kind's spec inside it.
type Object[S any] struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   Meta   `json:"metadata"`
	Spec       S      `json:"spec"`
}

// Key is the object's key.
func (o *Object[S]) Key() Key { return o.Metadata.Key() }
