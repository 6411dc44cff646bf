// Package relay stands between a control plane and the xDS clients of one host: Envoys, and gRPC programs. While the control plane can
// be reached it passes every message on, so that each client is its own proxy there, and remembers what each has accepted; what a client says of its ejections goes the
// same way. Without
// one it answers from that memory, which is on disk: clients, and the relay itself, may restart meanwhile.
package relay
