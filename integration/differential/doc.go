// Package differential sends the same traffic through a real Envoy and through the agent, both under the same policies of the same control
// plane, and compares what callers, upstream hosts and statistics saw.
package differential
