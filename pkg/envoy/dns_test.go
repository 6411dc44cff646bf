package envoy

import (
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	dnsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dns/v3"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// Old Envoys have no extension for DNS: they are told the same by fields that are deprecated since.
func TestClusterByDNSByVersion(t *testing.T) {
	svc := payments(catalog.HTTP)
	svc.Spec.Discovery = &catalog.Discovery{DNS: &catalog.DNS{Host: "pay.test", Port: new(uint32(80)), Refresh: new(manifest.Duration("500ms"))}}
	for version, extension := range map[string]bool{"1.32": false, "1.38": false, "1.39": true, "1.40": true, "": true} {
		c, err := Service(Target{Profile: Sidecar, Version: version}, svc, &policy.Effective{})
		if err != nil {
			t.Fatal(err)
		}
		m := messageOf(t, c.Cluster).(*clusterv3.Cluster)
		if (m.GetClusterType() != nil) != extension || (m.GetType() == clusterv3.Cluster_STRICT_DNS) == extension {
			t.Errorf("Envoy %q gets type %v and %v", version, m.GetType(), m.GetClusterType())
		}
		if host := m.GetLoadAssignment().GetEndpoints()[0].GetLbEndpoints()[0].GetEndpoint().GetAddress().GetSocketAddress(); host.GetAddress() != "pay.test" || host.GetPortValue() != 80 {
			t.Errorf("Envoy %q is told of %v", version, host)
		}
		//lint:ignore SA1019 that is what old ones get
		every, again, jitter := m.GetDnsRefreshRate(), m.GetDnsFailureRefreshRate().GetBaseInterval(), m.GetDnsJitter()
		if extension {
			d := new(dnsv3.DnsCluster)
			if err := m.GetClusterType().GetTypedConfig().UnmarshalTo(d); err != nil {
				t.Fatal(err)
			}
			every, again, jitter = d.GetDnsRefreshRate(), d.GetDnsFailureRefreshRate().GetBaseInterval(), d.GetDnsJitter()
		}
		if every.AsDuration() != 500*time.Millisecond || again.AsDuration() != 500*time.Millisecond || jitter.AsDuration() != 50*time.Millisecond {
			t.Errorf("Envoy %q asks every %v, after failures %v, up to %v later", version, every, again, jitter)
		}
	}
}

func TestNoAssignmentByDNS(t *testing.T) {
	svc := payments(catalog.HTTP)
	svc.Spec.Discovery = &catalog.Discovery{DNS: &catalog.DNS{Host: "pay.test", Port: new(uint32(80))}}
	if list, err := (Target{}).Assignments(svc, nil); len(list) > 0 || err != nil {
		t.Errorf("assignments %v, %v; want none", list, err)
	}
}
