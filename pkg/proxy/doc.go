// Package proxy is the data path: listeners for HTTP and TCP, connections to hosts, and nothing of its own to decide. Every request
// goes through one seam, Server.serve, into the engine, so that a faster transport can be put under it.
package proxy
