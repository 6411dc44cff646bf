package apiserver

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// place is the document that asked for a change, for faults found later.
type place struct{ document *manifest.Document }

// fault is a fault with its line and column, as far as they are known.
func (p place) fault(field, message string) manifest.FieldError {
	f := &manifest.FieldError{Field: field, Message: message}
	if p.document != nil {
		if located := p.document.Locate(manifest.FieldErrors{f}); len(located) == 1 {
			return *located[0]
		}
	}
	return *f
}

var (
	kinds      = []string{policy.Kind, policy.GuardrailKind, catalog.Kind}
	laterKinds []string
)

// decodeMany reads the documents of an apply and checks each of them.
func decodeMany(body []byte, format manifest.Format) ([]*change, error) {
	limits := manifest.Limits{Total: api.MaxApplyBytes, Object: api.MaxObjectBytes}
	documents, faults := manifest.Decode("", body, format, limits)
	var changes []*change
	for i := range documents {
		c, found := toChange(&documents[i])
		faults = append(faults, found...)
		changes = append(changes, c)
	}
	if len(faults) > 0 {
		return nil, faulty(faults.Sorted())
	}
	return changes, nil
}

// decodeOne reads the one document of a PUT, which must be of the kind and name that the path says.
func decodeOne(body []byte, format manifest.Format, kind string, key manifest.Key) (*change, error) {
	limits := manifest.Limits{Total: api.MaxObjectBytes, Object: api.MaxObjectBytes}
	documents, faults := manifest.Decode("", body, format, limits)
	if len(faults) == 0 && len(documents) != 1 {
		return nil, invalidField("body", fmt.Sprintf("holds %d documents, must hold exactly 1; send many to %s", len(documents), api.ApplyPath))
	}
	if len(documents) == 0 {
		return nil, faulty(faults)
	}
	d := &documents[0]
	if d.Metadata.Namespace == "" {
		d.Metadata.Namespace = key.Namespace
	}
	if d.Kind == kind || !slices.Contains(kinds, d.Kind) {
		c, found := toChange(d)
		if faults = append(faults, found...); len(faults) == 0 && c.key == key {
			return c, nil
		}
	} else {
		faults = append(faults, d.Locate(manifest.FieldErrors{{Field: "kind", Message: fmt.Sprintf("is %s, but the path names a %s", d.Kind, kind)}})...)
	}
	return nil, faulty(append(faults, misnamed(d, key)...).Sorted())
}

// misnamed are the faults of a document whose name is not the path's.
func misnamed(d *manifest.Document, key manifest.Key) manifest.FieldErrors {
	var faults manifest.FieldErrors
	if ns := d.Metadata.Namespace; ns != key.Namespace && manifest.CheckName(ns) == "" {
		faults = append(faults, &manifest.FieldError{Field: "metadata.namespace", Message: fmt.Sprintf("is %s, but the path says %s", ns, key.Namespace)})
	}
	if name := d.Metadata.Name; name != key.Name && manifest.CheckName(name) == "" {
		faults = append(faults, &manifest.FieldError{Field: "metadata.name", Message: fmt.Sprintf("is %s, but the path says %s", name, key.Name)})
	}
	return d.Locate(faults)
}

// toChange reads a document as the kind it is, and checks it by itself.
func toChange(d *manifest.Document) (*change, manifest.FieldErrors) {
	if d.Metadata.Namespace == "" {
		d.Metadata.Namespace = manifest.DefaultNamespace
	}
	c := &change{kind: d.Kind, key: d.Metadata.Key(), place: place{d}}
	var faults, found manifest.FieldErrors
	switch d.Kind {
	case policy.Kind:
		var o policy.Policy
		o, faults = manifest.Into[policy.Spec](*d)
		found, c.policy = policy.Validate(&o), &o
	case policy.GuardrailKind:
		var o policy.Guardrail
		o, faults = manifest.Into[policy.GuardrailSpec](*d)
		found, c.guardrail = policy.ValidateGuardrail(&o), &o
	case catalog.Kind:
		var o catalog.Service
		o, faults = manifest.Into[catalog.ServiceSpec](*d)
		found, c.service = catalog.Validate(&o), &o
	default:
		return c, manifest.FieldErrors{d.CheckKind(kinds, laterKinds)}
	}
	return c, append(faults, d.Locate(found)...)
}

