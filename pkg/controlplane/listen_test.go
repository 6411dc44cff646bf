package controlplane

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// listenEnv makes the test binary a process that listens at this address until it is killed.
const listenEnv = "BREAKWATER_TEST_LISTEN"

func TestMain(m *testing.M) {
	if address := os.Getenv(listenEnv); address != "" {
		l, err := listen(address)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("listening")
		for {
			if _, err := l.Accept(); err != nil {
				os.Exit(1)
			}
		}
	}
	os.Exit(m.Run())
}

// socketPath is short enough for a unix socket, wherever the test runs.
func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "bw")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

// listener starts another process that listens at address. Kill ends it without a chance to clean up.
func listener(t *testing.T, address string) (kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), listenEnv+"="+address)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	killed := false
	kill = func() {
		if !killed {
			killed = true
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	t.Cleanup(kill)
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "listening\n" {
		t.Fatalf("the other process said %q, %v", line, err)
	}
	return kill
}

func TestASocketOfAKilledProcessIsTakenOver(t *testing.T) {
	path := socketPath(t)
	kill := listener(t, "unix:"+path)
	kill()
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("the killed process left no socket: %v", err)
	}
	l, err := listen("unix:" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatalf("nobody listens: %v", err)
	}
	_ = conn.Close()
}

func TestALiveSocketIsLeftAlone(t *testing.T) {
	path := socketPath(t)
	listener(t, "unix:"+path)
	if l, err := listen("unix:" + path); err == nil || err.Error() != "address already in use" {
		if l != nil {
			_ = l.Close()
		}
		t.Errorf("error %v, want address already in use", err)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatalf("the live process lost its socket: %v", err)
	}
	_ = conn.Close()
}

func TestAFileThatIsNoSocketIsLeftAlone(t *testing.T) {
	path := socketPath(t)
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if l, err := listen("unix:" + path); err == nil {
		_ = l.Close()
		t.Error("listening where a file was")
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "precious" {
		t.Errorf("the file holds %q, %v", text, err)
	}
}

func TestABusyPortNamesItsFlagAndFreesTheOthers(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	for flag, set := range map[string]func(*Config){
		"--listen-xds":   func(c *Config) { c.ListenXDS = busy.Addr().String() },
		"--listen-api":   func(c *Config) { c.ListenAPI = busy.Addr().String() },
		"--listen-admin": func(c *Config) { c.ListenAdmin = busy.Addr().String() },
	} {
		sockets := []string{socketPath(t), socketPath(t), socketPath(t)}
		c := Config{ListenXDS: "unix:" + sockets[0], ListenAPI: "unix:" + sockets[1], ListenAdmin: "unix:" + sockets[2]}
		set(&c)
		ls, err := open(c)
		if want := flag + " " + busy.Addr().String() + ": address already in use"; err == nil || err.Error() != want {
			ls.close()
			t.Errorf("error %v, want %q", err, want)
		}
		for _, path := range sockets {
			if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: %s was left behind", flag, path)
			}
		}
	}
}

func TestOpenBindsAllThree(t *testing.T) {
	ls, err := open(Config{ListenXDS: "127.0.0.1:0", ListenAPI: "127.0.0.1:0", ListenAdmin: "unix:" + socketPath(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer ls.close()
	for name, l := range map[string]net.Listener{"xds": ls.xds, "api": ls.api, "admin": ls.admin} {
		conn, err := net.Dial(l.Addr().Network(), l.Addr().String())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		_ = conn.Close()
	}
}
