package xds

import (
	"hash/maphash"
	"strconv"
)

type sealed struct {
	stream *stream
	number uint64
}

// seal makes the nonce of a response. Nobody who has not read the response can know it, so that one is answered only where the proxy has
// read all that was sent before.
func (st *stream) seal(number uint64) string {
	return strconv.FormatUint(number, 10) + "-" + strconv.FormatUint(maphash.Comparable(st.server.seed, sealed{st, number}), 36)
}
