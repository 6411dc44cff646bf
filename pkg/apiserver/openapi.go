package apiserver

import (
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// schemaType is a Go type that is a schema.
type schemaType = reflect.Type

func typeOf[T any]() schemaType { return reflect.TypeFor[T]() }

func schemaOf(h huma.API, t schemaType) *huma.Schema {
	return h.OpenAPI().Components.Schemas.Schema(t, true, "")
}

// schemaName names the generic types by what they hold.
func schemaName(t reflect.Type, hint string) string {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t {
	case typeOf[policy.Policy]():
		return "Policy"
	case typeOf[policy.Guardrail]():
		return "Guardrail"
	case typeOf[api.GuardrailResponse]():
		return "GuardrailResponse"
	case typeOf[catalog.Service]():
		return "Service"
	case typeOf[api.PolicyResponse]():
		return "PolicyResponse"
	case typeOf[api.ServiceResponse]():
		return "ServiceResponse"
	case typeOf[api.Past[policy.Spec]]():
		return "PastPolicy"
	case typeOf[api.Past[policy.GuardrailSpec]]():
		return "PastGuardrail"
	case typeOf[api.Past[catalog.ServiceSpec]]():
		return "PastService"
	case typeOf[policy.Spec]():
		return "PolicySpec"
	}
	return huma.DefaultSchemaNamer(t, hint)
}

// count, bar, methods and status stand in for types whose JSON is not what their Go type says.
type (
	count   struct{}
	bar     struct{}
	methods struct{}
	status  struct{}
)

// Schema implements huma.SchemaProvider.
func (count) Schema(huma.Registry) *huma.Schema {
	zero := 0.0
	return &huma.Schema{OneOf: []*huma.Schema{
		{Type: huma.TypeInteger, Minimum: &zero},
		{Type: huma.TypeString, Enum: []any{"unlimited"}},
	}}
}

// Schema implements huma.SchemaProvider.
func (bar) Schema(huma.Registry) *huma.Schema {
	zero := 0.0
	return &huma.Schema{OneOf: []*huma.Schema{{Type: huma.TypeInteger, Minimum: &zero}, {Type: huma.TypeString}}}
}

// Schema implements huma.SchemaProvider.
func (methods) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{OneOf: []*huma.Schema{
		{Type: huma.TypeString, Enum: []any{"safe", "idempotent", "all"}},
		{Type: huma.TypeArray, Items: &huma.Schema{Type: huma.TypeString}},
	}}
}

// Schema implements huma.SchemaProvider.
func (status) Schema(huma.Registry) *huma.Schema {
	least, most := 100.0, 599.0
	return &huma.Schema{OneOf: []*huma.Schema{
		{Type: huma.TypeInteger, Minimum: &least, Maximum: &most},
		{Type: huma.TypeString, Pattern: "^[1-5](xx|[0-9][0-9])$"},
	}}
}

func aliasTypes(r huma.Registry) {
	r.RegisterTypeAlias(typeOf[manifest.Count](), typeOf[count]())
	r.RegisterTypeAlias(typeOf[policy.Bar](), typeOf[bar]())
	r.RegisterTypeAlias(typeOf[policy.Methods](), typeOf[methods]())
	r.RegisterTypeAlias(typeOf[policy.Status](), typeOf[status]())
}

// documentBody says what an operation reads. The framework must not know it before: bodies are decoded by pkg/manifest, which reports
// every fault with its place.
func documentBody(op *huma.Operation, schema *huma.Schema, required bool) {
	op.RequestBody = &huma.RequestBody{Required: required, Content: map[string]*huma.MediaType{
		"application/json": {Schema: schema},
		"application/yaml": {Schema: schema},
	}}
}

// documentEvents says what the events of a stream hold.
func documentEvents(op *huma.Operation, data *huma.Schema) {
	op.Responses = map[string]*huma.Response{"200": {
		Description: "Events named put, delete, resync and synced; this is the data of each", Content: map[string]*huma.MediaType{"text/event-stream": {Schema: data}},
	}}
}

// finishDocument gives every operation our problem as its error, and lists that are never null.
func finishDocument(doc *huma.OpenAPI) {
	problem := doc.Components.Schemas.Schema(typeOf[api.Problem](), true, "")
	delete(doc.Components.Schemas.Map(), "ErrorModel")
	delete(doc.Components.Schemas.Map(), "ErrorDetail")
	for _, item := range doc.Paths {
		for _, op := range []*huma.Operation{item.Get, item.Put, item.Post, item.Delete} {
			if op != nil {
				op.Responses["default"] = &huma.Response{Description: "Problem", Content: map[string]*huma.MediaType{
					"application/problem+json": {Schema: problem},
				}}
				bothFormats(op)
				for _, p := range op.Parameters {
					neverNull(p.Schema)
				}
			}
		}
	}
	for _, s := range doc.Components.Schemas.Map() {
		neverNull(s)
	}
}

func bothFormats(op *huma.Operation) {
	for _, r := range op.Responses {
		if json := r.Content["application/json"]; json != nil {
			r.Content["application/yaml"] = json
		}
	}
}

func neverNull(s *huma.Schema) {
	if s == nil {
		return
	}
	s.Nullable = false
	neverNull(s.Items)
	for _, p := range s.Properties {
		neverNull(p)
	}
}
