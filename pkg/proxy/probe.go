package proxy

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/engine"
	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// checkAgent is who health checks say that they are.
const checkAgent = "Envoy/HC"

// Probers makes engine.Options.NewProber, for an engine whose pools are of Pools.
func Probers(dial Dial) func(*engine.Host, *dataplane.Cluster, *dataplane.HealthCheck) engine.Prober {
	return func(h *engine.Host, cluster *dataplane.Cluster, check *dataplane.HealthCheck) engine.Prober {
		address, called := h.CheckAddress.String(), h.CheckHostname
		connect := func(ctx context.Context) (net.Conn, error) {
			c, err := dial(ctx, address)
			if err != nil || cluster.TLS == nil {
				return c, err
			}
			return h.Pool().(*pools).of(cluster, "").secure(ctx, c, cluster, nil)
		}
		scheme := "http"
		if cluster.TLS != nil {
			scheme = "https"
		}
		switch {
		case check.TCP != nil:
			return &tcpProber{connect: connect, check: check}
		case check.GRPC != nil:
			p := &grpcProber{check: check.GRPC, timeout: strconv.FormatInt(check.Timeout.Milliseconds(), 10) + "m"}
			p.client = client{connect: connect, scheme: scheme, http2: true, reuse: check.Reuse, host: cmp.Or(called, check.GRPC.Authority, hostOf(cluster.Name))}
			return p
		}
		return &httpProber{check: check.HTTP, client: client{
			connect: connect, scheme: scheme, http2: check.HTTP.HTTP2, reuse: check.Reuse, host: cmp.Or(called, check.HTTP.Host, hostOf(cluster.Name)),
		}}
	}
}

// hostOf is a cluster's name as a host: net/http sends none that has other letters, such as the "/" of "shop/payments".
func hostOf(cluster string) string {
	return strings.Map(func(r rune) rune {
		if r == '.' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '-'
	}, cluster)
}

// client sends one request at a time over one connection, and opens another where that has ended.
type client struct {
	connect      func(context.Context) (net.Conn, error)
	scheme, host string
	http2, reuse bool
	conn         *http.ClientConn // nil: none is open
}

// send returns the response with its body read, of which at most the beginning is kept.
func (c *client) send(ctx context.Context, method, path string, header http.Header, body []byte) (*http.Response, []byte, error) {
	if c.conn != nil && c.conn.Err() != nil {
		_ = c.Close()
	}
	if c.conn == nil {
		if err := c.open(ctx); err != nil {
			return nil, nil, err
		}
	}
	resp, first, err := c.exchange(ctx, method, path, header, body)
	if err != nil || !c.reuse || resp.Close {
		_ = c.Close()
	}
	return resp, first, err
}

func (c *client) exchange(ctx context.Context, method, path string, header http.Header, body []byte) (*http.Response, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://check", bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	req.URL.Scheme, req.URL.Opaque, req.URL.Host, req.Host, req.Header = c.scheme, path, c.host, c.host, header
	switch {
	case c.http2 && len(body) > 0:
		req.ContentLength = -1 // Envoy says none
	case len(body) == 0:
		req.Body, req.ContentLength = http.NoBody, 0
	}
	if !c.http2 && method == http.MethodOptions {
		req.TransferEncoding = []string{"identity"} // has its length said though it is 0, as for all methods that may have a body
	}
	resp, err := c.conn.RoundTrip(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	first, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
	}
	return resp, first, err
}

func (c *client) open(ctx context.Context) error {
	raw, err := c.connect(ctx)
	if err != nil {
		return err
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!c.http2)
	protocols.SetUnencryptedHTTP2(c.http2)
	t := &http.Transport{
		Protocols: protocols, DisableCompression: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) { return raw, nil },
	}
	if c.conn, err = t.NewClientConn(context.WithoutCancel(ctx), "http", "check:80"); err != nil {
		_ = raw.Close()
	}
	return err
}

// Close implements engine.Prober.
func (c *client) Close() error {
	if c.conn == nil {
		return nil
	}
	conn := c.conn
	c.conn = nil
	return conn.Close()
}

func headerOf(fields []dataplane.HeaderField) http.Header {
	h := http.Header{"User-Agent": {checkAgent}}
	for _, f := range fields {
		h.Add(f.Name, f.Value)
	}
	return h
}

// httpProber checks by a request.
type httpProber struct {
	client
	check *dataplane.HTTPCheck
}

