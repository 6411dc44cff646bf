package names_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/names"
)

// told is what a fake of DNS says of each question, the last again and again, and when it was asked.
type told struct {
	answers []any // addresses as a string, a Found, or an error
	asked   []time.Duration
	start   time.Time
}

func (d *told) ask(context.Context, dataplane.Lookup) (names.Found, error) {
	d.asked = append(d.asked, time.Since(d.start))
	switch a := d.answers[min(len(d.asked), len(d.answers))-1].(type) {
	case error:
		return names.Found{}, a
	case names.Found:
		return a, nil
	case string:
		if a == "" {
			return names.Found{}, nil
		}
		return names.Found{Addresses: []netip.Addr{netip.MustParseAddr(a)}}, nil
	}
	panic("no answer")
}

// keep asks as l says for that long, and returns when it asked and what was known after each change.
func keep(t *testing.T, l dataplane.Lookup, d time.Duration, answers ...any) (asked, known string, counts string) {
	synctest.Test(t, func(t *testing.T) {
		dns := &told{answers: answers, start: time.Now()}
		l.Name = dataplane.Name{Cluster: "c", Host: "h"}
		var k *names.Keeper
		k = names.New(names.Options{Ask: dns.ask, Rand: func() uint64 { return 7_000_999_999 }, Changed: func() {
			list, _ := k.Answers().Of(l.Name)
			known += fmt.Sprint(list)
		}})
		k.Want([]dataplane.Lookup{l})
		time.Sleep(d)
		synctest.Wait()
		stats := map[string]int64{}
		k.Stats(func(name string, value int64) { stats[strings.TrimPrefix(name, "cluster.c.update_")] += value })
		counts = fmt.Sprint(stats)
		k.Close()
		asked = fmt.Sprint(dns.asked)
	})
	return asked, known, counts
}

func TestWhenANameIsAskedForAgain(t *testing.T) {
	broken := errors.New("broken")
	short := names.Found{Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1")}, TTL: 2 * time.Second}
	for _, tt := range []struct {
		name    string
		lookup  dataplane.Lookup
		answers []any
		want    string
	}{
		{"refresh", dataplane.Lookup{Refresh: 5 * time.Second}, []any{short}, "[0s 5s 10s]"},
		{"jitter", dataplane.Lookup{Refresh: 5 * time.Second, Jitter: 2 * time.Second}, []any{short}, "[0s 6.000999999s 12.001999998s]"},
		{"time to live", dataplane.Lookup{Refresh: 5 * time.Second, RespectTTL: true}, []any{short, "10.0.0.1"}, "[0s 2s 7s 12s]"},
		{"failures", dataplane.Lookup{Refresh: 5 * time.Second}, []any{broken}, "[0s 5s 10s]"},
		{"failures with a rate of their own", dataplane.Lookup{Refresh: 9 * time.Second, AgainBase: 2 * time.Second, AgainMax: 8 * time.Second}, []any{broken, broken, broken, "10.0.0.1"}, "[0s 1.999s 5.998s]"},
		{"an empty answer of a logical host is a failure", dataplane.Lookup{Logical: true, Refresh: 9 * time.Second, AgainBase: 2 * time.Second, AgainMax: 2 * time.Second}, []any{""}, "[0s 1.999s 3.998s 5.997s 7.996s 9.995s 11.994s]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, _, _ := keep(t, tt.lookup, 13*time.Second, tt.answers...); got != tt.want {
				t.Errorf("asked at %s, want %s", got, tt.want)
			}
		})
	}
}

func TestWhatIsKnownOfAName(t *testing.T) {
	broken := errors.New("broken")
	for _, tt := range []struct {
		name    string
		logical bool
		answers []any
		want    string
		counts  string
	}{
		{"addresses come and go", false, []any{"10.0.0.1", "10.0.0.1", "10.0.0.2", ""}, "[10.0.0.1][10.0.0.2][]", "map[attempt:5 failure:0 no_rebuild:2 success:5]"},
		{"a failure keeps them", false, []any{"10.0.0.1", broken, broken, "10.0.0.2"}, "[10.0.0.1][10.0.0.2]", "map[attempt:5 failure:2 no_rebuild:1 success:3]"},
		{"a failure at first is no address", false, []any{broken, broken, "10.0.0.2"}, "[][10.0.0.2]", "map[attempt:5 failure:2 no_rebuild:2 success:3]"},
		{"an empty answer keeps a logical host", true, []any{"10.0.0.1", "", "10.0.0.2"}, "[10.0.0.1][10.0.0.2]", "map[attempt:5 failure:1 no_rebuild:2 success:4]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, known, counts := keep(t, dataplane.Lookup{Logical: tt.logical, Refresh: time.Second}, 4500*time.Millisecond, tt.answers...)
			if known != tt.want || counts != tt.counts {
				t.Errorf("known %s, counted %s; want %s, %s", known, counts, tt.want, tt.counts)
			}
		})
	}
}

// A name that is asked for otherwise than before is asked for at once, and what is known of it stays; one that is not wanted is forgotten.
func TestWant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dns := &told{answers: []any{"10.0.0.1", errors.New("broken")}, start: time.Now()}
		k := names.New(names.Options{Ask: dns.ask, Changed: func() {}, Rand: func() uint64 { return 0 }})
		defer k.Close()
		l := dataplane.Lookup{Name: dataplane.Name{Cluster: "c", Host: "h"}, Refresh: time.Hour}
		k.Want([]dataplane.Lookup{l})
		synctest.Wait()
		k.Want([]dataplane.Lookup{l})
		synctest.Wait()
		if len(dns.asked) != 1 {
			t.Errorf("asked %d times, want once", len(dns.asked))
		}
		l.Refresh = time.Minute
		k.Want([]dataplane.Lookup{l})
		synctest.Wait()
		if list, known := k.Answers().Of(l.Name); len(dns.asked) != 2 || !known || len(list) != 1 {
			t.Errorf("asked %d times, known %v %v; want 2, and one address", len(dns.asked), known, list)
		}
		k.Want(nil)
		time.Sleep(time.Hour)
		if _, known := k.Answers().Of(l.Name); known || len(dns.asked) != 2 {
			t.Errorf("asked %d times, known: %v; want it forgotten", len(dns.asked), known)
		}
	})
}
