package main

import (
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"google.golang.org/grpc"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// order is what the parent tells a server that runs in a process of this program.
type order struct {
	Load   []said // what a client is sent until it is configured
	Edit   []said // what it is sent after an edit
	Settle bool   // say how much memory is in use
}

// said is one response of the control plane, as it was sent.
type said struct {
	Type  view.Type
	Delta bool
	Bytes []byte
}

// server is one to compare with. Its methods are called one at a time.
type server interface {
	options() []grpc.ServerOption
	register(*grpc.Server)
	load([]said) error
	edit([]said) error
}

// serveChild serves s on a port that it prints, and follows orders until its input ends. It answers each order when it has it, as the
// control plane answers a write before it is pushed.
func serveChild(s server) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	g := grpc.NewServer(s.options()...)
	s.register(g)
	go func() { _ = g.Serve(l) }() // ends with the process
	in, out := gob.NewDecoder(os.Stdin), gob.NewEncoder(os.Stdout)
	if err := out.Encode(l.Addr().String()); err != nil {
		return err
	}
	for {
		var o order
		if err := in.Decode(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if o.Load != nil {
			if err := s.load(o.Load); err != nil {
				return err
			}
		}
		var used uint64
		if o.Settle {
			used = inUse()
		}
		if err := out.Encode(used); err != nil {
			return err
		}
		if o.Edit != nil {
			if err := s.edit(o.Edit); err != nil {
				return err
			}
		}
	}
}

// collections are those before memory is looked at: what is pooled goes at the second.
const collections = 2

// inUse is the memory that heap and stacks take after collections.
func inUse() uint64 {
	for range collections {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// child is such a process, seen from the parent.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	enc *gob.Encoder
	dec *gob.Decoder
}

// startChild starts this program in another role and returns the address that it serves.
func startChild(role string) (c *child, address string, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, "", err
	}
	c = &child{cmd: exec.Command(self, role)}
	c.cmd.Stderr = os.Stderr
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, "", err
	}
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, "", err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, "", err
	}
	c.enc, c.dec = gob.NewEncoder(c.in), gob.NewDecoder(out)
	if err := c.dec.Decode(&address); err != nil {
		c.close()
		return nil, "", fmt.Errorf("%s said no address: %w", role, err)
	}
	return c, address, nil
}

// tell gives an order and waits for the answer, which is the memory in use where that was asked.
func (c *child) tell(o order) (used uint64, err error) {
	if err := c.enc.Encode(o); err != nil {
		return 0, err
	}
	err = c.dec.Decode(&used)
	return used, err
}

func (c *child) close() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}