// Probe implements engine.Prober.
func (p *httpProber) Probe(ctx context.Context) engine.Probed {
	resp, _, err := p.send(ctx, p.check.Method, p.check.Path, headerOf(p.check.Header), nil)
	if err != nil {
		return engine.Probed{Result: resilience.CheckNetwork}
	}
	if !within(p.check.Expected, resp.StatusCode) {
		out := engine.Probed{Result: resilience.CheckFailed, Exclude: resp.Header["X-Envoy-Immediate-Health-Check-Fail"] != nil}
		if within(p.check.Retriable, resp.StatusCode) {
			out.Result = resilience.CheckRetriable
		}
		return out
	}
	out := engine.Probed{Verified: p.check.Service != nil}
	get := func(name string) []string { return resp.Header[http.CanonicalHeaderKey(name)] }
	switch {
	case out.Verified && !p.check.Service.Matches(get):
		out.Result = resilience.CheckFailed
	case resp.Header["X-Envoy-Degraded"] != nil:
		out.Result = resilience.CheckPassedDegraded
	}
	return out
}

func within(ranges []dataplane.StatusRange, status int) bool {
	return slices.ContainsFunc(ranges, func(r dataplane.StatusRange) bool { return status >= int(r.Start) && status < int(r.End) })
}

// grpcProber checks by a call of grpc.health.v1.
type grpcProber struct {
	client
	check   *dataplane.GRPCCheck
	timeout string
}

// Probe implements engine.Prober.
func (p *grpcProber) Probe(ctx context.Context) engine.Probed {
	message, err := proto.Marshal(&grpc_health_v1.HealthCheckRequest{Service: p.check.Service})
	if err != nil {
		return engine.Probed{Result: resilience.CheckFailed}
	}
	h := headerOf(p.check.Header)
	h["Content-Type"], h["Te"], h["Grpc-Timeout"] = []string{"application/grpc"}, []string{"trailers"}, []string{p.timeout}
	frame := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
	resp, body, err := p.send(ctx, http.MethodPost, grpc_health_v1.Health_Check_FullMethodName, h, frame)
	switch {
	case err != nil:
		return engine.Probed{Result: resilience.CheckNetwork}
	case serving(resp, body):
		return engine.Probed{Result: resilience.CheckPassed}
	}
	return engine.Probed{Result: resilience.CheckFailed}
}

// serving reports whether a response is OK and says SERVING.
func serving(resp *http.Response, body []byte) bool {
	if resp.StatusCode != http.StatusOK || resp.Trailer.Get("Grpc-Status") != "0" || len(body) < 5 || body[0] != 0 {
		return false
	}
	n := binary.BigEndian.Uint32(body[1:5])
	var answer grpc_health_v1.HealthCheckResponse
	return int(n) == len(body)-5 && proto.Unmarshal(body[5:], &answer) == nil && answer.GetStatus() == grpc_health_v1.HealthCheckResponse_SERVING
}

// tcpProber checks by connecting, and by what is said then.
type tcpProber struct {
	connect func(context.Context) (net.Conn, error)
	check   *dataplane.HealthCheck
	conn    net.Conn // nil: none is open
}

// Probe implements engine.Prober.
func (p *tcpProber) Probe(ctx context.Context) engine.Probed {
	err := p.probe(ctx)
	if err != nil || !p.check.Reuse || len(p.check.TCP.Receive) == 0 {
		_ = p.Close()
	}
	if err != nil {
		return engine.Probed{Result: resilience.CheckNetwork}
	}
	return engine.Probed{Result: resilience.CheckPassed}
}

func (p *tcpProber) probe(ctx context.Context) (err error) {
	if p.conn == nil {
		if p.conn, err = p.connect(ctx); err != nil {
			return err
		}
	}
	if len(p.check.TCP.Receive) == 0 {
		return nil
	}
	stop := context.AfterFunc(ctx, func() { _ = p.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err = p.conn.Write(p.check.TCP.Send); err != nil {
		return err
	}
	var got []byte
	buf := make([]byte, 4<<10)
	for !contains(got, p.check.TCP.Receive) {
		n, err := p.conn.Read(buf)
		if got = append(got, buf[:n]...); err != nil && !contains(got, p.check.TCP.Receive) {
			return err
		}
	}
	return nil
}

// Close implements engine.Prober.
func (p *tcpProber) Close() error {
	if p.conn == nil {
		return nil
	}
	conn := p.conn
	p.conn = nil
	return conn.Close()
}

// contains reports whether the parts come in b in their order, whatever else comes.
func contains(b []byte, parts [][]byte) bool {
	for _, part := range parts {
		i := bytes.Index(b, part)
		if i < 0 {
			return false
		}
		b = b[i+len(part):]
	}
	return true
}
