package agent

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/pflag"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/client"
	"github.com/breakwater-mesh/breakwater/pkg/registration"
)

// Advertise says as which endpoint of its service the application beside the agent is registered, and how. Its endpoint's id is the
// node id.
type Advertise struct {
	Address  string        // ip:port where callers reach the application; "": it is not registered
	API      []string      // servers of the API; empty: port 8080 of the hosts of --xds
	Check    string        // see registration.ParseCheck; "": a connection to Address
	Interval time.Duration // between two checks
	Lease    time.Duration
	Locality string // region[/zone[/subzone]]
	Weight   uint32 // 0: none
	Labels   map[string]string
}

// apiPort is where the API listens unless told otherwise.
const apiPort = "8080"

// propagation is how long after its removal callers may still call an endpoint: only then are requests under way let end.
const propagation = time.Second

func defaultAdvertise() Advertise {
	return Advertise{Interval: 2 * time.Second, Lease: time.Minute}
}

func (c *Advertise) flags(fs *pflag.FlagSet) {
	fs.StringVar(&c.Address, "advertise", c.Address, "register the application as an endpoint of its service, at this IP:PORT; its id is the node id")
	fs.StringSliceVar(&c.API, "api", c.API, "servers of the API to register with, as URL[,URL] (default: port "+apiPort+" of the hosts of --xds)")
	fs.StringVar(&c.Check, "advertise-check", c.Check, "what must answer for the application to be registered, as http://HOST:PORT/PATH or tcp://HOST:PORT (default: a connection to --advertise)")
	fs.DurationVar(&c.Interval, "advertise-interval", c.Interval, "time between two checks of the application; three that fail in a row take it out")
	fs.DurationVar(&c.Lease, "advertise-lease", c.Lease, "how long the control plane keeps the endpoint in use without a word of the agent")
	fs.StringVar(&c.Locality, "advertise-locality", c.Locality, "where the application runs, as REGION[/ZONE[/SUBZONE]]")
	fs.Uint32Var(&c.Weight, "advertise-weight", c.Weight, "the endpoint's share of the traffic, relative to the others")
	fs.Var((*labels)(&c.Labels), "advertise-labels", "labels of the endpoint, as NAME=VALUE[,NAME=VALUE]")
}

// fieldFlags are the flags that fill in the fields of an endpoint.
var fieldFlags = []struct{ field, flag string }{
	{"metadata.name", "--node-id"}, {"spec.address", "--advertise"}, {"spec.port", "--advertise"}, {"spec.weight", "--advertise-weight"},
	{"spec.locality", "--advertise-locality"}, {"spec.labels", "--advertise-labels"},
}

// validate is everything that is wrong, by flag, for an agent of that id.
func (c *Advertise) validate(nodeID string, xds []string) (faults []error) {
	if c.Address == "" {
		return c.alone()
	}
	spec, err := c.spec()
	if err != nil {
		return append(faults, err)
	}
	for _, fault := range catalog.ValidateEndpoint(&catalog.Endpoint{ID: nodeID, Spec: spec}, nil) {
		flag := fault.Field
		for _, f := range fieldFlags {
			if strings.HasPrefix(fault.Field, f.field) {
				flag = f.flag
			}
		}
		faults = append(faults, fmt.Errorf("%s: %s", flag, fault.Message))
	}
	if _, err := c.check(); err != nil {
		faults = append(faults, fmt.Errorf("--advertise-check: %w", err))
	}
	if c.Lease < api.MinLease || c.Lease > api.MaxLease {
		faults = append(faults, fmt.Errorf("--advertise-lease %v: must lie between %v and %v", c.Lease, api.MinLease, api.MaxLease))
	}
	if c.Interval < 100*time.Millisecond || c.Interval > c.Lease {
		faults = append(faults, fmt.Errorf("--advertise-interval %v: must lie between 100ms and --advertise-lease", c.Interval))
	}
	if faults := append(faults, c.checkAPI()...); len(faults) > 0 {
		return faults
	}
	servers, err := c.servers(xds)
	if err != nil {
		return []error{err}
	}
	for _, server := range servers {
		if cl, err := client.New(server); err != nil {
			faults = append(faults, fmt.Errorf("--api: %w", err))
		} else {
			cl.Close()
		}
	}
	return faults
}

