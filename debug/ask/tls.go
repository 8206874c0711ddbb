package ask

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// TLS makes a handshake and shows what came of it. It trusts everybody: the question is who is there.
func TLS(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	f := newFlags("tls", "HOST:PORT", "Make a TLS handshake, and show the server's certificates, whoever issued them.")
	name := f.String("name", "", "The server name to ask for; the host if empty")
	protocols := f.StringSlice("alpn", nil, "Protocols to offer, separated by commas, such as h2,http/1.1")
	timeout := f.Duration("timeout", 10*time.Second, "Give up after this time")
	if code, done := f.read(args, 1, 1, stdout, stderr); done {
		return code
	}
	host, _, err := net.SplitHostPort(f.Arg(0))
	if err != nil {
		return f.fail(stderr, 2, fmt.Errorf("not HOST:PORT: %q", f.Arg(0)))
	}
	if *name == "" {
		*name = host
	}
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	begun := time.Now()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", f.Arg(0))
	if err != nil {
		return f.fail(stderr, 1, err)
	}
	defer conn.Close()
	fmt.Fprintf(stdout, "connected      %s to %s, after %s\n", conn.LocalAddr(), conn.RemoteAddr(), time.Since(begun).Round(10*time.Microsecond))
	// Certificates are printed as they come, and not only if the handshake succeeds: a server that wants one of the client refuses it.
	config := &tls.Config{
		ServerName: *name, NextProtos: *protocols, InsecureSkipVerify: true,
		VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error {
			for i, der := range raw {
				certificate(stdout, i, der, time.Now())
			}
			return nil
		},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			fmt.Fprintln(stdout, "client         the server asks for a certificate, and gets none")
			return &tls.Certificate{}, nil
		},
	}
	c := tls.Client(conn, config)
	if err := c.HandshakeContext(ctx); err != nil {
		return f.fail(stderr, 1, fmt.Errorf("handshake with %s: %w", f.Arg(0), err))
	}
	state := c.ConnectionState()
	fmt.Fprintf(stdout, "handshake      %s, %s, after %s\n", tls.VersionName(state.Version), tls.CipherSuiteName(state.CipherSuite), time.Since(begun).Round(10*time.Microsecond))
	protocol := state.NegotiatedProtocol
	if protocol == "" {
		protocol = "none"
	}
	fmt.Fprintf(stdout, "protocol       %s\n", protocol)
	return 0
}

func certificate(stdout io.Writer, i int, der []byte, now time.Time) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		fmt.Fprintf(stdout, "certificate %d  cannot be read: %v\n", i, err)
		return
	}
	names := append([]string{}, c.DNSNames...)
	for _, a := range c.IPAddresses {
		names = append(names, a.String())
	}
	for _, u := range c.URIs {
		names = append(names, u.String())
	}
	fmt.Fprintf(stdout, "certificate %d  %s\n  names        %s\n  issuer       %s\n  key          %s, signed with %s\n  valid        %s to %s%s\n",
		i, c.Subject, strings.Join(names, ", "), c.Issuer, c.PublicKeyAlgorithm, c.SignatureAlgorithm,
		c.NotBefore.UTC().Format(time.RFC3339), c.NotAfter.UTC().Format(time.RFC3339), validity(c, now))
}

// validity says what is wrong with the time, or how long it lasts.
func validity(c *x509.Certificate, now time.Time) string {
	switch {
	case now.Before(c.NotBefore):
		return ", NOT YET"
	case now.After(c.NotAfter):
		return ", EXPIRED"
	}
	return ", for another " + c.NotAfter.Sub(now).Round(time.Second).String()
}
