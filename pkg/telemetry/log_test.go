package telemetry

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc/grpclog"
)

// recorded is a log at the given level; lines are what it wrote since the last time they were asked for.
func recorded(t *testing.T, level string) (log hclog.Logger, lines func() []map[string]any) {
	t.Helper()
	var out bytes.Buffer
	log, err := NewLogger("test", level, true, &out)
	if err != nil {
		t.Fatal(err)
	}
	return log, func() []map[string]any {
		t.Helper()
		var list []map[string]any
		for line := range strings.Lines(out.String()) {
			var fields map[string]any
			if err := json.Unmarshal([]byte(line), &fields); err != nil {
				t.Fatalf("%v in %q", err, line)
			}
			list = append(list, fields)
		}
		out.Reset()
		return list
	}
}

// levels are the levels of the lines, in order.
func levels(lines []map[string]any) string {
	var list []string
	for _, line := range lines {
		list = append(list, line["@level"].(string))
	}
	return strings.Join(list, " ")
}

func TestNewLogger(t *testing.T) {
	for _, level := range []string{"trace", "debug", "info", "warn", "error", "off"} {
		if _, err := NewLogger("test", level, false, new(bytes.Buffer)); err != nil {
			t.Errorf("level %s: %v", level, err)
		}
	}
	for _, level := range []string{"", "loud"} {
		if _, err := NewLogger("test", level, false, new(bytes.Buffer)); err == nil || !strings.Contains(err.Error(), `"`+level+`"`) {
			t.Errorf("level %q: error %v, want one that names it", level, err)
		}
	}
}

func TestZapLevels(t *testing.T) {
	log, lines := recorded(t, "trace")
	z := Zap(log, nil)
	z.Debug("a")
	z.Info("b")
	z.Warn("c")
	z.Error("d")
	z.DPanic("e")
	if got, want := levels(lines()), "trace trace warn error error"; got != want {
		t.Errorf("levels %q, want %q", got, want)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("a panic of zap's does not panic")
			}
		}()
		z.Panic("f")
	}()
	if got := levels(lines()); got != "error" {
		t.Errorf("a panic is logged at %q, want error", got)
	}
}

func TestZapAsksTheLogsLevel(t *testing.T) {
	for level, want := range map[string]string{"trace": "debug info warn error", "info": "warn error", "error": "error", "off": ""} {
		log, _ := recorded(t, level)
		z := Zap(log, nil)
		var enabled []string
		for _, l := range []zapcore.Level{zapcore.DebugLevel, zapcore.InfoLevel, zapcore.WarnLevel, zapcore.ErrorLevel} {
			if z.Core().Enabled(l) {
				enabled = append(enabled, l.String())
			}
		}
		if got := strings.Join(enabled, " "); got != want {
			t.Errorf("a log at %s takes %q, want %q", level, got, want)
		}
	}
}

func TestZapFields(t *testing.T) {
	log, lines := recorded(t, "trace")
	z := Zap(log, nil).With(zap.String("member", "m1"))
	z.Warn("slow", zap.Int("took", 3), zap.Error(errors.New("broken")), zap.Strings("urls", []string{"a", "b"}), zap.Skip())
	Zap(log, nil).Warn("bare")
	got := lines()
	if len(got) != 2 {
		t.Fatalf("%d lines, want 2: %v", len(got), got)
	}
	if l := got[0]; l["@message"] != "slow" || l["member"] != "m1" || l["took"] != 3.0 || l["error"] != "broken" || len(l["urls"].([]any)) != 2 {
		t.Errorf("line %v, want member, took, error and urls", l)
	}
	if _, there := got[1]["member"]; there {
		t.Errorf("With changed the logger it came from: %v", got[1])
	}
}

func TestQuietDropsAllButPanics(t *testing.T) {
	log, lines := recorded(t, "trace")
	var quiet atomic.Bool
	z := Zap(log, &quiet)
	derived := z.With(zap.Int("n", 1))
	z.Error("before")
	quiet.Store(true)
	z.Error("stopping")
	derived.Error("stopping")
	z.Warn("stopping")
	z.DPanic("broken")
	quiet.Store(false)
	z.Warn("after")
	var messages []string
	for _, line := range lines() {
		messages = append(messages, line["@message"].(string))
	}
	if got, want := strings.Join(messages, " "), "before broken after"; got != want {
		t.Errorf("messages %q, want %q", got, want)
	}
}

func TestExpectedMessagesGoToTrace(t *testing.T) {
	log, lines := recorded(t, "trace")
	z := Zap(log, nil, "no schema").With(zap.Int("n", 1))
	z.Warn("term 1: no schema yet")
	z.Warn("a schema")
	if got, want := levels(lines()), "trace warn"; got != want {
		t.Errorf("levels %q, want %q", got, want)
	}
	quieter, lines := recorded(t, "info")
	Zap(quieter, nil, "no schema").Error("no schema")
	if got := lines(); len(got) != 0 {
		t.Errorf("an expected message at info: %v", got)
	}
}

func TestGRPCLevels(t *testing.T) {
	log, lines := recorded(t, "trace")
	var g grpclog.LoggerV2 = grpcLogger{log}
	g.Info("a", 1)
	g.Infoln("a", 1)
	g.Infof("a %d", 1)
	g.Warning("b")
	g.Warningln("b")
	g.Warningf("b %d", 2)
	g.Error("c")
	g.Errorln("c")
	g.Errorf("c %d", 3)
	g.Fatal("d")
	g.Fatalln("d")
	g.Fatalf("d %d", 4)
	got := lines()
	if text, want := levels(got), "trace trace trace debug debug debug warn warn warn error error error"; text != want {
		t.Errorf("levels %q, want %q", text, want)
	}
	for i, want := range map[int]string{2: "a 1", 5: "b 2", 8: "c 3", 11: "d 4"} {
		if got[i]["@message"] != want {
			t.Errorf("message %q, want %q", got[i]["@message"], want)
		}
	}
}

func TestGRPCVerbosity(t *testing.T) {
	for level, want := range map[string]bool{"trace": true, "debug": false} {
		log, _ := recorded(t, level)
		g := grpcLogger{log}
		if g.V(0) != want || g.V(2) {
			t.Errorf("at %s: V(0) %v, V(2) %v; want %v, false", level, g.V(0), g.V(2), want)
		}
	}
}
