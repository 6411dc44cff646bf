package catalog

import (
	"cmp"
	"net/netip"
	"path"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// TLSMode is how the endpoints of a service are spoken to.
type TLSMode string

// The modes.
const (
	TLSNone   TLSMode = "none"
	TLSSimple TLSMode = "simple"
	TLSMutual TLSMode = "mutual"
)

// TLS is how proxies speak TLS to the endpoints of a service. Files are read on the proxy's machine.
type TLS struct {
	Mode     TLSMode `json:"mode" doc:"none: plain; simple: the endpoint shows a certificate; mutual: the proxy does too." enum:"none,simple,mutual" effect:"rebuilds the cluster" bwdefault:"required"`
	SNI      string  `json:"sni,omitempty" doc:"The DNS name that is asked for, and that the endpoint's certificate must have." effect:"rebuilds the cluster" bwdefault:"<name>.<namespace> (Breakwater)"`
	CAFile   string  `json:"caFile,omitempty" doc:"The certificates of those who may have issued the endpoint's, as PEM, on the proxy's machine." effect:"rebuilds the cluster" bwdefault:"required with simple and mutual"`
	CertFile string  `json:"certFile,omitempty" doc:"The proxy's certificate chain, as PEM, on its machine." effect:"rebuilds the cluster" bwdefault:"required with mutual"`
	KeyFile  string  `json:"keyFile,omitempty" doc:"The key of it, as PEM." effect:"rebuilds the cluster" bwdefault:"required with mutual"`
}

// TLSOf is the TLS with the endpoints of svc, its defaults filled in; nil where they are spoken to in plain text.
func TLSOf(svc *Service) *TLS {
	t := svc.Spec.TLS
	if t == nil || t.Mode == TLSNone {
		return nil
	}
	full := *t
	full.SNI = cmp.Or(t.SNI, Hosts(svc)[0])
	return &full
}

func (f *faults) tls(t *TLS) {
	if t == nil {
		return
	}
	const at = "spec.tls"
	if t.Mode == "" {
		f.add(at+".mode", "is required: none, simple or mutual")
	}
	if _, err := netip.ParseAddr(t.SNI); t.SNI != "" && (err == nil || !manifest.DNSName(t.SNI)) {
		f.add(at+".sni", "%.70q is not a DNS name in lower case, such as payments.example.com", t.SNI)
	}
	for _, file := range []struct {
		field, value string
		in           []TLSMode // that need it
	}{{"caFile", t.CAFile, []TLSMode{TLSSimple, TLSMutual}}, {"certFile", t.CertFile, []TLSMode{TLSMutual}}, {"keyFile", t.KeyFile, []TLSMode{TLSMutual}}} {
		needed := false
		for _, mode := range file.in {
			needed = needed || t.Mode == mode
		}
		switch {
		case file.value == "" && needed && file.field == "caFile":
			f.add(at+".caFile", "is required: without it any certificate would do")
		case file.value == "" && needed:
			f.add(at+"."+file.field, "is required with mode mutual")
		case file.value != "" && !needed && t.Mode != "":
			f.add(at+"."+file.field, "is not for mode %s: leave it out", t.Mode)
		case file.value != "" && (!path.IsAbs(file.value) || path.Clean(file.value) != file.value || len(file.value) > 4096):
			f.add(at+"."+file.field, "%.70q must be an absolute path, such as /etc/breakwater/ca.pem", file.value)
		}
	}
	if t.Mode == TLSNone && t.SNI != "" {
		f.add(at+".sni", "is not for mode none: leave it out")
	}
}
