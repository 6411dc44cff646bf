package dataplane

import (
	"fmt"
	"net/textproto"
	"strconv"
	"strings"
)

// Expression is one of CEL over whole numbers: of request headers, of the time at which the request came, and of constants.
type Expression struct {
	Op     ExpressionOp
	Value  int64        // of a constant
	Header string       // canonical; of HeaderNumber
	Cut    string       // taken out of the header's value before it is read; "" nothing
	Args   []Expression // of what has any
}

// ExpressionOp is what an expression does.
type ExpressionOp uint8

// The operations. Of those with a condition, Less and Greater, the value is 1 or 0.
const (
	Constant     ExpressionOp = iota
	HeaderNumber              // the number that a header of the request is
	UnixSeconds               // of the time at which the request came
	Milliseconds              // beyond those seconds
	Add
	Subtract
	Multiply
	Divide
	Less
	Greater
	Choose // the second where the first holds, else the third
)

// parseExpression reads what a server may want of this agent.
func parseExpression(text string) (Expression, error) {
	p := expressionParser{rest: text}
	e, err := p.choice()
	if err == nil && p.rest != "" {
		err = fmt.Errorf("ends before %q", p.rest)
	}
	if err == nil && p.condition(e) {
		err = fmt.Errorf("is a condition, and no number")
	}
	return e, err
}

type expressionParser struct{ rest string }

// take takes the token that comes next, if it is that.
func (p *expressionParser) take(token string) bool {
	rest := strings.TrimLeft(p.rest, " ")
	after, ok := strings.CutPrefix(rest, token)
	if ok {
		p.rest = strings.TrimLeft(after, " ")
	}
	return ok
}

func (p *expressionParser) condition(e Expression) bool { return e.Op == Less || e.Op == Greater }

func (p *expressionParser) choice() (Expression, error) {
	first, err := p.comparison()
	if err != nil || !p.take("?") {
		return first, err
	}
	if !p.condition(first) {
		return first, fmt.Errorf("chooses by a number")
	}
	then, err := p.choice()
	if err != nil {
		return then, err
	}
	if !p.take(":") {
		return then, fmt.Errorf("has no ':' before %q", p.rest)
	}
	otherwise, err := p.choice()
	if err == nil && (p.condition(then) || p.condition(otherwise)) {
		err = fmt.Errorf("chooses a condition")
	}
	return Expression{Op: Choose, Args: []Expression{first, then, otherwise}}, err
}

// levels are the operators, those that bind least first.
var levels = [...][]struct {
	token string
	op    ExpressionOp
}{
	{{"<", Less}, {">", Greater}},
	{{"+", Add}, {"-", Subtract}},
	{{"*", Multiply}, {"/", Divide}},
}

func (p *expressionParser) comparison() (Expression, error) { return p.level(0) }

func (p *expressionParser) level(n int) (Expression, error) {
	if n == len(levels) {
		return p.operand()
	}
	e, err := p.level(n + 1)
next:
	for err == nil {
		for _, o := range levels[n] {
			if !p.take(o.token) {
				continue
			}
			var right Expression
			if right, err = p.level(n + 1); err == nil && (p.condition(e) || p.condition(right)) {
				err = fmt.Errorf("counts with a condition")
			}
			e = Expression{Op: o.op, Args: []Expression{e, right}}
			continue next
		}
		break
	}
	return e, err
}

func (p *expressionParser) operand() (Expression, error) {
	switch {
	case p.take("("):
		e, err := p.choice()
		if err == nil && !p.take(")") {
			err = fmt.Errorf("has no ')' before %q", p.rest)
		}
		return e, err
	case p.take("int(request.time)"):
		return Expression{Op: UnixSeconds}, nil
	case p.take("request.time.getMilliseconds()"):
		return Expression{Op: Milliseconds}, nil
	case p.take("int(request.headers['"):
		return p.header()
	}
	digits := len(p.rest) - len(strings.TrimLeft(p.rest, "0123456789"))
	n, err := strconv.ParseInt(p.rest[:digits], 10, 64)
	if err != nil {
		return Expression{}, fmt.Errorf("has no number at %q", p.rest)
	}
	p.rest = strings.TrimLeft(p.rest[digits:], " ")
	return Expression{Value: n}, nil
}

// header reads the rest of int(request.headers['name']), or of int(request.headers['name'].replace('x',”)).
func (p *expressionParser) header() (Expression, error) {
	name, rest, ok := strings.Cut(p.rest, "']")
	if !ok || name == "" || name != strings.ToLower(name) || strings.ContainsAny(name, "'\\: ") {
		return Expression{}, fmt.Errorf("has no header at %q", p.rest)
	}
	e := Expression{Op: HeaderNumber, Header: textproto.CanonicalMIMEHeaderKey(name)}
	p.rest = rest
	if p.take(".replace('") {
		cut, rest, ok := strings.Cut(p.rest, "'")
		if !ok || cut == "" || strings.Contains(cut, "\\") {
			return e, fmt.Errorf("has nothing to replace at %q", p.rest)
		}
		e.Cut, p.rest = cut, rest
		if !p.take(",") || !p.take("'')") {
			return e, fmt.Errorf("does not replace by nothing at %q", p.rest)
		}
	}
	if !p.take(")") {
		return e, fmt.Errorf("has no ')' before %q", p.rest)
	}
	return e, nil
}