// The envelope in which an endpoint's body is read: it is a bare spec, whose lines move down and to the right.
const (
	envelopeHead  = "apiVersion: " + manifest.APIVersion + "\nkind: Endpoint\nmetadata: {name: endpoint}\nspec:\n"
	envelopeLines = 4
	envelopeShift = "  "
)

// answeredEndpoint is an endpoint the way it is read: see api.Endpoint.
type answeredEndpoint struct {
	Namespace string               `json:"namespace"`
	Service   string               `json:"service"`
	ID        string               `json:"id"`
	Source    string               `json:"source"`
	Spec      catalog.EndpointSpec `json:"spec"`
	Lease     string               `json:"lease"`
	State     string               `json:"state"`   // the server's, as the status of an object is
	Since     string               `json:"since"`   // likewise
	Message   string               `json:"message"` // likewise
}

// decodeEndpoint reads the body of an endpoint of svc, which may be nil: its bare spec, or the endpoint as a GET answers it. Lease is
// what the request asks for, 0 for none.
func decodeEndpoint(body []byte, name EndpointName, svc *catalog.Service, lease time.Duration) (*catalog.EndpointSpec, error) {
	lines := bytes.Split(body, []byte("\n"))
	for i, line := range lines {
		if len(bytes.TrimSpace(line)) > 0 {
			lines[i] = append([]byte(envelopeShift), line...)
		}
	}
	text := append([]byte(envelopeHead), bytes.Join(lines, []byte("\n"))...)
	documents, faults := manifest.Decode("", text, manifest.YAML, manifest.Limits{Object: 2 * api.MaxObjectBytes})
	if len(documents) == 1 {
		spec, found := readEndpoint(&documents[0], name, svc, lease)
		if faults = append(faults, found...); len(faults) == 0 {
			return spec, nil
		}
	}
	for _, f := range faults.Sorted() {
		f.Field = strings.TrimPrefix(strings.TrimPrefix(f.Field, "spec"), ".")
		if f.Line > envelopeLines {
			f.Line -= envelopeLines
			f.Column = max(1, f.Column-len(envelopeShift))
		} else {
			f.Line, f.Column = 0, 0
		}
	}
	return nil, faulty(faults)
}

// readEndpoint reads a document whose spec is the body of an endpoint.
func readEndpoint(d *manifest.Document, name EndpointName, svc *catalog.Service, lease time.Duration) (*catalog.EndpointSpec, manifest.FieldErrors) {
	if !d.Has("spec.spec") {
		o, faults := manifest.Into[catalog.EndpointSpec](*d)
		found := catalog.ValidateEndpoint(&catalog.Endpoint{ID: name.ID, Spec: o.Spec}, svc)
		return &o.Spec, append(faults, d.Locate(found)...)
	}
	o, faults := manifest.Into[answeredEndpoint](*d)
	found := catalog.ValidateEndpoint(&catalog.Endpoint{ID: name.ID, Spec: o.Spec.Spec}, svc)
	for _, f := range found {
		f.Field = "spec." + f.Field
	}
	for _, part := range []struct{ field, says, path string }{
		{"namespace", o.Spec.Namespace, name.Namespace}, {"service", o.Spec.Service, name.Name}, {"id", o.Spec.ID, name.ID},
	} {
		if part.says != part.path && d.Has("spec."+part.field) {
			found = append(found, &manifest.FieldError{Field: "spec." + part.field, Message: fmt.Sprintf("is %.64s, but the path says %s", part.says, part.path)})
		}
	}
	if s := o.Spec.Source; s != api.SourceAPI && d.Has("spec.source") {
		found = append(found, &manifest.FieldError{Field: "spec.source", Message: "must be api: static endpoints are written in their Service"})
	}
	if s := o.Spec.Lease; d.Has("spec.lease") && !manifest.Duration(s).Same(leaseText(lease)) {
		found = append(found, &manifest.FieldError{Field: "spec.lease", Message: fmt.Sprintf("is not the request's: ask for it with ?lease=%.64s, or leave it out for an endpoint without a lease", s)})
	}
	return &o.Spec.Spec, append(faults, d.Locate(found)...)
}
