// Package credentials reads certificates with their keys and certificate authorities, from files or as they are given, and reads a
// file again when it has changed.
package credentials

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
)

// Source is PEM text: of a file, or Text where File is "".
type Source struct{ File, Text string }

// name is what errors call the source.
func (s Source) name() string {
	if s.File == "" {
		return "the inline text"
	}
	return s.File
}

// stamp is the state of a source's file, nil where it has none.
func (s Source) stamp() (os.FileInfo, error) {
	if s.File == "" {
		return nil, nil
	}
	return os.Stat(s.File)
}

func (s Source) read() ([]byte, error) {
	if s.File == "" {
		return []byte(s.Text), nil
	}
	return os.ReadFile(s.File)
}

// watched is a value made of sources, made again when one of their files has changed. What can't be read any more stays what it was:
// a certificate and its key are seldom replaced at one moment.
type watched[T any] struct {
	sources []Source
	parse   func(texts [][]byte) (T, error)

	mu     sync.Mutex
	stamps []os.FileInfo
	value  T
	made   bool
}

// get is the value of now. An error says that there never was one.
func (w *watched[T]) get() (T, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	stamps, err := w.look()
	if err == nil && w.made && same(stamps, w.stamps) {
		return w.value, nil
	}
	var value T
	if err == nil {
		value, err = w.make()
	}
	if err == nil {
		w.value, w.stamps, w.made = value, stamps, true
	}
	if w.made {
		return w.value, nil
	}
	return value, err
}

func (w *watched[T]) look() ([]os.FileInfo, error) {
	stamps := make([]os.FileInfo, len(w.sources))
	for i, s := range w.sources {
		var err error
		if stamps[i], err = s.stamp(); err != nil {
			return nil, err
		}
	}
	return stamps, nil
}

func same(a, b []os.FileInfo) bool {
	for i := range a {
		if a[i] != nil && (!os.SameFile(a[i], b[i]) || !a[i].ModTime().Equal(b[i].ModTime()) || a[i].Size() != b[i].Size()) {
			return false
		}
	}
	return true
}

func (w *watched[T]) make() (value T, err error) {
	texts := make([][]byte, len(w.sources))
	for i, s := range w.sources {
		if texts[i], err = s.read(); err != nil {
			return value, err
		}
	}
	return w.parse(texts)
}

// Certificate is a certificate chain with its private key. Its methods may be called from many goroutines.
type Certificate struct{ watched[*tls.Certificate] }

// NewCertificate reads nothing yet.
func NewCertificate(chain, key Source) *Certificate {
	c := new(Certificate)
	c.sources = []Source{chain, key}
	c.parse = func(texts [][]byte) (*tls.Certificate, error) {
		pair, err := tls.X509KeyPair(texts[0], texts[1])
		if err != nil {
			return nil, fmt.Errorf("%s and %s: %w", chain.name(), key.name(), err)
		}
		return &pair, nil
	}
	return c
}

// Get is the certificate of now. An error names the file that could not be read; after a first success there is none, and what can't
// be read stays what it was.
func (c *Certificate) Get() (*tls.Certificate, error) { return c.get() }

// Authorities are the certificates that others are verified against. Their methods may be called from many goroutines.
type Authorities struct{ watched[*x509.CertPool] }

// NewAuthorities reads nothing yet.
func NewAuthorities(s Source) *Authorities {
	a := new(Authorities)
	a.sources = []Source{s}
	a.parse = func(texts [][]byte) (*x509.CertPool, error) {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(texts[0]) {
			return nil, fmt.Errorf("%s: no certificate in it", s.name())
		}
		return pool, nil
	}
	return a
}

// Get is the authorities of now. Errors are as of Certificate.Get.
func (a *Authorities) Get() (*x509.CertPool, error) { return a.get() }

// Client is what a client shows and trusts.
type Client struct {
	Certificate *Certificate // nil: none is shown
	Authorities *Authorities // nil: the system's
	ServerName  string       // that the server's certificate has to name; "": the name it is called by
}

// Config is the configuration of a new connection.
func (c *Client) Config() (*tls.Config, error) {
	config := &tls.Config{ServerName: c.ServerName, MinVersion: tls.VersionTLS12}
	var faults []error
	if c.Authorities != nil {
		pool, err := c.Authorities.Get()
		config.RootCAs, faults = pool, append(faults, err)
	}
	if c.Certificate != nil {
		pair, err := c.Certificate.Get()
		faults = append(faults, err)
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair, nil }
	}
	return config, errors.Join(faults...)
}
