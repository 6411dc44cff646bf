package catalog

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// Discovery is where the endpoints of a service come from, where they are neither written nor registered.
type Discovery struct {
	DNS *DNS `json:"dns,omitempty" doc:"Each address that a name has in DNS is an endpoint; the proxies themselves ask." effect:"rebuilds the cluster" bwdefault:"required"`
}

// NotYet answers for the other ways.
func (Discovery) NotYet() map[string]string {
	return map[string]string{
		"kubernetes": manifest.NotYet,
		"registered": "is what holds without discovery: leave spec.discovery out",
	}
}

// DNS is a name that has the addresses of a service.
type DNS struct {
	Host       string             `json:"host" doc:"The name that has the addresses." effect:"rebuilds the cluster" bwdefault:"required"`
	Port       *uint32            `json:"port,omitempty" doc:"The port of every endpoint." unit:"port" minimum:"1" maximum:"65535" effect:"rebuilds the cluster" bwdefault:"the service's port"`
	Refresh    *manifest.Duration `json:"refresh,omitempty" doc:"How long after an answer proxies ask again, and up to a tenth of it more, so that they do not ask all at once." effect:"rebuilds the cluster" bwdefault:"5s (Envoy)"`
	RespectTTL *bool              `json:"respectTTL,omitempty" doc:"They ask again when the answer's time to live is over, in place of refresh, where that is not 0." effect:"rebuilds the cluster" bwdefault:"false (Envoy)"`
	Resolvers  []string           `json:"resolvers,omitempty" doc:"The name servers that are asked, as IP:PORT or IP." effect:"rebuilds the cluster" bwdefault:"those of the proxy's machine"`
}

// The bounds and defaults of discovery by DNS.
const (
	maxResolvers   = 8
	resolverPort   = 53
	defaultRefresh = 5 * time.Second
)

// DNSOf is how the endpoints of svc are found by DNS, its port filled in; nil where they are not.
func DNSOf(svc *Service) *DNS {
	if svc.Spec.Discovery == nil || svc.Spec.Discovery.DNS == nil {
		return nil
	}
	full := *svc.Spec.Discovery.DNS
	if full.Port == nil {
		full.Port = svc.Spec.Port
	}
	return &full
}

// Every is how long after an answer the next one is asked for.
func (d *DNS) Every() time.Duration {
	if d.Refresh == nil {
		return defaultRefresh
	}
	return d.Refresh.D()
}

// Servers are the resolvers, which are valid, each with its port.
func (d *DNS) Servers() []netip.AddrPort {
	var list []netip.AddrPort
	for _, text := range d.Resolvers {
		if at, err := parseResolver(text); err == nil {
			list = append(list, at)
		}
	}
	return list
}

func parseResolver(text string) (netip.AddrPort, error) {
	if ip, err := netip.ParseAddr(text); err == nil {
		return netip.AddrPortFrom(ip, resolverPort), nil
	}
	return netip.ParseAddrPort(text)
}

// discovery checks where endpoints come from. They come from one place: what a name has in DNS is all there is.
func (f *faults) discovery(spec *ServiceSpec) {
	if spec.Discovery == nil {
		return
	}
	const at = "spec.discovery.dns"
	d := spec.Discovery.DNS
	if d == nil {
		f.add("spec.discovery", "says no way: write dns, or leave it out")
		return
	}
	if msg := checkName(d.Host); msg != "" {
		f.add(at+".host", "%s", msg)
	}
	if d.Port == nil && spec.Port == nil {
		f.add(at+".port", "is required: the service names no port")
	}
	f.resolvers(at+".resolvers", d.Resolvers)
	if len(spec.Endpoints) > 0 {
		f.add("spec.endpoints", "is not beside spec.discovery.dns: the endpoints are what the name has in DNS; give them a name of their own, or leave discovery out")
	}
	if len(spec.Subsets) > 0 {
		f.add("spec.subsets", "is not beside spec.discovery.dns: addresses in DNS have no labels; make a Service of each part's own name, and name them as backends")
	}
}

// checkName says what is wrong with a name to ask DNS for; "" when nothing is.
func checkName(host string) string {
	switch bare := strings.TrimSuffix(host, "."); { // with a dot at its end it is whole: no search domain is tried
	case host == "":
		return "is required: the name that has the addresses"
	case !manifest.DNSName(strings.ToLower(bare)):
		return fmt.Sprintf("%.70q is not a DNS name", host)
	case host != strings.ToLower(host):
		return "must be in lower case: " + strings.ToLower(host)
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return fmt.Sprintf("%.70q is an IP address: write it in spec.endpoints", host)
	}
	return ""
}

func (f *faults) resolvers(at string, list []string) {
	if len(list) > maxResolvers {
		f.add(at, "must have at most %d, has %d", maxResolvers, len(list))
	}
	for i, text := range list {
		switch server, err := parseResolver(text); {
		case err != nil || server.Port() == 0:
			f.add(fmt.Sprintf("%s[%d]", at, i), "%.70q must be IP or IP:PORT, such as 10.0.0.2:53", text)
		case checkAddress(server.Addr().String()) != "":
			f.add(fmt.Sprintf("%s[%d]", at, i), "%s", checkAddress(server.Addr().String()))
		}
	}
}
