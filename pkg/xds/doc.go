// Package xds is the server that proxies subscribe to. A pure state machine (state) decides what to say to one proxy and books what
// it accepted; around it are a wire dialect (delta), a gRPC stream with one goroutine that reads, and others that send, and the book
// that tells who holds what.
package xds
