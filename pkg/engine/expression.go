package engine

import (
	"math"
	"math/bits"
	"strconv"
	"strings"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
)

// compute is the value of an expression; false: it fails, of a header that is missing or no number, or of a number that is too large.
func (c *Call) compute(e *dataplane.Expression) (int64, bool) {
	switch e.Op {
	case dataplane.Constant:
		return e.Value, true
	case dataplane.HeaderNumber:
		return c.headerNumber(e)
	case dataplane.UnixSeconds:
		return c.came().Unix(), true
	case dataplane.Milliseconds:
		return int64(c.came().Nanosecond() / int(time.Millisecond)), true
	}
	first, ok := c.compute(&e.Args[0])
	if !ok {
		return 0, false
	}
	if e.Op == dataplane.Choose {
		return c.compute(&e.Args[2-min(1, first)]) // of the other, nothing is asked
	}
	second, ok := c.compute(&e.Args[1])
	if !ok {
		return 0, false
	}
	return calculate(e.Op, first, second)
}

// calculate fails where the result is none.
func calculate(op dataplane.ExpressionOp, a, b int64) (int64, bool) {
	switch op {
	case dataplane.Add:
		return a + b, (a+b > a) == (b > 0)
	case dataplane.Subtract:
		return a - b, (a-b < a) == (b > 0)
	case dataplane.Multiply:
		high, low := bits.Mul64(magnitude(a), magnitude(b))
		return a * b, high == 0 && low <= math.MaxInt64
	case dataplane.Divide:
		if b == 0 || a == math.MinInt64 && b == -1 {
			return 0, false
		}
		return a / b, true
	case dataplane.Less:
		return truth(a < b), true
	}
	return truth(a > b), true
}

func magnitude(n int64) uint64 {
	if n < 0 {
		return -uint64(n)
	}
	return uint64(n)
}

func truth(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// headerNumber reads a header as Envoy does: with a sign and blanks around it, if it likes; of several values none is a number.
func (c *Call) headerNumber(e *dataplane.Expression) (int64, bool) {
	values := c.req.Header[e.Header]
	if len(values) != 1 {
		return 0, false
	}
	text := values[0]
	if e.Cut != "" {
		text = strings.ReplaceAll(text, e.Cut, "")
	}
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	return n, err == nil
}

// came is when the request came.
func (c *Call) came() time.Time {
	if c.since.IsZero() {
		c.since = time.Now()
	}
	return c.since
}
