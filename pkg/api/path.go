package api

import (
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Paths that name no object.
const (
	Base         = "/api/v1"
	ApplyPath    = Base + "/apply"
	ValidatePath = Base + "/validate"
	LintPath     = Base + "/lint"
	ProxiesPath  = Base + "/proxies"
	DeliveryPath = Base + "/delivery"

	DeliveriesPath = Base + "/deliveries"
	ReplicasPath   = Base + "/replicas"
	ClassesPath    = Base + "/classes"
	VersionPath    = Base + "/version"
)

// The plurals by which paths name the kinds.
const (
	Policies   = "policies"
	Guardrails = "guardrails"
	Services   = "services"
)

// ListPath lists a plural in one namespace, or in all of them if that is "".
func ListPath(plural, namespace string) string {
	if namespace == "" {
		return Base + "/" + plural
	}
	return Base + "/namespaces/" + url.PathEscape(namespace) + "/" + plural
}

// ObjectPath is the path of one object.
func ObjectPath(plural, namespace, name string) string {
	return ListPath(plural, namespace) + "/" + url.PathEscape(name)
}

// EndpointsPath lists the endpoints of a service.
func EndpointsPath(namespace, service string) string {
	return ObjectPath(Services, namespace, service) + "/endpoints"
}

// EndpointPath is the path of one endpoint.
func EndpointPath(namespace, service, id string) string {
	return EndpointsPath(namespace, service) + "/" + url.PathEscape(id)
}

// LeasedPath is the path by which an agent registers an endpoint for the time of a lease, and renews it.
func LeasedPath(namespace, service, id string, lease time.Duration) string {
	return EndpointPath(namespace, service, id) + "?" + url.Values{"lease": {lease.String()}}.Encode()
}

// EffectiveQuery says which calls to a service are meant.
type EffectiveQuery struct {
	From   string // the caller: "orders" or "shop/orders"; empty for any other
	Proxy  string // in its place, the node id of a connected proxy of the caller
	Subset string // the called subset; empty for none that policies name
	Route  string // the route they take, likewise
}

// EffectivePath asks what holds for calls to a service.
func EffectivePath(namespace, service string, q EffectiveQuery) string {
	values := url.Values{}
	for _, v := range [][2]string{{"from", q.From}, {"proxy", q.Proxy}, {"subset", q.Subset}, {"route", q.Route}} {
		if v[1] != "" {
			values.Set(v[0], v[1])
		}
	}
	path := ObjectPath(Services, namespace, service) + "/effective"
	if len(values) > 0 {
		path += "?" + values.Encode()
	}
	return path
}

// LintFor asks for the findings of that severity and worse, in one namespace, or in all if it is "".
func LintFor(namespace string, severity Severity) string {
	q := url.Values{"severity": {string(severity)}}
	if namespace != "" {
		q.Set("namespace", namespace)
	}
	return LintPath + "?" + q.Encode()
}

// StatusPath is the status of an object of a plural (Policies, Guardrails, Services).
func StatusPath(plural, namespace, name string) string {
	return ObjectPath(plural, namespace, name) + "/status"
}

// MaxWait is how long a delivery may be waited for in one request.
const MaxWait = time.Minute

// DeliveryQuery says which delivery is asked for.
type DeliveryQuery struct {
	Revision int64
	Wait     time.Duration // at most MaxWait; 0: answer at once
	MinAcked int           // wait also until so many proxies have accepted it
	All      bool          // name all proxies
}

// DeliveryFor asks how far a revision has come.
func DeliveryFor(q DeliveryQuery) string {
	values := AtRevision(q.Revision)
	if q.Wait > 0 {
		values.Set("wait", max(q.Wait.Round(time.Millisecond), time.Millisecond).String())
	}
	if q.MinAcked > 0 {
		values.Set("minAcked", strconv.Itoa(q.MinAcked))
	}
	if q.All {
		values.Set("all", "true")
	}
	return DeliveryPath + "?" + values.Encode()
}

// DeliveriesQuery says the deliveries of which policies and guardrails are asked for; what is empty, of all.
type DeliveriesQuery struct{ Kind, Namespace, Name string }

// DeliveriesFor asks how far policies and guardrails have come.
func DeliveriesFor(q DeliveriesQuery) string {
	values := url.Values{}
	for _, v := range [][2]string{{"kind", q.Kind}, {"namespace", q.Namespace}, {"name", q.Name}} {
		if v[1] != "" {
			values.Set(v[0], v[1])
		}
	}
	if len(values) == 0 {
		return DeliveriesPath
	}
	return DeliveriesPath + "?" + values.Encode()
}

// ProxyPath is the path of one proxy.
func ProxyPath(id string) string { return ProxiesPath + "/" + url.PathEscape(id) }

// ProxyConfigPath is the path of what one proxy should hold and holds.
func ProxyConfigPath(id string) string { return ProxyPath(id) + "/config" }

// ProxyDiffPath is the path of where that differs.
func ProxyDiffPath(id string) string { return ProxyPath(id) + "/diff" }

// OfReplica asks for what is at path for the proxies of one replica alone, by its id; any other replica refuses it.
func OfReplica(path, id string) string {
	mark := "?"
	if strings.Contains(path, "?") {
		mark = "&"
	}
	return path + mark + url.Values{"replica": {id}}.Encode()
}

// DeleteRef names an object in the delete parameter of an apply, such as "Policy/shop/orders".
func DeleteRef(kind, namespace, name string) string { return kind + "/" + namespace + "/" + name }

// AtRevision is the query that makes a read wait until the server has seen a revision.
func AtRevision(revision int64) url.Values {
	return url.Values{"revision": {strconv.FormatInt(revision, 10)}}
}
