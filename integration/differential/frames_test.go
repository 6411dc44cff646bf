package differential_test

import (
	"bytes"

	"golang.org/x/net/http2"
)

// rawFrames are what only HTTP/2 hosts can do.
func rawFrames() []*scenario {
	const options = `{explicit_http_config: {http_protocol_options: null, http2_protocol_options: {}}}`
	of := func(name, on string, script ...frames) *scenario {
		r := resources{options: options}
		if on != "" {
			r.action = again("num_retries: 1, retry_on: " + on)
		}
		sc := &scenario{name: "raw-frame-" + name, raw: &r, framed: &framedHost{}, traffic: mixed(request{http2: true})}
		for _, f := range script {
			sc.script = append(sc.script, behaviour{frames: f})
		}
		return sc
	}
	late := func(code http2.ErrCode) frames {
		return after(head("200", false), content("half", false), rst(code))
	}
	fine, refuse, away := head("200", true), rst(http2.ErrCodeRefusedStream), goaway(-1, http2.ErrCodeNo)
	ending := after(goaway(0, http2.ErrCodeNo), hangUp)
	junk := func(p *peer, _ uint32) {
		p.locked(func() error {
			_, err := p.conn.Write(bytes.Repeat([]byte{0xff}, 64))
			return err
		})
	}
	return []*scenario{
		of("plain", "", fine), of("refused", "", refuse), of("refused-retried", "refused-stream", refuse, fine), of("refused-reset", "reset", refuse, fine), of("refused-5xx", "5xx", refuse, fine),
		of("refused-connect-failure", "connect-failure", refuse, fine), of("refused-again", "refused-stream", refuse),
		of("goaway", "", away), of("goaway-retried", "refused-stream", away, fine), of("goaway-reset", "reset", away, fine),
		of("ending", "", ending), of("ending-retried", "refused-stream", ending, fine), of("ending-reset", "reset", ending, fine),
		of("drop", "", hangUp), of("drop-retried", "reset", hangUp, fine), of("drop-not-retried", "refused-stream", hangUp),
		of("cancel", "", rst(http2.ErrCodeCancel)), of("internal", "", rst(http2.ErrCodeInternal)), of("none", "", rst(http2.ErrCodeNo)),
		of("none-retried", "reset", rst(http2.ErrCodeNo), fine), of("protocol", "", rst(http2.ErrCodeProtocol)),
		of("calm", "", rst(http2.ErrCodeEnhanceYourCalm)), of("junk", "", junk), of("junk-retried", "reset", junk, fine),
		of("late", "", late(http2.ErrCodeInternal)), of("late-refused", "refused-stream", late(http2.ErrCodeRefusedStream)),
		of("late-cancel", "", late(http2.ErrCodeCancel)),
	}
}
