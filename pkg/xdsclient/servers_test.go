package xdsclient

import (
	"crypto/tls"
	"errors"
	"strings"
	"testing"
)

// TestAPortOfTLS is what an error may come from that gRPC has no better words for.
func TestAPortOfTLS(t *testing.T) {
	plain, err := NewServers([]string{"a:1"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	secure, err := NewServers([]string{"a:1"}, func() (*tls.Config, error) { return nil, nil })
	if err != nil {
		t.Fatal(err)
	}
	preface := errors.New("error reading server preface: connection reset by peer")
	if got := plain.Learn(preface); !errors.Is(got, preface) || !strings.Contains(got.Error(), "--xds-ca") {
		t.Errorf("without TLS: %v, want a hint at it", got)
	}
	for s, err := range map[*Servers]error{plain: errors.New("refused"), secure: preface} {
		if got := s.Learn(err); got != err {
			t.Errorf("got %v, want %v", got, err)
		}
	}
}
