// Package proxy is the data path: listeners for HTTP and TCP, connections to hosts, and nothing of its own to decide. Every request
// goes through one seam, listener.serve, into the engine, so that a faster transport can be put under it.
//
// A transport under the seam reads requests from net.Conn by itself and hands what is outside of its grammar, with the bytes that it
// has read, to net/http. For what it serves itself it does what listener.serve does, and needs nothing of net/http for it but
// http.Header:
//
//   - refusal and arrive make the request what the listener's configuration says: what is refused before any route is looked up, which
//     headers are dropped, added and trusted.
//   - engine.Begin finds the route. The request is then what hosts see; the call's BufferLimit and ExpectedTimeout say what of the request is kept and sent.
//   - An engine.Upstream of its own makes the attempts. Its Try takes a connection from the lane of the attempt's host (pools.of, then
//     lane.h1 or lane.h2), which asks the attempt's Queue, Unqueue and Admit; it gives it back with pool.put or pool.discard.
//   - call.Complete says that the request has come as a whole, call.Progress that something has moved, call.Commit that the application
//     has got something; call.Exceed that the body is too long to be sent again.
//   - call.Do brings the answer: a response of the Upstream's, or a local reply, or none where the application has gone. The transport
//     writes it, and owes call.Finish afterwards, with how that ended.
//   - listenerStats and Options.Access are told of the request, and streams of a connection that leaves HTTP.
//
// TLS is beneath all this: secured hands out connections that have shaken hands, and lane.open makes such.
package proxy
