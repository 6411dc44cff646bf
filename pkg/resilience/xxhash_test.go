package resilience

import "testing"

func TestHash(t *testing.T) {
	for text, want := range map[string]uint64{
		"":    0xEF46DB3751D8E999,
		"a":   0xD24EC4F1A98C6E5B,
		"abc": 0x44BC2CF5AD770999,
		"Nobody inspects the spammish repetition":     0xFBCEA83C8A378BF1,
		"The quick brown fox jumps over the lazy dog": 0x0B242D361FDA71BC,
	} {
		if got := Hash([]byte(text), 0); got != want {
			t.Errorf("%q: %x, want %x", text, got, want)
		}
	}
}
