package integration_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-mesh/breakwater/integration/harness"
	"github.com/breakwater-mesh/breakwater/pkg/api"
)

// speaker is a host that says its name to whoever connects, and then what it hears.
func speaker(t *testing.T, name string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() { // ends when l is closed
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // ends when the other side goes
				defer c.Close()
				fmt.Fprintln(c, name)
				lines := bufio.NewReader(c)
				for {
					line, err := lines.ReadString('\n')
					if err != nil {
						return
					}
					fmt.Fprint(c, line)
				}
			}()
		}
	}()
	return l.Addr().String()
}

// hello connects and returns what is said first, and the connection.
func hello(address string) (string, net.Conn, error) {
	c, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return "", nil, err
	}
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		_ = c.Close()
		return "", nil, err
	}
	return line, c, nil
}

// tcpService is the manifest of shop/name with one endpoint and a local port.
func tcpService(name, address string, local int) string {
	ip, port, _ := net.SplitHostPort(address)
	return fmt.Sprintf("apiVersion: breakwater/v1alpha1\nkind: Service\nmetadata: {namespace: shop, name: %s}\nspec: {protocol: tcp, localPort: %d, endpoints: [{address: %s, port: %s}]}\n",
		name, local, ip, port)
}

func saysHello(t *testing.T, address, want string) net.Conn {
	t.Helper()
	var c net.Conn
	eventually(t, func() error {
		line, conn, err := hello(address)
		if err != nil || line != want+"\n" {
			return fmt.Errorf("%s says %q, %v; want %s", address, line, err, want)
		}
		c = conn
		return nil
	})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestTCPService goes through a sidecar, then through an agent that takes over the same caller's place: a listener of its own, in which a
// policy's limit cuts connections off, without a word to those that are open.
func TestTCPService(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*mesh) *harness.Client{
		"Envoy": func(m *mesh) *harness.Client { return m.envoy("orders").Client },
		"agent": func(m *mesh) *harness.Client { return m.agent("orders").Client },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMesh(t)
			ports, err := harness.FreePorts(2)
			if err != nil {
				t.Fatal(err)
			}
			db, cache := speaker(t, "db"), speaker(t, "cache")
			m.service("payments", 1)
			m.apply(m.manifest("orders"), tcpService("db", db, ports[0]))
			calls := start(m)
			open := saysHello(t, harness.Loopback(ports[0]), "db")
			eventually(t, func() error { // the listener of calls waits for its routes, and they for their clusters
				if call := calls.Get("payments", "/"); call.Status != http.StatusOK {
					return fmt.Errorf("another service answers %d, %v", call.Status, call.Err)
				}
				return nil
			})
			if call := calls.Get("db", "/"); call.Status != http.StatusNotFound {
				t.Errorf("a tcp service answers calls with %d", call.Status)
			}

			// A second one comes while the first is in use, and so does a limit of one connection.
			m.apply(tcpService("cache", cache, ports[1]), policyFor("db", "db", "limits: {maxConnections: 1}"))
			m.programmed("db")
			saysHello(t, harness.Loopback(ports[1]), "cache")
			if line, c, err := hello(harness.Loopback(ports[0])); err == nil {
				_ = c.Close()
				t.Errorf("over the limit the second connection is answered %q", line)
			}
			fmt.Fprintln(open, "still here")
			if line, err := bufio.NewReader(open).ReadString('\n'); err != nil || line != "still here\n" {
				t.Errorf("the connection that was open says %q, %v", line, err)
			}
			_ = open.Close()
			saysHello(t, harness.Loopback(ports[0]), "db")

			m.remove("services", "cache")
			eventually(t, func() error {
				if _, c, err := hello(harness.Loopback(ports[1])); err == nil {
					_ = c.Close()
					return fmt.Errorf("the listener of a removed service still answers")
				}
				return nil
			})
		})
	}
}

// TestATakenPortIsRejected has a tcp service whose local port somebody has: the control plane hears of it, and all else is served.
func TestATakenPortIsRejected(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	ports, err := harness.FreePorts(2)
	if err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", harness.Loopback(ports[0]))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	m.service("payments", 1)
	m.apply(m.manifest("orders"), tcpService("db", speaker(t, "db"), ports[0]), tcpService("cache", speaker(t, "cache"), ports[1]))
	refusal := fmt.Sprintf("cannot bind '127.0.0.1:%d'", ports[0])
	a := m.agent("orders")
	a.reaches("payments", http.StatusOK)
	_ = saysHello(t, harness.Loopback(ports[1]), "cache").Close()
	m.rejects("orders-1", "shop/db", refusal)
	if err := a.Stop(patience); err != nil {
		t.Error(err)
	}
	e := m.envoy("orders")
	e.reaches("payments", http.StatusOK)
	_ = saysHello(t, harness.Loopback(ports[1]), "cache").Close()
	m.rejects("orders-1", "shop/db", refusal)
}

// rejects waits until the control plane says that the proxy has refused the resource of that name, in words with text in them.
func (m *mesh) rejects(proxy, name, text string) {
	m.t.Helper()
	eventually(m.t, func() error {
		_, answer, err := m.cp.Do(http.MethodGet, "/api/v1/proxies/"+proxy, "")
		if err != nil {
			return err
		}
		var doc api.Proxy
		if err := json.Unmarshal([]byte(answer), &doc); err != nil {
			return err
		}
		for _, t := range doc.Types {
			for _, r := range t.Rejected {
				if r.Name == name && strings.Contains(r.Message, text) {
					return nil
				}
			}
		}
		return fmt.Errorf("%s has not refused %s with %q: %s", proxy, name, text, answer)
	})
}
