package store_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/store"
)

func TestKeysAreThoseOfTheDesign(t *testing.T) {
	for _, test := range []struct{ got, want string }{
		{store.PolicyKey("shop", "retries"), "/breakwater/v1/config/policies/shop/retries"},
		{store.ServiceKey("shop", "payments"), "/breakwater/v1/config/services/shop/payments"},
		{store.HostKey("pay.example.com"), "/breakwater/v1/config/hosts/pay.example.com"},
		{store.EndpointKey("shop", "payments", "a1"), "/breakwater/v1/config/endpoints/shop/payments/a1"},
		{store.LiveKey("shop", "payments", "a1"), "/breakwater/v1/live/shop/payments/a1"},
		{store.ReplicaKey("r1"), "/breakwater/v1/replicas/r1"},
		{store.HistoryKey(store.Policies, "shop", "retries", 7), "/breakwater/v1/history/policies/shop/retries/0000000007"},
	} {
		if test.got != test.want {
			t.Errorf("got %s, want %s", test.got, test.want)
		}
	}
}

func TestHistoryKeysSortByGeneration(t *testing.T) {
	var keys []string
	for _, generation := range []int64{1, 2, 9, 10, 99, 100, 9_999_999_999} {
		key := store.HistoryKey(store.Services, "shop", "payments", generation)
		if !strings.HasPrefix(key, store.HistoryPrefix(store.Services, "shop", "payments")) {
			t.Errorf("%s is not below its prefix", key)
		}
		keys = append(keys, key)
	}
	if !slices.IsSorted(keys) {
		t.Errorf("not in the order of generations: %v", keys)
	}
	if strings.HasPrefix(store.HistoryKey(store.Services, "shop", "payments2", 1), store.HistoryPrefix(store.Services, "shop", "payments")) {
		t.Error("the history of payments2 is below that of payments")
	}
}

func TestParseConfigKey(t *testing.T) {
	for _, test := range []struct {
		key  string
		want store.ConfigKey
		ok   bool
	}{
		{store.PolicyKey("shop", "retries"), store.ConfigKey{Kind: store.Policies, Namespace: "shop", Name: "retries"}, true},
		{store.ServiceKey("shop", "payments"), store.ConfigKey{Kind: store.Services, Namespace: "shop", Name: "payments"}, true},
		{store.HostKey("pay.example.com"), store.ConfigKey{Kind: store.Hosts, Name: "pay.example.com"}, true},
		{store.EndpointKey("shop", "payments", "a1"), store.ConfigKey{Kind: store.Endpoints, Namespace: "shop", Name: "payments", ID: "a1"}, true},
		{key: ""},
		{key: store.ConfigPrefix},
		{key: store.ConfigPrefix + "policies"},
		{key: store.ConfigPrefix + "policies/shop"},
		{key: store.ConfigPrefix + "policies/shop/"},
		{key: store.ConfigPrefix + "policies//retries"},
		{key: store.ConfigPrefix + "policies/shop/retries/more"},
		{key: store.ConfigPrefix + "hosts/"},
		{key: store.ConfigPrefix + "hosts/a/b"},
		{key: store.ConfigPrefix + "endpoints/shop/payments"},
		{key: store.ConfigPrefix + "guesses/shop/retries"},
		{key: store.LiveKey("shop", "payments", "a1")},
		{key: store.HistoryKey(store.Policies, "shop", "retries", 1)},
	} {
		got, ok := store.ParseConfigKey(test.key)
		if ok != test.ok || got != test.want {
			t.Errorf("ParseConfigKey(%q) = %+v, %v, want %+v, %v", test.key, got, ok, test.want, test.ok)
		}
	}
}

func TestParseLiveKey(t *testing.T) {
	namespace, service, id, ok := store.ParseLiveKey(store.LiveKey("shop", "payments", "a1"))
	if namespace != "shop" || service != "payments" || id != "a1" || !ok {
		t.Errorf("got %s, %s, %s, %v; want what the key was made of", namespace, service, id, ok)
	}
	for _, key := range []string{"", store.LivePrefix, store.LivePrefix + "shop/payments", store.LivePrefix + "shop//a1", store.LivePrefix + "a/b/c/d", store.EndpointKey("shop", "payments", "a1")} {
		if _, _, _, ok := store.ParseLiveKey(key); ok {
			t.Errorf("ParseLiveKey(%q) is ok", key)
		}
	}
}
