package manifest

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestEncodeIsCanonical(t *testing.T) {
	o := &Object[thing]{APIVersion: APIVersion, Kind: "Thing", Metadata: Meta{Namespace: "shop", Name: "a", Revision: 99, Generation: 2,
		Labels: map[string]string{"b": "2", "a": "<1>"}, CreatedAt: new(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))},
		Spec: thing{Most: new(Unlimited), Wait: new(Duration("5s")), Count: new(uint32(0)), Opt: &[]string{}}}
	got, err := Encode(o)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"schema":1,"apiVersion":"breakwater/v1alpha1","kind":"Thing","metadata":{"namespace":"shop","name":"a","labels":{"a":"<1>","b":"2"},` +
		`"generation":2,"createdAt":"2026-01-02T03:04:05Z"},"spec":{"count":0,"wait":"5s","most":"unlimited","opt":[]}}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("stored form (-want +got):\n%s", diff)
	}
	if o.Metadata.Revision != 99 {
		t.Error("Encode wrote into its argument")
	}
	back, err := DecodeStored[thing](got)
	if err != nil {
		t.Fatal(err)
	}
	o.Metadata.Revision = 0
	if diff := cmp.Diff(o, back); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
}

func TestDecodeStoredToleratesWhatItDoesNotKnow(t *testing.T) {
	o, err := DecodeStored[thing]([]byte(`{"schema":2,"apiVersion":"x","kind":"Thing","metadata":{"name":"a","colour":"red"},"spec":{"name":"b","later":{"a":[1]}},"more":1}`))
	if err != nil || o.Spec.Name != "b" {
		t.Errorf("got %+v, %v", o, err)
	}
	for _, text := range []string{`{"kind":"Thing"}`, `{`, `[]`, ``} {
		if _, err := DecodeStored[thing]([]byte(text)); err == nil {
			t.Errorf("%q was taken for a stored object", text)
		}
	}
}

func TestKeepUnknown(t *testing.T) {
	old := `{"schema":1,"apiVersion":"v","kind":"Thing","metadata":{"name":"a","colour":"red"},"spec":{"name":"old","later":{"a":[1,2.50]},` +
		`"section":{"numRetries":1,"jitter":"5ms"},"deep":{"numRetries":1,"jitter":"6ms"},"match":{"k":"v"},"many":[{"numRetries":1,"jitter":"7ms"}]},"more":null}`
	fresh := `{"schema":1,"apiVersion":"v","kind":"Thing","metadata":{"name":"a"},"spec":{"name":"new","section":{"numRetries":2},"many":[{"numRetries":2}]}}`
	want := `{"schema":1,"apiVersion":"v","kind":"Thing","metadata":{"name":"a","colour":"red"},"spec":{"name":"new","section":{"numRetries":2,"jitter":"5ms"},` +
		`"many":[{"numRetries":2}],"later":{"a":[1,2.50]}},"more":null}`
	got, err := KeepUnknown[thing]([]byte(old), []byte(fresh))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	same, err := KeepUnknown[thing]([]byte(fresh), []byte(fresh))
	if err != nil || string(same) != fresh {
		t.Errorf("nothing unknown, yet %s became %s (%v)", fresh, same, err)
	}
}

func TestToYAML(t *testing.T) {
	got, err := ToYAML([]byte(`{"kind":"Thing","spec":{"name":"on","codes":[503,429],"words":["5xx","5","1e3","~","a b","-","0x1","2024-01-01","nan","x: y",""],"flag":true,"wait":"250ms","match":{"app.kubernetes.io/name":"web"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	want := `kind: Thing
spec:
  name: "on"
  codes:
  - 503
  - 429
  words:
  - 5xx
  - "5"
  - "1e3"
  - "~"
  - "a b"
  - "-"
  - "0x1"
  - "2024-01-01"
  - nan
  - "x: y"
  - ""
  flag: true
  wait: 250ms
  match:
    app.kubernetes.io/name: web
`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := ToYAML([]byte(`{"a":`)); err == nil {
		t.Error("broken JSON was written as YAML")
	}
}

func TestDurationCheck(t *testing.T) {
	for text, want := range map[string]string{
		"5s": "", "1ms": "", "24h": "", "1m30s": "", "0.5s": "",
		"none": `can't be "none"`, "5": "write a unit", "-1": "write a unit", "-5s": "must not be negative", "0s": "at least 1ms", "0": "write a unit", "100us": "at least 1ms",
		"1.5ms": "whole number of milliseconds", "25h": "at most 24h", "5 s": "is not a duration", "five": "is not a duration", "": "is not a duration", "1e3": "write a unit", "inf": "is not a duration",
		"99999999999999h": "at most 24h", "hh": "is not a duration", "5.5.5h": "is not a duration",
	} {
		got := Duration(text).Check(false)
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("Duration(%q).Check = %q, want %q", text, got, want)
		}
	}
	if got := None.Check(true); got != "" {
		t.Errorf("none where it is allowed: %s", got)
	}
	for v, want := range map[time.Duration]Duration{250 * time.Millisecond: "250ms", 5 * time.Minute: "5m", time.Hour: "1h", 90 * time.Second: "1m30s", 10 * time.Second: "10s", 100 * time.Minute: "1h40m"} {
		if got := DurationOf(v); got != want || got.D() != v {
			t.Errorf("DurationOf(%v) = %s, want %s", v, got, want)
		}
	}
}

func TestCheckName(t *testing.T) {
	for _, good := range []string{"a", "payments", "a-b", "0", "7up", strings.Repeat("a", 63), "nope", "one"} {
		if msg := CheckName(good); msg != "" {
			t.Errorf("CheckName(%q) = %q", good, msg)
		}
	}
	for _, bad := range []string{"", "A", "a_b", "a.b", "a/b", "-a", "a-", "a b", "a\x00", "é", strings.Repeat("a", 64), "on", "off", "yes", "no", "y", "n", "true", "false", "null", "~", "*"} {
		if CheckName(bad) == "" {
			t.Errorf("CheckName(%q) accepts it", bad)
		}
	}
}

func TestCheckMeta(t *testing.T) {
	long := strings.Repeat("x", 64)
	m := Meta{Name: "a", Labels: map[string]string{"": "a", "a/b/c": "a", "Up.per/x": "a", "ok": "bad value", "long": long, "app.kubernetes.io/name": "Web_1.2", "empty": ""},
		Annotations: map[string]string{"note": strings.Repeat("n", maxAnnotationSize), "bad key": ""}}
	var got []string
	for _, e := range CheckMeta(&m) {
		got = append(got, e.Field)
	}
	want := []string{"metadata.labels", `metadata.labels["Up.per/x"]`, `metadata.labels["a/b/c"]`, "metadata.labels.long", "metadata.labels.ok", `metadata.annotations["bad key"]`, "metadata.annotations"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("faulty fields (-want +got):\n%s", diff)
	}
}

func TestNearest(t *testing.T) {
	words := []string{"numRetries", "retryOn", "backOff"}
	for s, want := range map[string]string{"numRetrys": "numRetries", "NUMRETRIES": "numRetries", "retyrOn": "retryOn", "backof": "backOff", "hedge": "", "": "", strings.Repeat("a", 1000): ""} {
		if got := Nearest(s, words); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", s, got, want)
		}
	}
}
