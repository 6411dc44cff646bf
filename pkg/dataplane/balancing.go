package dataplane

import (
	"math/big"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/common/v3"
	leastv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/least_request/v3"
	maglevv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/maglev/v3"
	randomv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/random/v3"
	ringv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/ring_hash/v3"
	roundv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/round_robin/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// Envoy's defaults of balancing.
const (
	defaultPanicThreshold = 50
	defaultChoiceCount    = 2
	defaultSlowMinPercent = 10
	defaultRingSize       = 1024
	largestRing           = 8 << 20
	largestMaglev         = 5_000_011
)

// balance is how a cluster balances, as far as its own resource says.
type balance struct {
	resilience.Balancing
	byHostname bool // hosts are hashed by their names
}

func (r *reader) balancing(path string, c *clusterv3.Cluster) balance {
	b := balance{Balancing: resilience.Balancing{PanicThreshold: defaultPanicThreshold}}
	common := c.GetCommonLbConfig()
	if t := common.GetHealthyPanicThreshold(); t != nil {
		b.PanicThreshold = uint32(t.GetValue())
	}
	if c.GetLoadBalancingPolicy() != nil { // the rest is for lb_policy alone
		r.balancingPolicy(path+".load_balancing_policy", c.GetLoadBalancingPolicy(), &b)
		return b
	}
	b.FailTrafficOnPanic = common.GetZoneAwareLbConfig().GetFailTrafficOnPanic()
	b.LocalityWeighted = common.GetLocalityWeightedLbConfig() != nil
	if common.GetConsistentHashingLbConfig().GetUseHostnameForHashing() { // which is for clusters by DNS
		r.fault(path+".common_lb_config.consistent_hashing_lb_config.use_hostname_for_hashing", "is not for a cluster of type %v", c.GetType())
	}
	b.HashBalance = common.GetConsistentHashingLbConfig().GetHashBalanceFactor().GetValue()
	switch c.GetLbPolicy() {
	case clusterv3.Cluster_ROUND_ROBIN:
		b.SlowStart = r.slowStart(path+".round_robin_lb_config.slow_start_config", c.GetRoundRobinLbConfig().GetSlowStartConfig())
	case clusterv3.Cluster_LEAST_REQUEST:
		l := c.GetLeastRequestLbConfig()
		b.leastRequest(l.GetChoiceCount(), l.GetActiveRequestBias())
		b.SlowStart = r.slowStart(path+".least_request_lb_config.slow_start_config", l.GetSlowStartConfig())
	case clusterv3.Cluster_RANDOM:
		b.Algorithm = resilience.Random
	case clusterv3.Cluster_RING_HASH:
		l := c.GetRingHashLbConfig()
		b.Murmur = l.GetHashFunction() == clusterv3.Cluster_RingHashLbConfig_MURMUR_HASH_2
		r.ring(path+".ring_hash_lb_config", l.GetMinimumRingSize(), l.GetMaximumRingSize(), &b)
	case clusterv3.Cluster_MAGLEV:
		r.maglev(path+".maglev_lb_config", c.GetMaglevLbConfig().GetTableSize(), &b)
	case clusterv3.Cluster_CLUSTER_PROVIDED:
		if c.GetClusterType() == nil {
			r.fault(path+".lb_policy", "CLUSTER_PROVIDED is for clusters of other clusters")
		}
	default:
		r.fault(path+".lb_policy", "%v is not enforced by this agent", c.GetLbPolicy())
	}
	return b
}

// balancingPolicy takes the first policy, as Envoy does where it knows it.
func (r *reader) balancingPolicy(path string, p *clusterv3.LoadBalancingPolicy, b *balance) {
	if len(p.GetPolicies()) == 0 {
		r.fault(path+".policies", "is empty")
		return
	}
	at := path + ".policies[0].typed_extension_config.typed_config"
	switch m := unpackAny(p.GetPolicies()[0].GetTypedExtensionConfig().GetTypedConfig()).(type) {
	case *roundv3.RoundRobin:
		b.locality(m.GetLocalityLbConfig())
		b.SlowStart = r.slowStart(at+".slow_start_config", m.GetSlowStartConfig())
	case *leastv3.LeastRequest:
		b.locality(m.GetLocalityLbConfig())
		b.leastRequest(m.GetChoiceCount(), m.GetActiveRequestBias())
		b.FullScan = m.GetSelectionMethod() == leastv3.LeastRequest_FULL_SCAN
		b.SlowStart = r.slowStart(at+".slow_start_config", m.GetSlowStartConfig())
	case *randomv3.Random:
		b.Algorithm = resilience.Random
		b.locality(m.GetLocalityLbConfig())
	case *ringv3.RingHash:
		b.LocalityWeighted = m.GetLocalityWeightedLbConfig() != nil
		b.Murmur = m.GetHashFunction() == ringv3.RingHash_MURMUR_HASH_2
		b.byHostname, b.HashBalance = m.GetUseHostnameForHashing(), m.GetHashBalanceFactor().GetValue()
		b.consistent(m.GetConsistentHashingLbConfig())
		r.ring(at, m.GetMinimumRingSize(), m.GetMaximumRingSize(), b)
	case *maglevv3.Maglev:
		b.LocalityWeighted = m.GetLocalityWeightedLbConfig() != nil
		b.consistent(m.GetConsistentHashingLbConfig())
		r.maglev(at, m.GetTableSize(), b)
	default:
		r.notEnforced(path + ".policies[0]")
	}
}

func (b *balance) locality(l *commonv3.LocalityLbConfig) {
	b.LocalityWeighted = l.GetLocalityWeightedLbConfig() != nil
	b.FailTrafficOnPanic = l.GetZoneAwareLbConfig().GetFailTrafficOnPanic()
}

func (b *balance) leastRequest(choices *wrapperspb.UInt32Value, bias *corev3.RuntimeDouble) {
	b.Algorithm, b.ChoiceCount = resilience.LeastRequest, orValue(choices, defaultChoiceCount)
	switch v := bias.GetDefaultValue(); {
	case bias == nil || !(v >= 0): // Envoy takes its default then
	case v == 0:
		b.ActiveRequestBias = -1
	default:
		b.ActiveRequestBias = v
	}
}

// consistent is said in place of the fields beside it.
func (b *balance) consistent(l *commonv3.ConsistentHashingLbConfig) {
	if l != nil {
		b.byHostname, b.HashBalance = l.GetUseHostnameForHashing(), l.GetHashBalanceFactor().GetValue()
	}
}

func (r *reader) ring(path string, smallest, largest *wrapperspb.UInt64Value, b *balance) {
	b.Algorithm, b.RingMinimum, b.RingMaximum = resilience.RingHash, defaultRingSize, largestRing
	if smallest != nil {
		b.RingMinimum = smallest.GetValue()
	}
	if largest != nil {
		b.RingMaximum = largest.GetValue()
	}
	switch {
	case b.RingMinimum > b.RingMaximum:
		r.fault(path+".minimum_ring_size", "is more than the maximum, which is %d", b.RingMaximum)
	case b.RingMinimum == 0 || b.RingMaximum > largestRing:
		r.fault(path, "a ring of %d to %d is not enforced by this agent; from 1 to %d are", b.RingMinimum, b.RingMaximum, largestRing)
	}
}

func (r *reader) maglev(path string, size *wrapperspb.UInt64Value, b *balance) {
	b.Algorithm = resilience.Maglev
	if size == nil {
		return
	}
	n := size.GetValue()
	if n > largestMaglev || !new(big.Int).SetUint64(n).ProbablyPrime(0) { // which is exact for numbers of this size
		r.fault(path+".table_size", "is no prime up to %d", largestMaglev)
		return
	}
	b.TableSize = uint32(n)
}

// slowStartConfig is a slow start as both ways to configure balancing say it.
type slowStartConfig interface {
	GetSlowStartWindow() *durationpb.Duration
	GetAggression() *corev3.RuntimeDouble
	GetMinWeightPercent() *typev3.Percent
}

func (r *reader) slowStart(path string, c slowStartConfig) resilience.SlowStart {
	window := c.GetSlowStartWindow().AsDuration().Truncate(time.Millisecond)
	if window <= 0 {
		return resilience.SlowStart{}
	}
	s := resilience.SlowStart{Window: window, MinPercent: defaultSlowMinPercent}
	if p := c.GetMinWeightPercent(); p != nil {
		s.MinPercent = p.GetValue()
	}
	if a := c.GetAggression(); a != nil {
		if s.Aggression = a.GetDefaultValue(); !(s.Aggression > 0) {
			r.fault(path+".aggression.default_value", "is not more than 0")
		}
	}
	return s
}

// keys gives the hosts what they are hashed by: what their metadata says, their names, or nothing, which is their addresses.
func (b *balance) keys(hosts []Host) []Host {
	if !b.byHostname || b.Algorithm < resilience.RingHash {
		return hosts
	}
	named := make([]Host, len(hosts))
	for i, h := range hosts {
		if h.HashKey == "" {
			h.HashKey = h.Name
		}
		named[i] = h
	}
	return named
}
