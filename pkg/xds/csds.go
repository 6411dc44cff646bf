package xds

import (
	"context"
	"errors"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	statusv3 "github.com/envoyproxy/go-control-plane/envoy/service/status/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// mostStatus is how many bytes of resources one answer of the client status discovery service holds.
const mostStatus = 64 << 20

// statusServer says over the client status discovery service (CSDS) what the book says of each proxy and resource.
type statusServer struct {
	statusv3.UnimplementedClientStatusDiscoveryServiceServer
	book *Server
}

// RegisterStatus serves CSDS on g, which should be for operators alone: it tells every proxy's whole configuration.
func (s *Server) RegisterStatus(g *grpc.Server) {
	statusv3.RegisterClientStatusDiscoveryServiceServer(g, statusServer{book: s})
}

// FetchClientStatus answers once.
func (s statusServer) FetchClientStatus(_ context.Context, q *statusv3.ClientStatusRequest) (*statusv3.ClientStatusResponse, error) {
	return s.answer(q)
}

// StreamClientStatus answers each request of the stream.
func (s statusServer) StreamClientStatus(g grpc.BidiStreamingServer[statusv3.ClientStatusRequest, statusv3.ClientStatusResponse]) error {
	for {
		q, err := g.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		answer, err := s.answer(q)
		if err != nil {
			return err
		}
		if err := g.Send(answer); err != nil {
			return err
		}
	}
}

// answer is the status of all proxies that q asks for, by node id.
func (s statusServer) answer(q *statusv3.ClientStatusRequest) (*statusv3.ClientStatusResponse, error) {
	matches, err := matcher(q.GetNodeMatchers())
	if err != nil {
		return nil, err
	}
	answer, size := new(statusv3.ClientStatusResponse), 0
	for _, st := range s.book.newest() {
		if !matches(st.id.node) {
			continue
		}
		c := st.status(!q.GetExcludeResourceContents())
		for _, r := range c.GetGenericXdsConfigs() {
			size += len(r.GetName()) + len(r.GetXdsConfig().GetValue())
		}
		if size > mostStatus {
			return nil, status.Errorf(codes.ResourceExhausted, "the answer would hold more than %d MiB: name fewer proxies in node_matchers, or set exclude_resource_contents", mostStatus>>20)
		}
		answer.Config = append(answer.Config, c)
	}
	return answer, nil
}

// newest are the streams of all proxies, by node id; of several with one id that which began last.
func (s *Server) newest() []*stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*stream
	for _, id := range slices.Sorted(maps.Keys(s.ids)) {
		list = append(list, last(s.ids[id]))
	}
	return list
}

// last is the stream that began last.
func last(streams []*stream) *stream {
	return slices.MaxFunc(streams, func(a, b *stream) int { return a.connected.Compare(b.connected) })
}

// matcher reads which node ids are asked for: those that one of list matches, or all if it is empty.
func matcher(list []*matcherv3.NodeMatcher) (func(id string) bool, error) {
	var alternatives []func(string) bool
	for _, m := range list {
		if len(m.GetNodeMetadatas()) > 0 {
			return nil, invalid("node_matchers.node_metadatas is not served: match node_id")
		}
		one, err := textMatcher(m.GetNodeId())
		if err != nil {
			return nil, err
		}
		alternatives = append(alternatives, one)
	}
	return func(id string) bool {
		return len(alternatives) == 0 || slices.ContainsFunc(alternatives, func(f func(string) bool) bool { return f(id) })
	}, nil
}

// textMatcher is m as a function; without a pattern it matches all.
func textMatcher(m *matcherv3.StringMatcher) (func(string) bool, error) {
	plain := func(s string) string { return s }
	if m.GetIgnoreCase() {
		plain = strings.ToLower
	}
	switch p := m.GetMatchPattern().(type) {
	case nil:
		return func(string) bool { return true }, nil
	case *matcherv3.StringMatcher_Exact:
		return func(id string) bool { return plain(id) == plain(p.Exact) }, nil
	case *matcherv3.StringMatcher_Prefix:
		return func(id string) bool { return strings.HasPrefix(plain(id), plain(p.Prefix)) }, nil
	case *matcherv3.StringMatcher_Suffix:
		return func(id string) bool { return strings.HasSuffix(plain(id), plain(p.Suffix)) }, nil
	case *matcherv3.StringMatcher_Contains:
		return func(id string) bool { return strings.Contains(plain(id), plain(p.Contains)) }, nil
	case *matcherv3.StringMatcher_SafeRegex:
		re, err := regexp.Compile(`^(?:` + p.SafeRegex.GetRegex() + `)$`)
		if err != nil {
			return nil, invalid("node_matchers.node_id.safe_regex: %v", err)
		}
		return re.MatchString, nil
	}
	return nil, invalid("node_matchers.node_id: this way to match is not served")
}

// status is what the proxy should hold and holds, with or without the resources themselves.
func (st *stream) status(contents bool) *statusv3.ClientConfig {
	c := &statusv3.ClientConfig{Node: &corev3.Node{
		Id: st.id.node, Cluster: st.id.cluster, UserAgentName: st.id.key.Dialect,
		UserAgentVersionType: &corev3.Node_UserAgentVersion{UserAgentVersion: st.id.version},
	}}
	for _, h := range st.snapshot().holdings() {
		c.GenericXdsConfigs = append(c.GenericXdsConfigs, h.status(contents))
	}
	return c
}

// status is h in the words of CSDS. The resource is the one that should be held, or else the one that has to go.
func (h Held) status(contents bool) *statusv3.ClientConfig_GenericXdsConfig {
	c := &statusv3.ClientConfig_GenericXdsConfig{TypeUrl: h.ID.Type.URL(), Name: h.ID.Name}
	shown := h.Wanted
	if shown == nil {
		shown = h.Acked
	}
	if shown != nil {
		c.VersionInfo = shown.Version
	}
	if contents {
		c.XdsConfig = anyOf(shown)
	}
	c.ConfigStatus, c.ClientStatus = h.states()
	if h.Rejected != nil {
		c.ErrorState = &adminv3.UpdateFailureState{Details: h.Rejected.Text, VersionInfo: h.Rejected.Version}
		if !h.Rejected.Since.IsZero() {
			c.ErrorState.LastUpdateAttempt = timestamppb.New(h.Rejected.Since)
		}
	}
	return c
}

// states are what the server knows, and what the proxy has said.
func (h Held) states() (statusv3.ConfigStatus, adminv3.ClientResourceStatus) {
	switch {
	case h.State == Rejected:
		return statusv3.ConfigStatus_ERROR, adminv3.ClientResourceStatus_NACKED
	case h.State == Acked && h.Wanted == nil:
		return statusv3.ConfigStatus_SYNCED, adminv3.ClientResourceStatus_DOES_NOT_EXIST
	case h.State == Acked:
		return statusv3.ConfigStatus_SYNCED, adminv3.ClientResourceStatus_ACKED
	case h.Sent:
		return statusv3.ConfigStatus_STALE, adminv3.ClientResourceStatus_REQUESTED
	}
	return statusv3.ConfigStatus_NOT_SENT, adminv3.ClientResourceStatus_REQUESTED
}

// anyOf is the resource itself; nil where it is not known.
func anyOf(r *view.Resource) *anypb.Any {
	if !Known(r) {
		return nil
	}
	a := new(anypb.Any)
	if err := proto.Unmarshal(r.Any(), a); err != nil {
		return nil // it was made by us
	}
	return a
}
