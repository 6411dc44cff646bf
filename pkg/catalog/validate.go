package catalog

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// MaxEndpoints is how many endpoints one service may have, static and registered ones together.
const MaxEndpoints = 10000

// maxHosts is how many further hosts one service may have.
const maxHosts = 64

// tooHeavy is what Envoy says no to: it adds the weights of a locality up in 32 bits.
const tooHeavy = "the weights of one locality add up to more than 4294967295"

// Validate is everything that is wrong with one service alone. The faults carry field paths; Document.Locate adds positions.
func Validate(svc *Service) manifest.FieldErrors {
	f := &faults{errs: manifest.CheckMeta(&svc.Metadata)}
	spec := &svc.Spec
	if len(Together(svc, nil).Heavy) > 0 {
		f.add("spec.endpoints", tooHeavy)
	}
	f.errs = append(f.errs, manifest.CheckBounds(spec, "spec")...)
	f.hosts(svc)
	f.endpoints(spec)
	f.discovery(spec)
	f.dependsOn(svc)
	f.subsets(spec)
	f.routes(svc)
	f.tls(spec.TLS)
	f.clusterName(spec.ClusterName)
	f.tcp(spec)
	return f.errs
}

// ValidateEndpoint is everything that is wrong with a registered endpoint of svc, which may be nil where it is not known.
func ValidateEndpoint(e *Endpoint, svc *Service) manifest.FieldErrors {
	f := &faults{}
	if msg := manifest.CheckName(e.ID); msg != "" {
		f.add("metadata.name", "the endpoint's id %s", msg)
	}
	f.errs = append(f.errs, manifest.CheckBounds(&e.Spec, "spec")...)
	f.endpoint("spec", &e.Spec)
	if svc != nil && DNSOf(svc) != nil {
		f.add("spec", "Service %s has the endpoints that DNS names (spec.discovery.dns): none can register", svc.Key())
		return f.errs
	}
	if e.Spec.Port == nil && svc != nil && svc.Spec.Port == nil {
		f.add("spec.port", "is required: the service names no port")
	}
	return f.errs
}

type faults struct{ errs manifest.FieldErrors }

func (f *faults) add(path, format string, args ...any) {
	f.errs = append(f.errs, &manifest.FieldError{Field: path, Message: fmt.Sprintf(format, args...)})
}

func (f *faults) hosts(svc *Service) {
	if n := len(svc.Spec.Hosts); n > maxHosts {
		f.add("spec.hosts", "must have at most %d hosts, has %d", maxHosts, n)
	}
	for i, host := range svc.Spec.Hosts {
		path := fmt.Sprintf("spec.hosts[%d]", i)
		switch msg := checkHost(host); {
		case msg != "":
			f.add(path, "%s", msg)
		case slices.Contains(svc.Spec.Hosts[:i], host):
			f.add(path, "%q is there twice", host)
		case host == svc.Metadata.Name+"."+svc.Metadata.Namespace:
			f.add(path, "the service has %q by its name already: leave it out", host)
		}
	}
}

// checkHost says what is wrong with a further domain of a service; "" when nothing is.
func checkHost(host string) string {
	quoted := fmt.Sprintf("%.70q", host)
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return quoted + " is an IP address: hosts are DNS names"
	}
	switch {
	case strings.Contains(host, "*"):
		return quoted + " has a wildcard: name every host"
	case strings.Contains(host, ":"):
		return quoted + " has a port or a scheme: callers reach a host on any port"
	case host != strings.ToLower(host) && manifest.DNSName(strings.ToLower(host)):
		return "must be in lower case: " + strings.ToLower(host)
	case strings.HasSuffix(host, "."):
		return quoted + " must not end with a dot"
	case !manifest.DNSName(host):
		return quoted + " is not a DNS name"
	case !strings.Contains(host, "."):
		return quoted + " is a single label: a service is reached by its own name in its namespace; further hosts need a domain"
	}
	return ""
}

