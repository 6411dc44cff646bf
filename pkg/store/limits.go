package store

import "fmt"

// Limits is what a store takes in one Txn. Zero means no limit.
type Limits struct {
	MaxOps   int // conditions or writes, whichever is more
	MaxBytes int // of the whole request

	// OpsFlag and BytesFlag name what an operator turns to raise a limit; "" where nothing does.
	OpsFlag, BytesFlag string
}

// Check returns ErrTooLarge, naming the limit, for a Txn that the store would refuse, and a plain error for one that writes a
// key twice, which no store takes.
func (l Limits) Check(t Txn) error {
	written := make(map[string]bool, len(t.Ops))
	for _, op := range t.Ops {
		if op.Key == "" {
			return fmt.Errorf("a transaction writes a key without a name")
		}
		if written[op.Key] {
			return fmt.Errorf("a transaction writes %s twice", op.Key)
		}
		written[op.Key] = true
	}
	if n := max(len(t.Conds), len(t.Ops)); l.MaxOps > 0 && n > l.MaxOps {
		return fmt.Errorf("%w: it has %d operations, the store takes %d%s", ErrTooLarge, n, l.MaxOps, raise(l.OpsFlag))
	}
	if n := t.size(); l.MaxBytes > 0 && n > l.MaxBytes {
		return fmt.Errorf("%w: it has %d bytes, the store takes %d%s", ErrTooLarge, n, l.MaxBytes, raise(l.BytesFlag))
	}
	return nil
}

func raise(flag string) string {
	if flag == "" {
		return ""
	}
	return " (" + flag + ")"
}

// size is a little more than a Txn has on the wire, where each condition is sent twice: once to compare, once to find out which
// one failed.
func (t Txn) size() int {
	const envelope, perCond, perOp = 256, 64, 40
	n := envelope
	for _, c := range t.Conds {
		n += perCond + 2*len(c.Key)
	}
	for _, op := range t.Ops {
		n += perOp + len(op.Key) + len(op.Value)
	}
	return n
}