// alone names the settings that say how to advertise where nothing is advertised.
func (c *Advertise) alone() (faults []error) {
	is := defaultAdvertise()
	for _, set := range []struct {
		flag  string
		given bool
	}{
		{"--api", len(c.API) > 0}, {"--advertise-check", c.Check != ""}, {"--advertise-interval", c.Interval != is.Interval}, {"--advertise-lease", c.Lease != is.Lease},
		{"--advertise-locality", c.Locality != ""}, {"--advertise-weight", c.Weight != 0}, {"--advertise-labels", len(c.Labels) > 0},
	} {
		if set.given {
			faults = append(faults, fmt.Errorf("%s: means nothing without --advertise", set.flag))
		}
	}
	return faults
}

// checkAPI takes URLs with a host, and the sockets of servers on this host.
func (c *Advertise) checkAPI() (faults []error) {
	for _, server := range c.API {
		u, err := url.Parse(server)
		switch {
		case err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" && (u.Port() == "" || isPort(u.Port(), 1)):
		case strings.HasPrefix(server, "unix:/"):
		default:
			faults = append(faults, fmt.Errorf("--api %q: want http://HOST:PORT, https://HOST:PORT or unix:/PATH", server))
		}
	}
	return faults
}

// servers are those of the API.
func (c *Advertise) servers(xds []string) ([]string, error) {
	if len(c.API) > 0 {
		return c.API, nil
	}
	var list []string
	for _, address := range xds {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, fmt.Errorf("--api: must be given, as --xds %s has no host", address)
		}
		list = append(list, "http://"+net.JoinHostPort(host, apiPort))
	}
	return list, nil
}

// spec is the endpoint as it is registered.
func (c *Advertise) spec() (catalog.EndpointSpec, error) {
	address, err := netip.ParseAddrPort(c.Address)
	if err != nil || address.Port() == 0 {
		return catalog.EndpointSpec{}, fmt.Errorf("--advertise %s: want IP:PORT", c.Address)
	}
	port := uint32(address.Port())
	spec := catalog.EndpointSpec{Address: address.Addr().String(), Port: &port, Labels: c.Labels}
	if c.Weight > 0 {
		spec.Weight = &c.Weight
	}
	if c.Locality != "" {
		parts := strings.Split(c.Locality, "/")
		if len(parts) > 3 {
			return spec, fmt.Errorf("--advertise-locality %s: want REGION[/ZONE[/SUBZONE]]", c.Locality)
		}
		parts = append(parts, "", "")
		spec.Locality = &catalog.Locality{Region: parts[0], Zone: parts[1], SubZone: parts[2]}
	}
	return spec, nil
}

func (c *Advertise) check() (registration.Check, error) {
	if c.Check == "" {
		return registration.ParseCheck("tcp://" + c.Address)
	}
	return registration.ParseCheck(c.Check)
}

// registrar is the registrar of an agent with that configuration; nil where nothing is advertised.
func registrar(config Config, log hclog.Logger) (*registration.Registrar, error) {
	c := config.Advertise
	if c.Address == "" {
		return nil, nil
	}
	spec, err := c.spec()
	if err != nil {
		return nil, err
	}
	check, err := c.check()
	if err != nil {
		return nil, err
	}
	servers, err := c.servers(config.XDS)
	if err != nil {
		return nil, err
	}
	return registration.New(registration.Config{
		Servers: servers, Namespace: config.Namespace, Service: config.Service, ID: config.NodeID, Spec: spec,
		Lease: c.Lease, Check: check, Interval: c.Interval, Rand: rand.Uint64, Log: log,
	})
}

// advertise keeps the application registered until ctx ends, and returns when callers know that it has left.
func (a *agent) advertise(ctx context.Context) {
	if a.registrar == nil {
		return
	}
	left, err := a.registrar.Run(ctx)
	switch {
	case err != nil:
		a.log.Warn("the endpoint could not be taken out: callers use it until its lease has run out", "error", err)
	case left:
		a.log.Info("the endpoint is taken out; waiting for callers to hear of it", "for", propagation)
		time.Sleep(propagation)
	}
}

// registered is how the application's registration stands; nil where it is not advertised.
func (a *agent) registered() *registration.Status {
	if a.registrar == nil {
		return nil
	}
	status := a.registrar.Status()
	return &status
}
