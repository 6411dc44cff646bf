package embedded

import (
	"sync/atomic"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// calm wraps etcd's log so that it tells of no error where there is none: once closing is true, the servers that end as they
// should are errors to etcd; and a first start says that it can't tell the storage version yet, which it can seconds later.
func calm(log *zap.Logger, closing *atomic.Bool) *zap.Logger {
	return log.WithOptions(zap.WrapCore(func(core zapcore.Core) zapcore.Core { return calmCore{core, closing} }))
}

type calmCore struct {
	zapcore.Core
	closing *atomic.Bool
}

// With implements zapcore.Core.
func (c calmCore) With(fields []zapcore.Field) zapcore.Core {
	return calmCore{c.Core.With(fields), c.closing}
}

// Check implements zapcore.Core.
func (c calmCore) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if entry.Level == zapcore.ErrorLevel && (c.closing.Load() || entry.Message == "failed to update storage version") {
		return checked
	}
	return c.Core.Check(entry, checked)
}