func (f *faults) endpoints(spec *ServiceSpec) {
	if n := len(spec.Endpoints); n > MaxEndpoints {
		f.add("spec.endpoints", "must have at most %d endpoints, has %d", MaxEndpoints, n)
		return
	}
	seen := make(map[netip.AddrPort]int)
	for i := range spec.Endpoints {
		e, path := &spec.Endpoints[i], fmt.Sprintf("spec.endpoints[%d]", i)
		f.endpoint(path, e)
		port := Port(e, spec)
		if port == 0 && e.Port == nil && spec.Port == nil {
			f.add(path+".port", "is required: the service names no port")
		}
		addr, err := netip.ParseAddr(e.Address)
		if err != nil {
			continue
		}
		at := netip.AddrPortFrom(addr, uint16(port))
		if first, twice := seen[at]; twice {
			f.add(path, "%s is there twice: see spec.endpoints[%d]", at, first)
			continue
		}
		seen[at] = i
	}
}

func (f *faults) endpoint(path string, e *EndpointSpec) {
	if msg := checkAddress(e.Address); msg != "" {
		f.add(path+".address", "%s", msg)
	}
	f.errs = append(f.errs, manifest.CheckLabels(path+".labels", e.Labels)...)
	if e.Locality == nil {
		return
	}
	for _, part := range [][2]string{{"region", e.Locality.Region}, {"zone", e.Locality.Zone}, {"subZone", e.Locality.SubZone}} {
		if len(part[1]) > 63 {
			f.add(path+".locality."+part[0], "must have at most 63 characters")
		}
	}
	if e.Locality.Region == "" && (e.Locality.Zone != "" || e.Locality.SubZone != "") {
		f.add(path+".locality.region", "is required beside a zone")
	}
}

// checkAddress says what is wrong with an endpoint's address; "" when nothing is.
func checkAddress(address string) string {
	if address == "" {
		return "is required"
	}
	addr, err := netip.ParseAddr(address)
	switch {
	case err != nil && manifest.DNSName(strings.ToLower(address)) && strings.Trim(address, "0123456789.") != "":
		return fmt.Sprintf("%.70q is a host name: write an IP address, or the name in spec.discovery.dns", address)
	case err != nil:
		return fmt.Sprintf("%.70q is not an IP address", address)
	case addr.Zone() != "":
		return fmt.Sprintf("%.70q has a zone, which Envoy can't take", address)
	case addr.IsUnspecified():
		return fmt.Sprintf("%.70q stands for every address: write the one that callers reach", address)
	case addr.IsMulticast():
		return fmt.Sprintf("%.70q is a multicast address", address)
	case addr.Is4In6():
		return fmt.Sprintf("must be written %s", addr.Unmap())
	case addr.String() != address:
		return fmt.Sprintf("must be written %s", addr)
	}
	return ""
}

// proxyPorts are those that a sidecar listens on, or will.
var proxyPorts = []uint32{15001, 15006}

// tcp checks what a tcp service alone has, and what it can't have: nobody sees requests on its connections.
func (f *faults) tcp(spec *ServiceSpec) {
	if spec.Protocol != TCP {
		if spec.LocalPort != nil {
			f.add("spec.localPort", "is for protocol tcp alone: other services are reached by their hosts")
		}
		return
	}
	switch {
	case spec.LocalPort == nil:
		f.add("spec.localPort", "is required with protocol tcp: where callers reach it on 127.0.0.1")
	case slices.Contains(proxyPorts, *spec.LocalPort):
		f.add("spec.localPort", "%d is the sidecar's own: choose another port", *spec.LocalPort)
	}
	const why = "is not for protocol tcp: callers reach it at spec.localPort, and nobody sees requests on its connections"
	if len(spec.Hosts) > 0 {
		f.add("spec.hosts", why)
	}
	if len(spec.Routes) > 0 {
		f.add("spec.routes", why)
	}
	if len(spec.Subsets) > 0 {
		f.add("spec.subsets", why)
	}
}

func (f *faults) dependsOn(svc *Service) {
	keys, _ := Dependencies(svc)
	for i, key := range keys {
		path := fmt.Sprintf("spec.dependsOn[%d]", i)
		if msg := checkKey((*svc.Spec.DependsOn)[i], key); msg != "" {
			f.add(path, "%s", msg)
			continue
		}
		switch {
		case key == svc.Key():
			f.add(path, "a service does not depend on itself")
		case slices.Contains(keys[:i], key):
			f.add(path, "%s is there twice", key)
		}
	}
}
