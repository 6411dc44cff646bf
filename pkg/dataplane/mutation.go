package dataplane

import (
	"fmt"
	"strings"

	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
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

// restore takes triples of mutations that put a header back: remove it, copy it back, remove the copy.
func (r *reader) restore(path string, list []*mutationv3.HeaderMutation, set asides, h *HTTP) {
	for i := 0; i < len(list); i += 3 {
		if i+2 < len(list) {
			from, to, copied := copies(list[i+1])
			original, aside := set[from]
			if copied && aside && original == to && strings.EqualFold(list[i].GetRemove(), to) && strings.EqualFold(list[i+2].GetRemove(), from) {
				delete(set, from)
				if to == forwardedProto {
					h.AddForwardedProto = false
					continue
				}
			}
		}
		r.notEnforced(fmt.Sprintf("%s[%d]", path, i))
	}
}

// copies reports whether m copies one request header over another, and which.
func copies(m *mutationv3.HeaderMutation) (from, to string, ok bool) {
	a := m.GetAppend()
	if a.GetAppendAction() != corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD {
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
