package controlplane

import (
	"net"
	"slices"
	"testing"
)

// What is advertised can be reached by others as far as this machine can tell, and the API may be asked by that name.
func TestAdvertisedAddress(t *testing.T) {
	tcp := func(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 8080} }
	for name, tt := range map[string]struct {
		config    Config
		listening net.Addr
		want      string
		asked     string
	}{
		"as it is set":               {Config{AdvertiseAPI: "cp-1.example:80"}, tcp("10.0.0.1"), "cp-1.example:80", "cp-1.example"},
		"where it listens":           {Config{}, tcp("10.0.0.1"), "10.0.0.1:8080", "10.0.0.1"},
		"everywhere":                 {Config{EtcdEndpoints: []string{"no such place", "http://127.0.0.1:2379"}}, tcp("0.0.0.0"), "127.0.0.1:8080", "127.0.0.1"},
		"everywhere, IPv6":           {Config{EtcdEndpoints: []string{"127.0.0.1:2379"}}, tcp("::"), "127.0.0.1:8080", "127.0.0.1"},
		"everywhere, by oneself":     {Config{}, tcp("0.0.0.0"), "127.0.0.1:8080", "127.0.0.1"},
		"a socket":                   {Config{}, &net.UnixAddr{Net: "unix", Name: "/run/api"}, "unix:/run/api", ""},
		"an etcd behind a unix path": {Config{EtcdEndpoints: []string{"unix:///run/etcd"}}, tcp("0.0.0.0"), "127.0.0.1:8080", "127.0.0.1"},
	} {
		r := replicaOf(tt.config, tt.listening)
		if r.Address != tt.want || r.ID == "" || r.StartedAt.IsZero() {
			t.Errorf("%s: got %+v, want the address %s", name, r, tt.want)
		}
		if got := askedAs(tt.config, r); tt.asked != "" && !slices.Equal(got, []string{tt.asked}) {
			t.Errorf("%s: it may be asked as %q, want %q", name, got, tt.asked)
		}
	}
}
