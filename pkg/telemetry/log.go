// Package telemetry is what the programs say about themselves: the one log, into which etcd and gRPC are routed, and the metrics.
package telemetry

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc/grpclog"
)

// Version is the build's version, set by the linker.
var Version = "devel"

// NewLogger is the root logger of a program. Level is trace, debug, info, warn, error or off.
func NewLogger(name, level string, json bool, w io.Writer) (hclog.Logger, error) {
	parsed := hclog.LevelFromString(level)
	if parsed == hclog.NoLevel {
		return nil, fmt.Errorf("log level %q: want trace, debug, info, warn, error or off", level)
	}
	return hclog.New(&hclog.LoggerOptions{Name: name, Level: parsed, JSONFormat: json, Output: w}), nil
}

// Zap routes a zap logger, such as etcd's, into log. Quiet, when set and true, drops everything below panic: etcd reports its
// own orderly stop as errors. Messages that contain one of expected go to trace, whatever their level.
func Zap(log hclog.Logger, quiet *atomic.Bool, expected ...string) *zap.Logger {
	return zap.New(&zapCore{log: log, quiet: quiet, expected: expected})
}

type zapCore struct {
	log      hclog.Logger
	quiet    *atomic.Bool
	expected []string
}

var zapLevels = map[zapcore.Level]hclog.Level{
	zapcore.DebugLevel: hclog.Trace,
	zapcore.InfoLevel:  hclog.Trace, // etcd tells its whole life at info
	zapcore.WarnLevel:  hclog.Warn,
	zapcore.ErrorLevel: hclog.Error,
}

func toHclog(l zapcore.Level) hclog.Level {
	if level, ok := zapLevels[l]; ok {
		return level
	}
	return hclog.Error
}

func (c *zapCore) Enabled(l zapcore.Level) bool {
	if c.quiet != nil && c.quiet.Load() && l < zapcore.DPanicLevel {
		return false
	}
	return toHclog(l) >= c.log.GetLevel()
}

func (c *zapCore) With(fields []zapcore.Field) zapcore.Core {
	return &zapCore{log: c.log.With(pairs(fields)...), quiet: c.quiet, expected: c.expected}
}

func (c *zapCore) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return checked.AddCore(e, c)
	}
	return checked
}

func (c *zapCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	level := toHclog(e.Level)
	if slices.ContainsFunc(c.expected, func(part string) bool { return strings.Contains(e.Message, part) }) {
		level = hclog.Trace
	}
	c.log.Log(level, e.Message, pairs(fields)...)
	return nil
}

func (c *zapCore) Sync() error { return nil }

func pairs(fields []zapcore.Field) []any {
	enc := zapcore.NewMapObjectEncoder()
	list := make([]any, 0, 2*len(fields))
	for _, f := range fields {
		f.AddTo(enc)
		if v, ok := enc.Fields[f.Key]; ok {
			list = append(list, f.Key, v)
		}
	}
	return list
}

// RouteGRPC sends gRPC's process-wide log to log. Call it once, before any gRPC use.
func RouteGRPC(log hclog.Logger) { grpclog.SetLoggerV2(grpcLogger{log}) }

type grpcLogger struct{ log hclog.Logger }

// gRPC reports every refused handshake and lost connection as info or warning: debugging to us.
func (g grpcLogger) Info(args ...any)                    { g.log.Trace(fmt.Sprint(args...)) }
func (g grpcLogger) Infoln(args ...any)                  { g.log.Trace(fmt.Sprint(args...)) }
func (g grpcLogger) Infof(format string, args ...any)    { g.log.Trace(fmt.Sprintf(format, args...)) }
func (g grpcLogger) Warning(args ...any)                 { g.log.Debug(fmt.Sprint(args...)) }
func (g grpcLogger) Warningln(args ...any)               { g.log.Debug(fmt.Sprint(args...)) }
func (g grpcLogger) Warningf(format string, args ...any) { g.log.Debug(fmt.Sprintf(format, args...)) }
func (g grpcLogger) Error(args ...any)                   { g.log.Warn(fmt.Sprint(args...)) }
func (g grpcLogger) Errorln(args ...any)                 { g.log.Warn(fmt.Sprint(args...)) }
func (g grpcLogger) Errorf(format string, args ...any)   { g.log.Warn(fmt.Sprintf(format, args...)) }
func (g grpcLogger) Fatal(args ...any)                   { g.log.Error(fmt.Sprint(args...)) }
func (g grpcLogger) Fatalln(args ...any)                 { g.log.Error(fmt.Sprint(args...)) }
func (g grpcLogger) Fatalf(format string, args ...any)   { g.log.Error(fmt.Sprintf(format, args...)) }
func (g grpcLogger) V(level int) bool                    { return level <= 0 && g.log.IsTrace() }
