package xds

import (
	"slices"
	"strings"
	"unicode/utf8"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// Limits of one request. Of its names and versions there may be as many as a stream may have, and not more than a stream could use.
const (
	maxRequest   = 16 << 20
	maxNodeBytes = 256 << 10
	maxNameBytes = 256
	maxTextBytes = 16 << 10 // of a rejection; what comes after is not looked at
	maxListed    = 40_000   // names in all lists of a request
	maxKnown     = 100_000  // resources that a proxy brings with it
)

// fields are where the requests of a dialect have what they say; 0: nowhere.
type fields struct {
	node, url, subscribe, unsubscribe, wanted, known, nonce, detail protowire.Number
}

// incoming is a request that the codec reads. It is read field by field and given up at the first that is too much, since a few bytes
// on the wire can become hundreds of times as many in memory: the node alone is decoded as the message that it is.
type incoming struct {
	fields  fields
	rosters *rosters // nil: it shares no list with others

	request
	node *corev3.Node // nil: the request carries none
	err  error        // a gRPC status: what is wrong with it
}

// read reads b, which is not kept.
func (in *incoming) read(b []byte) error {
	in.size = len(b)
	start, end, err := in.share(b)
	if err != nil {
		return err
	}
	var url string
	take := func(number protowire.Number, value []byte) (err error) {
		switch f := in.fields; number {
		case f.node:
			in.node, err = readNode(value)
		case f.url:
			url = beginning(value, maxNameBytes)
		case f.subscribe:
			in.subscribe, err = in.name(in.subscribe, value)
			in.list = nil // there are more names than in the list
		case f.unsubscribe:
			in.unsubscribe, err = in.name(in.unsubscribe, value)
		case f.wanted:
			in.wanted, err = in.name(in.wanted, value)
			in.list = nil // as above
		case f.known:
			err = in.hold(value)
		case f.nonce:
			in.nonce = beginning(value, maxNameBytes)
		case f.detail:
			in.rejected = true
			in.text, err = message(value)
		}
		return err
	}
	if err := each(b[:start], take); err != nil {
		return err
	}
	if err := each(b[end:], take); err != nil {
		return err
	}
	t, ok := view.FromURL(url)
	if !ok {
		return invalid("type_url %q is not served", url)
	}
	in.typ = t
	return nil
}

// share takes the list of names that stands in b from start to end, where others may have said the same. Elsewhere start is end.
func (in *incoming) share(b []byte) (start, end int, err error) {
	into, field := &in.subscribe, in.fields.subscribe
	if field == 0 {
		into, field = &in.wanted, in.fields.wanted
	}
	if in.rosters == nil || len(b) < shortest {
		return 0, 0, nil
	}
	start, end = run(b, field)
	if n := end - start; n < shortest || n > longest {
		return 0, 0, nil
	}
	if in.list = in.rosters.find(b[start:end]); in.list == nil {
		err = each(b[start:end], func(_ protowire.Number, value []byte) (err error) {
			*into, err = in.name(*into, value)
			return err
		})
		if err != nil {
			return 0, 0, err
		}
		in.list = in.rosters.add(b[start:end], *into)
	}
	*into = slices.Clip(in.list.names)
	return start, end, nil
}

// each calls f with every field of b that has bytes, until it returns an error.
func each(b []byte, f func(protowire.Number, []byte) error) error {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return malformed(n)
		}
		b = b[n:]
		if n = protowire.ConsumeFieldValue(number, kind, b); n < 0 {
			return malformed(n)
		}
		if kind == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(b)
			if err := f(number, value); err != nil {
				return err
			}
		}
		b = b[n:]
	}
	return nil
}

func malformed(code int) error {
	return invalid("a request is no message of its kind: %v", protowire.ParseError(code))
}

// readNode decodes who the proxy is.
func readNode(b []byte) (*corev3.Node, error) {
	if len(b) > maxNodeBytes {
		return nil, invalid("node has %d bytes, at most %d are allowed", len(b), maxNodeBytes)
	}
	n := new(corev3.Node)
	if err := proto.Unmarshal(b, n); err != nil {
		return nil, invalid("node is no message of its kind: %v", err)
	}
	return n, nil
}

// name appends a name to one of the lists.
func (in *incoming) name(names []string, b []byte) ([]string, error) {
	if len(in.subscribe)+len(in.unsubscribe)+len(in.wanted) >= maxListed {
		return names, refuse(tooManyNames, "a request has more than %d names", maxListed)
	}
	name, err := word("the name", b)
	return append(names, name), err
}

// hold takes a resource that the proxy brings with it.
func (in *incoming) hold(entry []byte) error {
	const fieldName, fieldVersion = 1, 2
	if len(in.known) >= maxKnown {
		return refuse(tooManyNames, "a request has the versions of more than %d resources", maxKnown)
	}
	var name, version string
	err := each(entry, func(number protowire.Number, b []byte) (err error) {
		switch number {
		case fieldName:
			name, err = word("the name", b)
		case fieldVersion:
			version, err = word("the version", b)
		}
		return err
	})
	if err != nil {
		return err
	}
	if in.known == nil {
		in.known = make(map[string]string)
	}
	in.known[name] = version
	return nil
}

// word is a name or a version of a resource.
func word(what string, b []byte) (string, error) {
	if len(b) > maxNameBytes || !utf8.Valid(b) {
		return "", invalid("%s of a resource has %d bytes or is no text, at most %d are allowed", what, len(b), maxNameBytes)
	}
	return string(b), nil
}

// message is the text of a google.rpc.Status.
func message(b []byte) (text string, err error) {
	const fieldMessage = 2
	err = each(b, func(number protowire.Number, value []byte) error {
		if number == fieldMessage {
			text = strings.TrimSpace(beginning(value, maxTextBytes)) // Envoy ends some with a newline
		}
		return nil
	})
	return text, err
}

// beginning is the text with which b begins.
func beginning(b []byte, most int) string {
	return strings.ToValidUTF8(string(b[:min(len(b), most)]), "")
}
