package dataplane

import (
	"fmt"
	"strings"

	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	filterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/formatter/cel/v3" // mutations pack it
	earlyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"
)

// asides are request headers that were copied on arrival: by the copy's name, the name of the original. Envoy writes some headers of
// its own, so that a listener which wants the application's puts them aside and back. The agent need not: it does not write them.
type asides map[string]string

const forwardedProto = "x-forwarded-proto"

// earlyMutations are done before anything looks at a request's headers: removals, and copies for later.
func (r *reader) earlyMutations(path string, m *hcmv3.HttpConnectionManager, h *HTTP) asides {
	set := make(asides)
	for i, e := range m.GetEarlyHeaderMutationExtensions() {
		list := unpack[*earlyv3.HeaderMutation](e.GetTypedConfig()).GetMutations()
		for j, mutation := range list {
			at := fmt.Sprintf("%s[%d].typed_config.mutations[%d]", path, i, j)
			from, to, copied := copies(mutation)
			switch {
			case mutation.GetRemoveOnMatch().GetKeyMatcher().GetPrefix() == "x-envoy-":
				h.StripEnvoyHeaders = true
			case mutation.GetRemove() != "":
				h.DropHeaders = append(h.DropHeaders, strings.ToLower(mutation.GetRemove()))
			case copied && dropped(h, to):
				set[to] = from
			default:
				r.notEnforced(at)
			}
		}
	}
	return set
}

func dropped(h *HTTP, name string) bool {
	for _, d := range h.DropHeaders {
		if d == name {
			return true
		}
	}
	return false
}

// requestMutations takes triples of mutations that put a header back: remove it, copy it back, remove the copy. The others are edits.
func (r *reader) requestMutations(path string, list []*mutationv3.HeaderMutation, set asides, h *HTTP) []HeaderEdit {
	var edits []HeaderEdit
	for i := 0; i < len(list); {
		if i+2 < len(list) && putsBack(list[i:i+3], set, h) {
			i += 3
			continue
		}
		edits = append(edits, r.edit(indexed(path, i), list[i]))
		i++
	}
	return edits
}

func putsBack(triple []*mutationv3.HeaderMutation, set asides, h *HTTP) bool {
	from, to, copied := copies(triple[1])
	original, aside := set[from]
	if !copied || !aside || original != to || !strings.EqualFold(triple[0].GetRemove(), to) || !strings.EqualFold(triple[2].GetRemove(), from) {
		return false
	}
	if to != forwardedProto {
		return false
	}
	delete(set, from)
	h.AddForwardedProto = false
	return true
}

func (r *reader) edit(path string, m *mutationv3.HeaderMutation) HeaderEdit {
	switch a := m.GetAction().(type) {
	case *mutationv3.HeaderMutation_Remove:
		return HeaderEdit{Name: r.headerName(path+".remove", a.Remove), Action: RemoveHeader}
	case *mutationv3.HeaderMutation_Append:
		return r.headerEdit(path+".append", a.Append)
	}
	r.notEnforced(path)
	return HeaderEdit{}
}

// mutation is for a route; that of a listener is read beside its early mutations.
func (r *reader) mutation(path string, m *filterv3.Mutations) *HeaderMutation {
	out := &HeaderMutation{}
	for i, e := range m.GetRequestMutations() {
		out.Request = append(out.Request, r.edit(indexed(path+".request_mutations", i), e))
	}
	for i, e := range m.GetResponseMutations() {
		out.Response = append(out.Response, r.edit(indexed(path+".response_mutations", i), e))
	}
	return out
}

// indexed is the path of an element of a list.
func indexed(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

// copies reports whether m copies one request header over another, and which.
func copies(m *mutationv3.HeaderMutation) (from, to string, ok bool) {
	a := m.GetAppend()
	if a.GetAppendAction() != corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD || a.GetAppend() != nil || a.GetKeepEmptyValue() {
		return "", "", false
	}
	inner, ok := strings.CutPrefix(a.GetHeader().GetValue(), "%REQ(")
	if !ok {
		return "", "", false
	}
	from, ok = strings.CutSuffix(inner, ")%")
	if !ok || strings.ContainsAny(from, "?:)%") {
		return "", "", false
	}
	return strings.ToLower(from), strings.ToLower(a.GetHeader().GetKey()), true
}
