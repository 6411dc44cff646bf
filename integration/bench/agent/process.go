package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"unsafe"
)

// cores are the core of the proxies and that of everything else: the same, where there is but one.
func cores() (proxy, rest int, err error) {
	mask, err := affinity()
	if err != nil {
		return 0, 0, err
	}
	var free []int
	for i := range len(mask) * 64 {
		if mask[i/64]>>(i%64)&1 == 1 {
			free = append(free, i)
		}
	}
	return free[len(free)-1], free[0], nil
}

// cpuMask has a bit for each core.
type cpuMask [16]uint64

func affinity() (mask cpuMask, err error) {
	_, _, errno := syscall.RawSyscall(syscall.SYS_SCHED_GETAFFINITY, 0, unsafe.Sizeof(mask), uintptr(unsafe.Pointer(&mask)))
	if errno != 0 {
		err = fmt.Errorf("sched_getaffinity: %w", errno)
	}
	return mask, err
}

// onCore runs f on a thread that has one core, which processes that f starts inherit.
func onCore(core int, f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, err := affinity()
	if err != nil {
		return err
	}
	var one cpuMask
	one[core/64] = 1 << (core % 64)
	if err := setAffinity(one); err != nil {
		return err
	}
	defer func() { _ = setAffinity(before) }()
	return f()
}

func setAffinity(mask cpuMask) error {
	if _, _, errno := syscall.RawSyscall(syscall.SYS_SCHED_SETAFFINITY, 0, unsafe.Sizeof(mask), uintptr(unsafe.Pointer(&mask))); errno != 0 {
		return fmt.Errorf("sched_setaffinity: %w", errno)
	}
	return nil
}

// role starts this program in another role and returns the addresses that it says.
func role(args ...string) (cmd *exec.Cmd, addresses []string, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	cmd = exec.Command(self, args...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil, nil, fmt.Errorf("%s said no address: %w", args[0], err)
	}
	return cmd, strings.Fields(line), nil
}

// pinAll gives all threads of this process one core, those to come too.
func pinAll(core int) error {
	var one cpuMask
	one[core/64] = 1 << (core % 64)
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, t := range threads {
		id, err := strconv.Atoi(t.Name())
		if err != nil {
			return err
		}
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SCHED_SETAFFINITY, uintptr(id), unsafe.Sizeof(one), uintptr(unsafe.Pointer(&one))); errno != 0 && errno != syscall.ESRCH {
			return fmt.Errorf("sched_setaffinity: %w", errno)
		}
	}
	runtime.GOMAXPROCS(1)
	return nil
}
