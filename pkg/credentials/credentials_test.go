package credentials_test

import (
	"os"
	"strings"
	"testing"

	"github.com/breakwater-mesh/breakwater/internal/testkit/pki"
	"github.com/breakwater-mesh/breakwater/pkg/credentials"
)

// TestACertificateIsReadAgain replaces the files of a certificate one after the other: it is the old one until both fit.
func TestACertificateIsReadAgain(t *testing.T) {
	dir, authority := t.TempDir(), pki.NewAuthority(t)
	first, second := authority.Issue(t, "first.shop"), authority.Issue(t, "second.shop")
	chain, key := pki.Write(t, dir, "cert.pem", first.Chain), pki.Write(t, dir, "key.pem", first.Key)
	c := credentials.NewCertificate(credentials.Source{File: chain}, credentials.Source{File: key})
	named := func(step, want string) {
		t.Helper()
		got, err := c.Get()
		if err != nil {
			t.Fatalf("%s: %v", step, err)
		}
		if name := got.Leaf.DNSNames[0]; name != want {
			t.Errorf("%s: %s, want %s", step, name, want)
		}
	}
	named("at first", "first.shop")
	pki.Write(t, dir, "cert.pem", second.Chain)
	named("with the key of the old", "first.shop")
	pki.Write(t, dir, "key.pem", second.Key)
	named("replaced", "second.shop")
	if err := os.Remove(chain); err != nil {
		t.Fatal(err)
	}
	named("its file gone", "second.shop")
}

func TestAuthoritiesAreReadAgain(t *testing.T) {
	dir, one, other := t.TempDir(), pki.NewAuthority(t), pki.NewAuthority(t)
	path := pki.Write(t, dir, "ca.pem", one.PEM)
	a := credentials.NewAuthorities(credentials.Source{File: path})
	for _, want := range []*pki.Authority{one, other} {
		pki.Write(t, dir, "ca.pem", want.PEM)
		if got, err := a.Get(); err != nil || !got.Equal(want.Pool()) {
			t.Errorf("%v, %v", got, err)
		}
	}
}

func TestErrorsNameTheFile(t *testing.T) {
	dir, authority := t.TempDir(), pki.NewAuthority(t)
	one, other := authority.Issue(t, "one.shop"), authority.Issue(t, "other.shop")
	bad, key := pki.Write(t, dir, "bad.pem", "no PEM"), pki.Write(t, dir, "key.pem", other.Key)
	for want, get := range map[string]func() error{
		"absent.pem": func() error {
			_, err := credentials.NewAuthorities(credentials.Source{File: dir + "/absent.pem"}).Get()
			return err
		},
		"bad.pem": func() error { _, err := credentials.NewAuthorities(credentials.Source{File: bad}).Get(); return err },
		"the inline text and " + key: func() error {
			_, err := credentials.NewCertificate(credentials.Source{Text: one.Chain}, credentials.Source{File: key}).Get()
			return err
		},
	} {
		if err := get(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s in it", err, want)
		}
	}
}
