package etcd

import (
	"net"
	"slices"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestMembersThatCanNotServeAreLeftAside tells a pulse, step by step, what members answer.
func TestMembersThatCanNotServeAreLeftAside(t *testing.T) {
	silent, gone, leaderless := status.Error(codes.DeadlineExceeded, "silence"), status.Error(codes.Unavailable, "connection refused"), rpctypes.ErrGRPCNoLeader
	p := newPulse(zap.NewNop(), []string{"a", "b", "c"})
	used := p.endpoints
	p.choose = func(endpoints ...string) { used = endpoints }
	for _, step := range []struct {
		what, member string
		answer       error
		used         []string
	}{
		{"nobody has answered yet: there is nothing better", "a", silent, []string{"a", "b", "c"}},
		{"one answers", "b", nil, []string{"a", "b", "c"}},
		{"one is silent while another answers", "a", silent, []string{"b", "c"}},
		{"one has no leader while another has", "c", leaderless, []string{"b"}},
		{"the last one loses its leader too", "b", leaderless, []string{"b"}},
		{"one that was left aside is gone", "a", gone, []string{"b"}},
		{"one has a leader again", "c", nil, []string{"b", "c"}},
		{"one answers again that was gone", "a", nil, []string{"a", "b", "c"}},
		{"gone is in nobody's way", "a", gone, []string{"a", "b", "c"}},
		{"all lose their leader, the first", "a", leaderless, []string{"b", "c"}},
		{"the second", "b", leaderless, []string{"c"}},
		{"the last one stays: there is nothing better", "c", leaderless, []string{"c"}},
		{"any answer is one, though it be no", "a", status.Error(codes.Unimplemented, "no such service"), []string{"a", "c"}},
	} {
		p.heard(step.member, step.member, step.answer)
		if !slices.Equal(used, step.used) {
			t.Errorf("%s: used are %v, want %v", step.what, used, step.used)
		}
	}
}

// TestConnectionsInTheMakingAreNotCut: a member that is left aside and stays silent loses its connections, but for those that may still come about.
func TestConnectionsInTheMakingAreNotCut(t *testing.T) {
	silent := status.Error(codes.DeadlineExceeded, "silence")
	p := newPulse(zap.NewNop(), []string{"a", "b"})
	closed := func(c *notedConn) bool { return c.SetDeadline(time.Time{}) != nil }
	dialled := func(age time.Duration) *notedConn {
		conn, other := net.Pipe()
		t.Cleanup(func() { conn.Close(); other.Close() })
		c := &notedConn{Conn: conn, pulse: p, address: "a", begun: time.Now().Add(-age)}
		if p.open["a"] == nil {
			p.open["a"] = map[*notedConn]bool{}
		}
		p.open["a"][c] = true
		return c
	}
	p.heard("b", "b", nil)
	first := dialled(time.Second)
	p.heard("a", "a", silent)
	if !closed(first) {
		t.Error("a member was left aside, and keeps its connection")
	}
	young, old := dialled(time.Second), dialled(2*connectIn)
	p.heard("b", "b", nil)
	p.heard("a", "a", silent)
	if closed(young) || !closed(old) {
		t.Errorf("it is still silent: closed is the connection in the making %v, the old one %v; want the old one alone", closed(young), closed(old))
	}
}
