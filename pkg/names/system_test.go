package names_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/breakwater-mesh/breakwater/integration/harness"
	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/names"
)

func server(t *testing.T) *harness.DNS {
	t.Helper()
	d, err := harness.StartDNS()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

func TestSystemAsksTheServersNamed(t *testing.T) {
	t.Parallel()
	d := server(t)
	d.Set("a.test", harness.Records{Addresses: []string{"10.0.0.9", "10.0.0.1", "::7"}, TTL: 30 * time.Second})
	d.Set("six.test", harness.Records{Addresses: []string{"::7"}, TTL: time.Second})
	d.Set("empty.test", harness.Records{})
	d.Set("broken.test", harness.Records{Code: dnsmessage.RCodeServerFailure})
	d.Set("silent.test", harness.Records{Silent: true})
	for _, tt := range []struct {
		host   string
		family dataplane.Family
		want   string
	}{
		{"a.test.", dataplane.PreferIPv4, "[10.0.0.9 10.0.0.1] 30s"}, // in the order of the records
		{"a.test.", dataplane.PreferIPv6, "[::7] 30s"},
		{"a.test.", dataplane.OnlyIPv4, "[10.0.0.9 10.0.0.1] 30s"},
		{"a.test.", dataplane.BothFamilies, "[10.0.0.9 10.0.0.1 ::7] 30s"},
		{"six.test.", dataplane.PreferIPv4, "[::7] 1s"},
		{"six.test.", dataplane.OnlyIPv4, "[] 0s"},
		{"empty.test.", dataplane.PreferIPv4, "[] 0s"},
		{"nowhere.test.", dataplane.PreferIPv4, "[] 0s"},
		{"broken.test.", dataplane.PreferIPv4, "failed"},
		{"silent.test.", dataplane.PreferIPv4, "failed"},
		{"10.0.0.3", dataplane.PreferIPv6, "[10.0.0.3] 0s"},
		{"::3", dataplane.OnlyIPv4, "[] 0s"},
	} {
		t.Run(tt.host, func(t *testing.T) {
			t.Parallel()
			l := dataplane.Lookup{Name: dataplane.Name{Host: tt.host}, Servers: d.Address, Family: tt.family, Timeout: 2 * time.Second, Tries: 1}
			if tt.host == "silent.test." {
				l.Timeout = 50 * time.Millisecond
			}
			found, err := names.System(context.Background(), l)
			got := fmt.Sprint(found.Addresses, " ", found.TTL)
			if err != nil {
				got = "failed"
			}
			if got != tt.want {
				t.Errorf("%s (%v) is %s, want %s: %v", tt.host, tt.family, got, tt.want, err)
			}
		})
	}
}

// A server that says nothing is followed by the next one.
func TestSystemAsksTheNextServer(t *testing.T) {
	t.Parallel()
	silent, good := server(t), server(t)
	silent.Set("a.test", harness.Records{Silent: true})
	good.Set("a.test", harness.Records{Addresses: []string{"10.0.0.1"}})
	l := dataplane.Lookup{
		Name: dataplane.Name{Host: "a.test."}, Servers: silent.Address + "," + good.Address, Family: dataplane.OnlyIPv4,
		Timeout: 100 * time.Millisecond, Tries: 5,
	}
	found, err := names.System(context.Background(), l)
	if err != nil || fmt.Sprint(found.Addresses) != "[10.0.0.1]" {
		t.Errorf("found %v, %v", found.Addresses, err)
	}
}
