// Package integration tests Breakwater whole: the real control plane, a real etcd, real Envoys, traffic on loopback.
package integration
