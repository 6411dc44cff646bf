package harness

import (
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
)

// BlackHole is an address that neither accepts a connection nor refuses one. Its owner calls Close.
type BlackHole struct {
	Address string // 127.0.0.1:port

	fd   int
	held []net.Conn
}

// StartBlackHole listens with the shortest of queues, never accepts, and fills the queue.
func StartBlackHole() (*BlackHole, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	b := &BlackHole{fd: fd}
	if err := b.fill(); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

func (b *BlackHole) fill() error {
	if err := syscall.Bind(b.fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return os.NewSyscallError("bind", err)
	}
	if err := syscall.Listen(b.fd, 0); err != nil {
		return os.NewSyscallError("listen", err)
	}
	name, err := syscall.Getsockname(b.fd)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	b.Address = Loopback(name.(*syscall.SockaddrInet4).Port)
	for range 16 {
		c, err := net.DialTimeout("tcp", b.Address, 200*time.Millisecond)
		if os.IsTimeout(err) {
			return nil
		}
		if err != nil {
			return err
		}
		b.held = append(b.held, c)
	}
	return fmt.Errorf("%s accepts all the same", b.Address)
}

// Close ends it.
func (b *BlackHole) Close() {
	for _, c := range b.held {
		_ = c.Close()
	}
	_ = syscall.Close(b.fd)
}
