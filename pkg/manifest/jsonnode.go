package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// parseJSON reads values, one after the other, into the nodes that YAML would give.
func parseJSON(data []byte, limits Limits) ([]*yaml.Node, *FieldError) {
	p := jsonParser{data: data, dec: json.NewDecoder(bytes.NewReader(data)), line: 1}
	p.dec.UseNumber()
	var roots []*yaml.Node
	for {
		n, err := p.value(limits.Depth + 1)
		if errors.Is(err, io.EOF) && n == nil {
			return roots, nil
		}
		if err != nil {
			return roots, p.fault(err)
		}
		if roots = append(roots, n); len(roots) > limits.Documents {
			return nil, tooMany(limits)
		}
	}
}

type jsonParser struct {
	data []byte
	dec  *json.Decoder

	// the place of the last token, so that a long line is not counted again for every one of its tokens
	at, line, column int
}

var errDepth = errors.New("is nested too deeply")

func (p *jsonParser) fault(err error) *FieldError {
	at := int(p.dec.InputOffset())
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) && int(syntax.Offset) != at {
		at = int(syntax.Offset) - 1 // within a scalar, whose faulty byte has been read
	}
	msg := "not valid JSON: " + err.Error()
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		at, msg = len(p.data), "not valid JSON: it ends too early"
	}
	line, column := position(p.data, max(at, 0))
	return &FieldError{Line: line, Column: column, Message: msg}
}

// next is the next token and a node at its place.
func (p *jsonParser) next() (json.Token, *yaml.Node, error) {
	from := int(p.dec.InputOffset())
	token, err := p.dec.Token()
	if err != nil {
		return nil, nil, err
	}
	for from < len(p.data) && strings.IndexByte(" \t\r\n,:", p.data[from]) >= 0 {
		from++
	}
	p.advance(from)
	return token, &yaml.Node{Line: p.line, Column: p.column + 1}, nil
}

// advance counts lines and columns up to a byte.
func (p *jsonParser) advance(to int) {
	for ; p.at < to; p.at++ {
		switch c := p.data[p.at]; {
		case c == '\n':
			p.line, p.column = p.line+1, 0
		case c&0xC0 != 0x80: // the first byte of a character
			p.column++
		}
	}
}

// value reads one value. At the end of the input it returns nil and io.EOF.
func (p *jsonParser) value(depth int) (*yaml.Node, error) {
	token, n, err := p.next()
	if err != nil {
		return nil, err
	}
	return n, p.fill(n, token, depth)
}

func (p *jsonParser) fill(n *yaml.Node, token json.Token, depth int) error {
	if depth == 0 {
		return errDepth
	}
	n.Kind = yaml.ScalarNode
	switch x := token.(type) {
	case json.Delim:
		return p.collection(n, x, depth)
	case string:
		n.Tag, n.Value, n.Style = "!!str", x, yaml.DoubleQuotedStyle
	case json.Number:
		n.Tag, n.Value = "!!int", x.String()
		if strings.ContainsAny(n.Value, ".eE") {
			n.Tag = "!!float"
		}
	case bool:
		n.Tag, n.Value = "!!bool", strconv.FormatBool(x)
	default:
		n.Tag, n.Value = "!!null", "null"
	}
	return nil
}

func (p *jsonParser) collection(n *yaml.Node, open json.Delim, depth int) error {
	n.Kind, n.Tag = yaml.SequenceNode, "!!seq"
	if open == '{' {
		n.Kind, n.Tag = yaml.MappingNode, "!!map"
	}
	for p.dec.More() {
		item, err := p.value(depth - 1)
		if errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		n.Content = append(n.Content, item)
	}
	_, _, err := p.next()
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// appendJSON writes a node as JSON, fields in their order. Aliases are written as null.
func appendJSON(b []byte, n *yaml.Node) []byte {
	switch n.Kind {
	case yaml.MappingNode:
		b = append(b, '{')
		for i := 0; i+1 < len(n.Content); i += 2 {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendText(b, n.Content[i].Value)
			b = append(b, ':')
			b = appendJSON(b, n.Content[i+1])
		}
		return append(b, '}')
	case yaml.SequenceNode:
		b = append(b, '[')
		for i, item := range n.Content {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendJSON(b, item)
		}
		return append(b, ']')
	case yaml.ScalarNode:
		return appendScalar(b, n)
	}
	return append(b, "null"...)
}

func appendScalar(b []byte, n *yaml.Node) []byte {
	tag := n.ShortTag()
	if (tag == "!!int" || tag == "!!float" || tag == "!!bool" || tag == "!!null") && json.Valid([]byte(n.Value)) {
		return append(b, n.Value...)
	}
	return appendText(b, n.Value)
}

func appendText(b []byte, s string) []byte {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if enc.Encode(s) != nil {
		return append(b, `""`...) // a string always encodes
	}
	return append(b, bytes.TrimSuffix(out.Bytes(), []byte{'\n'})...)
}
