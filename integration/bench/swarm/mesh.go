package main

import (
	"fmt"
	"strings"
)

// mesh is the data of a cell: so many services of one namespace, each of which is received by the proxies of every other one.
type mesh struct{ services, callerCount int }

func (m mesh) name(i int) string { return fmt.Sprintf("s%04d", i) }

// names are those of clusters, assignments and route configurations.
func (m mesh) names() []string {
	names := make([]string, m.services)
	for i := range names {
		names[i] = "shop/" + m.name(i)
	}
	return names
}

// callers are the services that clients belong to, as node.cluster names them.
func (m mesh) callers() []string {
	callers := make([]string, min(m.callerCount, m.services))
	for i := range callers {
		callers[i] = m.name(i) + ".shop"
	}
	return callers
}

const serviceText = `apiVersion: breakwater/v1alpha1
kind: Service
metadata: {namespace: shop, name: %s}
spec: {protocol: http, endpoints: [{address: 10.%[2]d.%[3]d.1, port: 8080}, {address: 10.%[2]d.%[3]d.2, port: 8080}, {address: 10.%[2]d.%[3]d.3, port: 8080}]}
---
`

// everyone is what holds for all services.
const everyone = `apiVersion: breakwater/v1alpha1
kind: Policy
metadata: {namespace: shop, name: everyone}
spec:
  to: {service: "*"}
  timeout: {request: 3s, perTry: 900ms, connect: 1s}
  retry: {numRetries: 2, retryOn: [connect-failure, refused-stream, gateway-error], backOff: {base: 25ms, max: 250ms}}
  outlierDetection: {consecutive5xx: 5, interval: 5s, baseEjectionTime: 30s}
  limits: {maxConnections: 1024, maxPendingRequests: 1024, maxRequests: 1024}
`

// applies are the documents, as many in one as a transaction takes.
func (m mesh) applies() (list []string) {
	var text strings.Builder
	for i := range m.services {
		fmt.Fprintf(&text, serviceText, m.name(i), i/256, i%256)
		if (i+1)%250 == 0 {
			list = append(list, text.String())
			text.Reset()
		}
	}
	list = append(list, text.String()+everyone)
	for _, k := range kinds {
		list = append(list, m.edit(k, 0))
	}
	return list
}

// kind is what an edit changes.
type kind struct {
	name, target, section string
	most                  int // of them in one cell; 0: any number
}

var kinds = []kind{
	{name: "route", section: "timeout: {request: %dms}"},
	{name: "limit", section: "limits: {maxRequests: %d}"},
	{name: "cluster", section: "outlierDetection: {consecutive5xx: %d}"},
	{name: "wide", target: "*", section: "timeout: {request: %dms}", most: 3}, // every route of the namespace
}

const editText = `apiVersion: breakwater/v1alpha1
kind: Policy
metadata: {namespace: shop, name: edit-%s}
spec:
  to: {service: "%s"}
  precedence: 1
  %s
`

// edit is the n-th edit of that kind.
func (m mesh) edit(k kind, n int) string {
	target := k.target
	if target == "" {
		target = m.name(m.services / 2)
	}
	return fmt.Sprintf(editText, k.name, target, fmt.Sprintf(k.section, 1000+n))
}
