// Package ports gives tests ports to listen on.
package ports

import (
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// given are the ports that Free has returned: whoever asked may not have taken them yet.
var given sync.Map

// Free are n free TCP ports of loopback, none of which it has returned before. They are below those that systems take for connections, so
// that nobody takes one before it is used.
func Free(n int) ([]int, error) {
	const first, last = 10_000, 32_000
	ports := make([]int, 0, n)
	for tries := 0; len(ports) < n; tries++ {
		port := first + rand.IntN(last-first)
		if _, again := given.LoadOrStore(port, true); again && tries <= last-first {
			continue
		}
		l, err := net.Listen("tcp", Loopback(port))
		if err == nil {
			defer l.Close()
			ports = append(ports, port)
		} else if tries > last-first {
			return nil, err
		}
	}
	return ports, nil
}

// Loopback is 127.0.0.1:port.
func Loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// Closed is an address of loopback that refuses connections. It panics where there is none.
func Closed() string {
	free, err := Free(1)
	if err != nil {
		panic(err)
	}
	return Loopback(free[0])
}
