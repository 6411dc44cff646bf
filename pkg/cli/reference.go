package cli

import (
	"slices"
	"strings"

	"github.com/breakwater-mesh/breakwater/pkg/api"
)

// plurals are the words for the kinds, and the plural that the API uses.
var plurals = map[string]string{
	"policy": api.Policies, "policies": api.Policies, "pol": api.Policies,
	"guardrail": api.Guardrails, "guardrails": api.Guardrails, "guard": api.Guardrails,
	"service": api.Services, "services": api.Services, "svc": api.Services,
	"endpoint": endpointPlural, "endpoints": endpointPlural, "ep": endpointPlural,
	"proxy": api.Proxies, "proxies": api.Proxies,
}

// endpointPlural names no kind of manifest.
const endpointPlural = "endpoints"

func singular(kind string) string {
	switch plurals[kind] {
	case api.Policies:
		return "policy"
	case api.Guardrails:
		return "guardrail"
	case api.Services:
		return "service"
	case api.Proxies:
		return "proxy"
	}
	return "endpoint"
}

// reference is what the command line names.
type reference struct {
	kind      string // a key of plurals
	namespace string
	name      string // of an endpoint SERVICE or SERVICE/ID
}

// references reads KIND NAME..., or KIND/NAME and KIND/NAMESPACE/NAME as get -o name prints them. A kind alone names nothing.
func (a *app) references(args []string) ([]reference, error) {
	var list []reference
	if !strings.Contains(args[0], "/") {
		for _, name := range args[1:] {
			list = append(list, reference{args[0], a.namespace, name})
		}
		return list, nil
	}
	for _, arg := range args {
		r, ok := a.reference(arg)
		if !ok {
			return nil, usagef("%s: want KIND/NAME or KIND/NAMESPACE/NAME, as get -o name prints it", arg)
		}
		list = append(list, r)
	}
	return list, nil
}

// reference reads one KIND/NAME or KIND/NAMESPACE/NAME. An endpoint's name has a slash of its own; whatever follows proxy/ is the id.
func (a *app) reference(text string) (reference, bool) {
	kind, name, _ := strings.Cut(text, "/")
	parts := strings.Split(name, "/")
	r := reference{kind, a.namespace, name}
	whole := 1 // parts of a name
	switch plurals[kind] {
	case "":
		return r, false
	case api.Proxies:
		return r, name != ""
	case endpointPlural:
		whole = 2
	}
	if len(parts) > whole {
		r.namespace, parts = parts[0], parts[1:]
		r.name = strings.Join(parts, "/")
	}
	return r, len(parts) <= whole && !slices.Contains(parts, "")
}
