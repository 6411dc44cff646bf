// Package dataplane turns xDS resources into the agent's Table, and says by field what of them the agent can't enforce.
package dataplane

import (
	"net/netip"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// Table is everything the data plane enforces at one moment. It is immutable, and replaced as a whole.
type Table struct {
	Listeners map[string]*Listener
	Clusters  map[string]*Cluster
	Routes    map[string]*RouteConfig // by name
	Scopes    map[string]*RouteConfig // by scope key, of the scoped listener
	Lookups   []Lookup                // the names that hosts of Clusters are found by

	from Resources // what it was compiled from, so that the next compilation keeps what has not changed
}

// Listener accepts connections at one address, or of this process. Exactly one of HTTP and TCP is set.
type Listener struct {
	Name    string
	Address netip.AddrPort // not set where it is Inside
	Inside  bool           // clusters of this process reach it by its name, and nothing else does
	TLS     *DownstreamTLS // nil: plaintext
	HTTP    *HTTP
	TCP     *TCP
}

// HTTP is an HTTP connection manager. Exactly one of Routes and Scoped says where routes come from.
type HTTP struct {
	StatPrefix        string
	Routes            *RouteConfig // inline or by RDS; nil where it has not come yet
	Scoped            bool         // routes are Table.Scopes, by :authority without its port
	StreamIdleTimeout time.Duration
	RequestTimeout    time.Duration
	MaxStreamDuration time.Duration
	Websocket         bool
	SuppressEnvoy     bool   // no x-envoy-* headers are added
	ServerHeader      string // "" passes the upstream's through
	KeepServer        bool   // the upstream's wins over ServerHeader
	StripEnvoyHeaders bool   // all x-envoy-* request headers of the application are dropped, whoever it is
	Trust             Trust
	Scheme            string // that requests are said to have come by; "": they came by

	KeepCertOfMutual     bool          // x-forwarded-client-cert of a caller with a certificate is passed on, whatever DropHeaders says
	DropHeaders          []string      // request headers that are dropped on arrival, lower case
	AddForwardedProto    bool          // a request without x-forwarded-proto gets one
	AddRequestID         bool          // a request gets an x-request-id of its own
	IdleTimeout          time.Duration // of a connection without requests; 0: none
	MaxHeadersKiB        uint32        // of a request's headers
	MaxHeaders           uint32        // their number
	AcceptHTTP10         bool
	Trailers             bool   // of HTTP/1 pass
	Proxy100             bool   // an expectation of 100-continue is passed on, and informational responses; else it is met at once, and they are dropped
	MaxConcurrentStreams uint32 // of one HTTP/2 connection
	BufferLimit          uint32 // for routes without their own; 0: the default

	Filters     []HTTPFilter  // before the router, in their order
	Replies     []ReplyMapper // of answers of the agent's own; the first that matches
	ReplyFormat *BodyFormat   // where no mapper has one; nil: the text itself
}

// Trust says who a request is from, and so whether it is internal: what it says in x-envoy-* is heeded then.
type Trust struct {
	RemoteAddress  bool   // it is from who connects, unless hops are trusted; else from whom the last of x-forwarded-for says
	Hops           uint32 // that many at the end of x-forwarded-for are trusted
	KeepForwarded  bool   // x-forwarded-for is not added to
	KeepRequestID  bool   // the x-request-id of external requests, where it is from who connects
	Private        bool   // private addresses are internal
	InternalRanges []netip.Prefix
}

// TCP is a TCP proxy to one cluster.
type TCP struct {
	StatPrefix  string
	Cluster     string
	IdleTimeout time.Duration
}

// RouteConfig is a route configuration.
type RouteConfig struct {
	Name       string
	IgnorePort bool
	Hosts      []*VirtualHost
	Limits     []*RateLimit // all that its routes have
}

// VirtualHost is a set of routes for some domains.
type VirtualHost struct {
	Name    string
	Domains []string // lower case; "*", "*.suffix", "prefix.*" or exact
	Routes  []*Route
	Retry   *resilience.Retry // for routes without their own

	AttemptCount         bool // hosts are told which attempt it is
	AttemptCountResponse bool // the application is told how many there were
}

// Route is a match and what becomes of a request that matches. First match wins.
type Route struct {
	Name    string
	Path    PathMatch
	Headers []resilience.HeaderMatch
	Query   []resilience.HeaderMatch // of its parameters, of which the first of a name counts, as it was sent
	GRPC    bool                     // matches gRPC requests only

	Cluster  string // "" where Direct or Weighted is set
	Weighted []WeightedCluster
	Direct   *DirectResponse

	Timeout              time.Duration  // of the whole call, from the complete request; 0: none
	MaxStreamDuration    *time.Duration // set: replaces Timeout, 0: none
	GRPCTimeoutHeaderMax *time.Duration
	IdleTimeout          *time.Duration // nil: the listener's
	Retry                *resilience.Retry
	HedgeOnPerTryTimeout bool
	AttemptBudget        bool          // each attempt says how much of the call's deadline is left for it
	ObservedTimeout      time.Duration // counted as Timeout would end calls, and not enforced; 0: none
	ObservedPerTry       time.Duration // likewise, as the time of a try
	Priority             resilience.Priority
	BufferLimit          uint32 // of a request's body kept for retries; 0: the default
	HostRewrite          HostRewrite
	Rewrite              *PathRewrite // nil: the path goes on as it is
	Hash                 []HashPolicy // what clusters that balance by hash go by

	Filters  map[string]RouteFilter // by name; what its virtual host and its configuration say is in it. nil: nothing is said
	Request  [][]HeaderEdit         // before the host is asked: the route's, its virtual host's and its configuration's, in the order of their doing
	Response [][]HeaderEdit         // of every answer, likewise
	Metadata map[MetadataKey]string // the strings of its metadata
}

// HashPolicy takes one thing of a request into its hash. Exactly one of Header, Cookie, Query and SourceIP is set.
type HashPolicy struct {
	Header   string // lower case
	Cookie   string
	Query    string // the first parameter of this name
	SourceIP bool
	Terminal bool // where there is a hash by now, the policies after it are left out

	// A request without the cookie gets one, where TTL is set.
	TTL        *time.Duration
	Path       string
	Attributes []CookieAttribute
}

// CookieAttribute is a further attribute of a cookie that is made; the value may be "".
type CookieAttribute struct{ Name, Value string }

// MetadataKey finds a value in the metadata of a route.
type MetadataKey struct{ Filter, Key string }

// PathMatch matches a path without its query. Exactly one field beside IgnoreCase is set; Prefix "/" matches every path.
type PathMatch struct {
	Prefix, Exact string
	Segments      string            // a prefix after which the path ends or has a slash
	Regex         func(string) bool // anchored
	IgnoreCase    bool              // of all but Regex
}

// PathRewrite changes a path, and not its query. Exactly one of With and Change is set.
type PathRewrite struct {
	With   string              // what the path that was matched is replaced by
	Cut    int                 // the length of what was matched; -1: all
	Change func(string) string // of the path without its query
}

// HostRewrite is the host that is asked for in place of the request's. At most one of Literal, Header, Path and Auto is set.
type HostRewrite struct {
	Literal string
	Header  string              // its value, unless it has none; canonical
	Path    func(string) string // made of the path without its query
	Auto    bool                // the hostname of the endpoint, where it has one
	Tell    bool                // x-forwarded-host says what it was
}

// WeightedCluster takes Weight of the sum of all weights.
type WeightedCluster struct {
	Cluster string
	Weight  uint32
}

// DirectResponse answers without an upstream.
type DirectResponse struct {
	Status   int
	Body     string
	Redirect *Redirect // nil: to where the request was for, where the status has a location
}

// Redirect says how a location differs from the request's URL; what is "" does not.
type Redirect struct {
	Scheme, Host, Port string
	Path               string       // with or without a query, which then replaces the request's
	Rewrite            *PathRewrite // where there is no Path; nil: none
	StripQuery         bool
}

// Cluster is an upstream service.
type Cluster struct {
	Name      string
	Members   []string // of a composite, in the order of attempts, or of an aggregate; nil: it has hosts
	Aggregate bool     // the priorities of the members stand in a row; else it is a composite
	Hosts     []Host   // by priority

	Unresolved bool // the names of its hosts have not been asked for yet: nothing is sent to it

	HTTP2                 bool
	Trailers              bool         // of HTTP/1 pass
	AutoHTTP              bool         // HTTP/2 or HTTP/1.1, as TLS negotiates
	HTTPAsCaller          bool         // HTTP/2 or HTTP/1.1, as the request came
	TLS                   *UpstreamTLS // nil: plaintext
	AutoSNI, AutoSAN      bool         // the request's host is sent as the server's name; has to be in its certificate
	ConnectTimeout        time.Duration
	IdleTimeout           time.Duration                                // of an upstream connection without requests; 0: none
	MaxStream             time.Duration                                // of one attempt
	Thresholds            [resilience.Priorities]resilience.Thresholds // runtime layers applied
	PerHostMaxConnections uint32
	Outlier               *resilience.Outlier   // nil: off
	Errors                *resilience.Predicate // responses that outlier detection takes for errors; nil: of 5xx
	Balancing             resilience.Balancing
	Retry                 *resilience.Retry // replaces the route's
	MaxHeadersKiB         uint32            // of a response's headers
	MaxHeaders            uint32            // their number
	Maintenance           uint32            // percent of requests refused
	DropPercent           float64           // drop_overloads
	Admission             *Admission        // nil: off
	ObservedRequests      *uint32           // counted as MaxRequests would refuse, and not enforced; nil: none

	Checks       []*HealthCheck // all of which a host must pass
	PendingFirst bool           // a host that waits for its first check is left out of what panic is a share of
	KeepPassing  bool           // a host that the assignment no longer names stays as long as it passes
}

// HealthCheck asks a host whether it is well. Exactly one of HTTP, GRPC and TCP is set.
type HealthCheck struct {
	Name string // of one of several; "": it is the only one
	resilience.Check
	Reuse bool // of the connection, for the next check
	HTTP  *HTTPCheck
	GRPC  *GRPCCheck
	TCP   *TCPCheck
}

// HTTPCheck sends a request.
type HTTPCheck struct {
	Method, Path, Host  string // Host: where the endpoint has no name for checks
	HTTP2               bool
	Header              []HeaderField
	Expected, Retriable []StatusRange
	Service             *resilience.HeaderMatch // of the response; nil: any
}

// HeaderField is one header of a request.
type HeaderField struct{ Name, Value string }

// GRPCCheck calls grpc.health.v1.Health.
type GRPCCheck struct {
	Service, Authority string
	Header             []HeaderField
}

// TCPCheck connects, sends, and waits for the parts of what it expects in their order. Without such parts the connection is all.
type TCPCheck struct {
	Send    []byte
	Receive [][]byte
}

// TakesHeaders reports whether a response may have n headers.
func (c *Cluster) TakesHeaders(n int) bool { return c.MaxHeaders == 0 || n <= int(c.MaxHeaders) }

// Host is one endpoint of a cluster.
type Host struct {
	Address  netip.AddrPort // that of Inside, for a listener of this process
	Name     string         // its hostname; "" where it has none
	Priority uint32
	Weight   uint32 // at least 1
	Locality string // region/zone/subZone
	Health   Health

	LocalityWeight uint32         // of the locality in its priority; 0: none
	CheckAddress   netip.AddrPort // where it is checked; zero: at Address
	CheckHostname  string         // what it is called in checks; "": by what the check says
	Unchecked      bool           // it is not checked
	HashKey        string         // what it is hashed by; "": its address
}

// Health is what the control plane says of a host.
type Health uint8

// The healths.
const (
	Healthy Health = iota
	Degraded
	Unhealthy
	Draining // unhealthy, and left out of the panic count
)
