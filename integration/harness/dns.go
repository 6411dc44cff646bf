package harness

import (
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// DNS is a name server on loopback, over UDP. It knows addresses of IPv4 and IPv6, and says NXDOMAIN of a name that it was not told.
type DNS struct {
	Address string // 127.0.0.1:port

	conn  net.PacketConn
	mu    sync.Mutex
	names map[string]Records
	asked map[string]int
}

// Records are what a name server says of a name. With no addresses and no code the answer is empty.
type Records struct {
	Addresses []string
	TTL       time.Duration    // in whole seconds
	Code      dnsmessage.RCode // what is wrong with the name, such as dnsmessage.RCodeServerFailure
	Silent    bool             // nothing is answered at all
}

// StartDNS answers on loopback until Close.
func StartDNS() (*DNS, error) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	d := &DNS{Address: conn.LocalAddr().String(), conn: conn, names: map[string]Records{}, asked: map[string]int{}}
	go d.serve() // ends with Close
	return d, nil
}

// Set changes what is said of a name from now on.
func (d *DNS) Set(name string, r Records) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.names[name] = r
}

// Asked is how often the addresses of IPv4 of a name have been asked for.
func (d *DNS) Asked(name string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asked[name]
}

// Close stops the server.
func (d *DNS) Close() { _ = d.conn.Close() }

func (d *DNS) serve() {
	buf := make([]byte, 4096)
	for {
		n, from, err := d.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		if answer := d.answer(buf[:n]); answer != nil {
			_, _ = d.conn.WriteTo(answer, from)
		}
	}
}

// answer is nil where there is none.
func (d *DNS) answer(query []byte) []byte {
	var p dnsmessage.Parser
	header, err := p.Start(query)
	if err != nil {
		return nil
	}
	question, err := p.Question()
	if err != nil {
		return nil
	}
	r, known := d.lookUp(question)
	if r.Silent {
		return nil
	}
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: header.ID, Response: true, RecursionDesired: header.RecursionDesired, RecursionAvailable: true, RCode: r.Code},
		Questions: []dnsmessage.Question{question},
	}
	if !known {
		m.RCode = dnsmessage.RCodeNameError
	}
	for _, a := range r.Addresses {
		if record, ok := r.resource(question, netip.MustParseAddr(a)); ok {
			m.Answers = append(m.Answers, record)
		}
	}
	packed, err := m.Pack()
	if err != nil {
		return nil
	}
	return packed
}

func (d *DNS) lookUp(q dnsmessage.Question) (Records, bool) {
	name := strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))
	d.mu.Lock()
	defer d.mu.Unlock()
	if q.Type == dnsmessage.TypeA {
		d.asked[name]++
	}
	r, known := d.names[name]
	return r, known
}

// resource is an address as the question asks for it.
func (r Records) resource(q dnsmessage.Question, a netip.Addr) (dnsmessage.Resource, bool) {
	out := dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: uint32(r.TTL / time.Second)}}
	switch {
	case q.Type == dnsmessage.TypeA && a.Is4():
		out.Body = &dnsmessage.AResource{A: a.As4()}
	case q.Type == dnsmessage.TypeAAAA && a.Is6():
		out.Body = &dnsmessage.AAAAResource{AAAA: a.As16()}
	default:
		return dnsmessage.Resource{}, false
	}
	return out, true
}
