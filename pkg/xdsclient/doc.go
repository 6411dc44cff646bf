// Package xdsclient subscribes to a control plane, any that speaks delta xDS over one aggregated stream, and keeps what it last said
// on disk. What the agent can't enforce it rejects by field; what it holds goes to one consumer, in an order that breaks nothing.
package xdsclient
