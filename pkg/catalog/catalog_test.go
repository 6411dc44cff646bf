package catalog

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// read is all that is wrong with the service whose spec is given as YAML, one fault a line.
func read(t *testing.T, spec string) (Service, string) {
	t.Helper()
	text := "apiVersion: breakwater/v1alpha1\nkind: Service\nmetadata: {namespace: shop, name: payments}\nspec: " + spec + "\n"
	docs, errs := manifest.Decode("", []byte(text), manifest.YAML, manifest.Limits{})
	if len(docs) != 1 {
		t.Fatalf("%d documents: %v", len(docs), errs)
	}
	svc, more := manifest.Into[ServiceSpec](docs[0])
	errs = append(append(errs, more...), docs[0].Locate(Validate(&svc))...)
	var lines []string
	for _, e := range errs.Sorted() {
		lines = append(lines, e.Field+": "+e.Message)
	}
	return svc, strings.Join(lines, "\n")
}

func TestServiceFaults(t *testing.T) {
	for spec, want := range map[string]string{
		"{port: 8080}": "",
		"{protocol: grpc, endpoints: [{address: ::1, port: 1}]}":     "",
		"{port: 8080, hosts: [payments.example.com], dependsOn: []}": "",
		"{port: 8080, dependsOn: [billing, bank/ledger]}":            "",
		"{port: 0}":     "spec.port: must be at least 1",
		"{port: 65536}": "spec.port: must be at most 65535",
		"{port: -1}":    "spec.port: must not be negative",
		"{protocol: tcp, port: 1, localPort: 5432}": "",
		"{protocol: tcp}": "spec.localPort: is required with protocol tcp: where callers reach it on 127.0.0.1",
		"{protocol: tcp, port: 1, localPort: 15001}":                                         "spec.localPort: 15001 is the sidecar's own: choose another port",
		"{port: 1, localPort: 5432}":                                                         "spec.localPort: is for protocol tcp alone: other services are reached by their hosts",
		"{protocol: tcp, port: 1, localPort: 1, hosts: [a.b]}":                               "spec.hosts: is not for protocol tcp: callers reach it at spec.localPort, and nobody sees requests on its connections",
		"{port: 1, tls: {mode: none}}":                                                       "",
		"{port: 1, tls: {mode: simple, caFile: /ca.pem}}":                                    "",
		"{port: 1, tls: {mode: simple, sni: pay.example.com, caFile: /ca.pem}}":              "",
		"{port: 1, tls: {mode: mutual, caFile: /ca.pem, certFile: /c.pem, keyFile: /k.pem}}": "",
		"{port: 1, tls: {caFile: /ca.pem}}":                                                  "spec.tls.mode: is required: none, simple or mutual",
		"{port: 1, tls: {mode: simple}}":                                                     "spec.tls.caFile: is required: without it any certificate would do",
		"{port: 1, tls: {mode: simple, caFile: ca.pem, keyFile: /k, sni: '*.b'}}":            "spec.tls.caFile: \"ca.pem\" must be an absolute path, such as /etc/breakwater/ca.pem\nspec.tls.keyFile: is not for mode simple: leave it out\nspec.tls.sni: \"*.b\" is not a DNS name in lower case, such as payments.example.com",
		"{port: 1, tls: {mode: mutual, caFile: /ca.pem}}":                                    "spec.tls.certFile: is required with mode mutual\nspec.tls.keyFile: is required with mode mutual",
		"{port: 1, tls: {mode: none, sni: a.b}}":                                             "spec.tls.sni: is not for mode none: leave it out",
		"{port: 1, discovery: {dns: {host: pay.example.com}}}":                               "",
		"{discovery: {dns: {host: localhost., port: 1, refresh: 1s, respectTTL: true, resolvers: [10.0.0.1, '[::1]:54', '::1']}}}": "",
		"{port: 1, discovery: {}}":                                                    "spec.discovery: is empty: set a field or leave it out",
		"{port: 1, discovery: {kubernetes: {}}}":                                      "spec.discovery.kubernetes: not supported yet",
		"{port: 1, discovery: {registered: true}}":                                    "spec.discovery.registered: is what holds without discovery: leave spec.discovery out",
		"{port: 1, discovery: {dns: {refresh: 1s}}}":                                  "spec.discovery.dns.host: is required: the name that has the addresses",
		"{port: 1, discovery: {dns: {host: Pay.example.com}}}":                        "spec.discovery.dns.host: must be in lower case: pay.example.com",
		"{port: 1, discovery: {dns: {host: pay..com}}}":                               `spec.discovery.dns.host: "pay..com" is not a DNS name`,
		"{port: 1, discovery: {dns: {host: 10.0.0.1}}}":                               `spec.discovery.dns.host: "10.0.0.1" is an IP address: write it in spec.endpoints`,
		"{discovery: {dns: {host: a.b}}}":                                             "spec.discovery.dns.port: is required: the service names no port",
		"{port: 1, discovery: {dns: {host: a.b, refresh: 0s}}}":                       "spec.discovery.dns.refresh: must be at least 1ms",
		"{port: 1, discovery: {dns: {host: a.b, resolvers: [c]}}}":                    `spec.discovery.dns.resolvers[0]: "c" must be IP or IP:PORT, such as 10.0.0.2:53`,
		"{port: 1, discovery: {dns: {host: a.b, resolvers: ['0.0.0.0:53']}}}":         `spec.discovery.dns.resolvers[0]: "0.0.0.0" stands for every address: write the one that callers reach`,
		"{port: 1, discovery: {dns: {host: a.b}}, endpoints: [{address: 10.0.0.1}]}":  "spec.endpoints: is not beside spec.discovery.dns: the endpoints are what the name has in DNS; give them a name of their own, or leave discovery out",
		"{port: 1, discovery: {dns: {host: a.b}}, subsets: {v1: {v: a}}}":             "spec.subsets: is not beside spec.discovery.dns: addresses in DNS have no labels; make a Service of each part's own name, and name them as backends",
		"{port: 1, clusterName: pay.example.com:80_x/y-Z}":                            "",
		"{port: 1, clusterName: 'a|b'}":                                               `spec.clusterName: "a|b" may have letters, digits and . _ - / : alone, at most 200 of them`,
		"{port: 1, clusterName: a b}":                                                 `spec.clusterName: "a b" may have letters, digits and . _ - / : alone, at most 200 of them`,
		"{protocol: HTTP}":                                                            `spec.protocol: "HTTP" is unknown: did you mean http?`,
		"{protocol: quic}":                                                            `spec.protocol: "quic" is unknown: must be one of http, http2, grpc, tcp`,
		"{port: 1, hosts: [Pay.Example.com]}":                                         "spec.hosts[0]: must be in lower case: pay.example.com",
		"{port: 1, hosts: [pay]}":                                                     `spec.hosts[0]: "pay" is a single label: a service is reached by its own name in its namespace; further hosts need a domain`,
		"{port: 1, hosts: ['*.example.com']}":                                         `spec.hosts[0]: "*.example.com" has a wildcard: name every host`,
		"{port: 1, hosts: [10.0.0.1]}":                                                `spec.hosts[0]: "10.0.0.1" is an IP address: hosts are DNS names`,
		"{port: 1, hosts: ['[::1]']}":                                                 `spec.hosts[0]: "[::1]" is an IP address: hosts are DNS names`,
		"{port: 1, hosts: ['a.b:80']}":                                                `spec.hosts[0]: "a.b:80" has a port or a scheme: callers reach a host on any port`,
		"{port: 1, hosts: [a.b, a.b]}":                                                `spec.hosts[1]: "a.b" is there twice`,
		"{port: 1, hosts: [a..b]}":                                                    `spec.hosts[0]: "a..b" is not a DNS name`,
		"{port: 1, hosts: [a.b.]}":                                                    `spec.hosts[0]: "a.b." must not end with a dot`,
		"{port: 1, hosts: [payments.shop]}":                                           `spec.hosts[0]: the service has "payments.shop" by its name already: leave it out`,
		"{port: 1, hosts: []}":                                                        "spec.hosts: is empty: name at least one or leave it out",
		"{endpoints: [{address: 10.0.0.1}]}":                                          "spec.endpoints[0].port: is required: the service names no port",
		"{port: 1, endpoints: [{address: db.local}]}":                                 `spec.endpoints[0].address: "db.local" is a host name: write an IP address, or the name in spec.discovery.dns`,
		"{port: 1, endpoints: [{address: 10.0.0.256}]}":                               `spec.endpoints[0].address: "10.0.0.256" is not an IP address`,
		"{port: 1, endpoints: [{port: 80}]}":                                          "spec.endpoints[0].address: is required",
		"{port: 1, endpoints: [{address: 0.0.0.0}]}":                                  `spec.endpoints[0].address: "0.0.0.0" stands for every address: write the one that callers reach`,
		"{port: 1, endpoints: [{address: 'fe80::1%eth0'}]}":                           `spec.endpoints[0].address: "fe80::1%eth0" has a zone, which Envoy can't take`,
		"{port: 1, endpoints: [{address: '0:0::1'}]}":                                 "spec.endpoints[0].address: must be written ::1",
		"{port: 1, endpoints: [{address: 224.0.0.1}]}":                                `spec.endpoints[0].address: "224.0.0.1" is a multicast address`,
		"{port: 80, endpoints: [{address: 10.0.0.1}, {address: 10.0.0.1, port: 80}]}": "spec.endpoints[1]: 10.0.0.1:80 is there twice: see spec.endpoints[0]",
		"{port: 80, endpoints: [{address: 10.0.0.1, weight: 0}]}":                     "spec.endpoints[0].weight: must be at least 1",
		"{port: 80, endpoints: [{address: 10.0.0.1, health: sick}]}":                  `spec.endpoints[0].health: "sick" is unknown: must be one of healthy, unhealthy, draining, degraded`,
		"{port: 80, endpoints: [{address: 10.0.0.1, locality: {zone: a}}]}":           "spec.endpoints[0].locality.region: is required beside a zone",
		"{port: 80, endpoints: [{address: 10.0.0.1, labels: {v: 'a b'}}]}":            `spec.endpoints[0].labels.v: "a b" must have at most 63 characters of a-z, A-Z, 0-9, '-', '_', '.' and begin and end with a letter or digit`,
		"{port: 1, dependsOn: [payments]}":                                            "spec.dependsOn[0]: a service does not depend on itself",
		"{port: 1, dependsOn: [shop/payments]}":                                       "spec.dependsOn[0]: a service does not depend on itself",
		"{port: 1, dependsOn: [billing, shop/billing]}":                               "spec.dependsOn[1]: shop/billing is there twice",
		"{port: 1, dependsOn: ['a/b/c']}":                                             `spec.dependsOn[0]: the name "b/c" must consist of a-z, 0-9 and '-' only`,
		"{port: 1, dependsOn: ['/b']}":                                                "spec.dependsOn[0]: the namespace is required",
		"{port: 1, dependsOn: [Billing]}":                                             `spec.dependsOn[0]: the name "Billing" must consist of a-z, 0-9 and '-' only`,
		"{port: x, hosts: [A.b], protocol: udp}":                                      "spec.port: must be a whole number, not \"x\"\nspec.hosts[0]: must be in lower case: a.b\nspec.protocol: \"udp\" is unknown: must be one of http, http2, grpc, tcp",
	} {
		if _, got := read(t, spec); got != want {
			t.Errorf("%s\n got %s\nwant %s", spec, got, want)
		}
	}
}

