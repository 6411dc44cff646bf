package names

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
)

// System asks as the machine is set up to (hosts file, search domains, name servers), but for the servers that the lookup names.
func System(ctx context.Context, l dataplane.Lookup) (Found, error) {
	var first, second string
	switch l.Family {
	case dataplane.OnlyIPv4:
		first = "ip4"
	case dataplane.OnlyIPv6:
		first = "ip6"
	case dataplane.PreferIPv4, dataplane.BothFamilies:
		first, second = "ip4", "ip6"
	default:
		first, second = "ip6", "ip4"
	}
	found, err := query(ctx, l, first)
	if second == "" || len(found.Addresses) > 0 && l.Family != dataplane.BothFamilies {
		return found, err
	}
	more, fault := query(ctx, l, second)
	switch {
	case len(more.Addresses) > 0 && len(found.Addresses) > 0:
		return Found{append(found.Addresses, more.Addresses...), min(found.TTL, more.TTL)}, nil
	case len(more.Addresses) > 0:
		return more, nil
	case len(found.Addresses) > 0:
		return found, nil
	}
	return Found{}, errors.Join(err, fault) // that there is none counts only where both say so
}

// query asks for the addresses of one family.
func query(ctx context.Context, l dataplane.Lookup, network string) (Found, error) {
	if ip, err := netip.ParseAddr(l.Host); err == nil { // a name that is an address has this one
		if ip.Unmap().Is4() == (network == "ip4") {
			return Found{Addresses: []netip.Addr{ip.Unmap()}}, nil
		}
		return Found{}, nil
	}
	// As long as all tries together, of which each is twice the one before.
	ctx, cancel := context.WithTimeout(ctx, l.Timeout*time.Duration(uint64(1)<<min(l.Tries, 5)-1))
	defer cancel()
	w := &wire{servers: servers(l.Servers), timeout: l.Timeout}
	resolver := net.Resolver{PreferGo: true, Dial: w.dial}
	list, err := resolver.LookupNetIP(ctx, network, l.Host)
	var fault *net.DNSError
	if errors.As(err, &fault) && fault.IsNotFound {
		return Found{}, nil
	}
	if err != nil {
		return Found{}, err
	}
	for i := range list {
		list[i] = list[i].Unmap()
	}
	return w.found(list), nil
}

func servers(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

// wire is the connections of one query. It hears what package net does not tell of the records that come: their times to live, and their
// order, which hosts of a cluster are in too. It hears nothing of an answer that is too long for a datagram.
type wire struct {
	servers []string // in place of the machine's; nil: those
	timeout time.Duration

	mu    sync.Mutex
	dials int
	ttl   time.Duration
	order []netip.Addr
}

func (w *wire) dial(ctx context.Context, network, server string) (net.Conn, error) {
	if len(w.servers) > 0 {
		w.mu.Lock()
		server = w.servers[w.dials%len(w.servers)]
		w.dials++
		w.mu.Unlock()
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, server)
	if err != nil {
		return nil, err
	}
	if udp, ok := conn.(*net.UDPConn); ok {
		return &datagrams{udp, w}, nil
	}
	return conn, nil
}

// found is list in the order of the records, and their shortest time to live.
func (w *wire) found(list []netip.Addr) Found {
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.SortStableFunc(list, func(a, b netip.Addr) int { return cmp.Compare(slices.Index(w.order, a), slices.Index(w.order, b)) })
	return Found{list, w.ttl}
}

// listen takes what an answer says.
func (w *wire) listen(message []byte) {
	var m dnsmessage.Message
	if m.Unpack(message) != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range m.Answers {
		var ip netip.Addr
		switch body := r.Body.(type) {
		case *dnsmessage.AResource:
			ip = netip.AddrFrom4(body.A)
		case *dnsmessage.AAAAResource:
			ip = netip.AddrFrom16(body.AAAA)
		default:
			continue
		}
		if ttl := time.Duration(r.Header.TTL) * time.Second; len(w.order) == 0 || ttl < w.ttl {
			w.ttl = ttl
		}
		w.order = append(w.order, ip)
	}
}

// datagrams is a connection to a name server.
type datagrams struct {
	*net.UDPConn
	wire *wire
}

// Read implements net.Conn.
func (d *datagrams) Read(p []byte) (int, error) {
	n, err := d.UDPConn.Read(p)
	if n > 0 {
		d.wire.listen(p[:n])
	}
	return n, err
}

// SetDeadline implements net.Conn: a try lasts no longer than the cluster says.
func (d *datagrams) SetDeadline(t time.Time) error {
	if limit := time.Now().Add(d.wire.timeout); t.After(limit) {
		t = limit
	}
	return d.UDPConn.SetDeadline(t)
}
