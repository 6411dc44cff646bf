// Package world is everything that is configured, at one revision, and what of it each class of proxies must hold. It is pure: the
// reconcile loop feeds it changes, streams and the API read it.
package world