func TestEndpointFaults(t *testing.T) {
	e := &Endpoint{ID: "Host.1", Spec: EndpointSpec{Address: "10.0.0.1"}}
	var got []string
	for _, f := range ValidateEndpoint(e, &Service{}) {
		got = append(got, f.Error())
	}
	want := []string{`metadata.name: the endpoint's id "Host.1" must consist of a-z, 0-9 and '-' only`, "spec.port: is required: the service names no port"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
	e.ID, e.Spec.Port = "host-1", new(uint32(80))
	if errs := ValidateEndpoint(e, nil); len(errs) > 0 {
		t.Errorf("faults = %v, want none", errs)
	}
}

func TestHostsDependenciesAndPorts(t *testing.T) {
	svc, faults := read(t, "{port: 8080, hosts: [pay.example.com], dependsOn: [billing, bank/ledger]}")
	if faults != "" {
		t.Fatal(faults)
	}
	if diff := cmp.Diff([]string{"payments.shop", "pay.example.com"}, Hosts(&svc)); diff != "" {
		t.Errorf("hosts (-want +got):\n%s", diff)
	}
	keys, ok := Dependencies(&svc)
	if diff := cmp.Diff([]manifest.Key{{Namespace: "shop", Name: "billing"}, {Namespace: "bank", Name: "ledger"}}, keys); diff != "" || !ok {
		t.Errorf("dependencies, %v (-want +got):\n%s", ok, diff)
	}
	svc.Spec.DependsOn = nil
	if _, ok := Dependencies(&svc); ok {
		t.Error("a service without dependsOn says what it depends on")
	}
	if got := Port(&EndpointSpec{}, &svc.Spec); got != 8080 {
		t.Errorf("port = %d, want the service's 8080", got)
	}
	if got := Port(&EndpointSpec{Port: new(uint32(9))}, &svc.Spec); got != 9 {
		t.Errorf("port = %d, want its own 9", got)
	}
	if got := ProtocolOf(&svc); got != HTTP {
		t.Errorf("protocol = %s, want http", got)
	}
}

func TestEveryFieldIsDocumented(t *testing.T) {
	for _, f := range manifest.Describe[ServiceSpec]("spec") {
		if f.Doc == "" || f.Default == "" || f.Effect == "" {
			t.Errorf("%s lacks a tag: %+v", f.Path, f)
		}
	}
}
