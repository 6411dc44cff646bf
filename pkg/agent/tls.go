package agent

import (
	"crypto/tls"
	"errors"
	"fmt"

	"github.com/breakwater-mesh/breakwater/pkg/credentials"
)

// validateTLS also reads the files: an agent that can't is better told at its start.
func (c *Config) validateTLS() []error {
	var faults []error
	if c.XDSCA == "" {
		for _, set := range []struct{ flag, value string }{
			{"--xds-cert", c.XDSCert}, {"--xds-key", c.XDSKey}, {"--xds-server-name", c.XDSServerName},
		} {
			if set.value != "" {
				faults = append(faults, fmt.Errorf("%s: needs --xds-ca, without which there is no TLS", set.flag))
			}
		}
		return faults
	}
	client := c.xdsCredentials()
	if _, err := client.Authorities.Get(); err != nil {
		faults = append(faults, fmt.Errorf("--xds-ca: %w", err))
	}
	switch {
	case c.XDSCert != "" && c.XDSKey == "":
		faults = append(faults, errors.New("--xds-key: must be given with --xds-cert"))
	case c.XDSCert == "" && c.XDSKey != "":
		faults = append(faults, errors.New("--xds-cert: must be given with --xds-key"))
	case client.Certificate != nil:
		if _, err := client.Certificate.Get(); err != nil {
			faults = append(faults, fmt.Errorf("--xds-cert, --xds-key: %w", err))
		}
	}
	return faults
}

// xdsCredentials are for the connection to the control plane; nil is plaintext.
func (c *Config) xdsCredentials() *credentials.Client {
	if c.XDSCA == "" {
		return nil
	}
	client := &credentials.Client{Authorities: credentials.NewAuthorities(credentials.Source{File: c.XDSCA}), ServerName: c.XDSServerName}
	if c.XDSCert != "" && c.XDSKey != "" {
		client.Certificate = credentials.NewCertificate(credentials.Source{File: c.XDSCert}, credentials.Source{File: c.XDSKey})
	}
	return client
}

// xdsTLS makes the configuration of each new connection to the control plane, nil where that is plaintext.
func (c *Config) xdsTLS() func() (*tls.Config, error) {
	if client := c.xdsCredentials(); client != nil {
		return client.Config
	}
	return nil
}
