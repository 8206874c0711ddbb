package identity

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"strings"
)

// timeLayout is the one of openssl.
const timeLayout = "Jan 2 15:04:05 2006 MST"

// keyUsages in the order of their bits.
var keyUsages = []string{
	"Digital Signature", "Non Repudiation", "Key Encipherment", "Data Encipherment", "Key Agreement",
	"Certificate Sign", "CRL Sign", "Encipher Only", "Decipher Only",
}

var extendedUsages = map[x509.ExtKeyUsage]string{
	x509.ExtKeyUsageAny:         "Any Extended Key Usage",
	x509.ExtKeyUsageServerAuth:  "TLS Web Server Authentication",
	x509.ExtKeyUsageClientAuth:  "TLS Web Client Authentication",
	x509.ExtKeyUsageCodeSigning: "Code Signing",
}

// Text describes a certificate in the manner of `openssl x509 -text`.
func Text(c *x509.Certificate) string {
	var b strings.Builder
	line := func(indent int, format string, args ...any) {
		b.WriteString(strings.Repeat(" ", indent))
		fmt.Fprintf(&b, format, args...)
		b.WriteByte('\n')
	}
	line(0, "Certificate:")
	line(4, "Data:")
	line(8, "Version: %d (%#x)", c.Version, c.Version-1)
	if c.SerialNumber.IsInt64() {
		line(8, "Serial Number: %d (%#x)", c.SerialNumber, c.SerialNumber)
	} else {
		line(8, "Serial Number:")
		line(12, "%s", colons(c.SerialNumber.Bytes()))
	}
	line(4, "Signature Algorithm: %s", c.SignatureAlgorithm)
	line(8, "Issuer: %s", name(c.Issuer))
	line(8, "Validity")
	line(12, "Not Before: %s", c.NotBefore.UTC().Format(timeLayout))
	line(12, "Not After : %s", c.NotAfter.UTC().Format(timeLayout))
	line(8, "Subject: %s", name(c.Subject))
	line(8, "Subject Public Key Info:")
	line(12, "Public Key Algorithm: %s", c.PublicKeyAlgorithm)
	switch key := c.PublicKey.(type) {
	case *ecdsa.PublicKey:
		line(16, "Public-Key: (%d bit)", key.Params().BitSize)
		line(16, "Curve: %s", key.Params().Name)
	case *rsa.PublicKey:
		line(16, "Public-Key: (%d bit)", key.N.BitLen())
		line(16, "Exponent: %d (%#x)", key.E, key.E)
	}
	line(8, "X509v3 extensions:")
	if c.KeyUsage != 0 {
		line(12, "X509v3 Key Usage: critical")
		var usages []string
		for i, usage := range keyUsages {
			if c.KeyUsage&(1<<i) != 0 {
				usages = append(usages, usage)
			}
		}
		line(16, "%s", strings.Join(usages, ", "))
	}
	if len(c.ExtKeyUsage) > 0 {
		line(12, "X509v3 Extended Key Usage:")
		var usages []string
		for _, usage := range c.ExtKeyUsage {
			text, ok := extendedUsages[usage]
			if !ok {
				text = fmt.Sprintf("Usage %d", usage)
			}
			usages = append(usages, text)
		}
		line(16, "%s", strings.Join(usages, ", "))
	}
	if c.BasicConstraintsValid {
		line(12, "X509v3 Basic Constraints: critical")
		line(16, "CA:%s", strings.ToUpper(fmt.Sprint(c.IsCA)))
	}
	if len(c.SubjectKeyId) > 0 {
		line(12, "X509v3 Subject Key Identifier:")
		line(16, "%s", colons(c.SubjectKeyId))
	}
	if len(c.AuthorityKeyId) > 0 {
		line(12, "X509v3 Authority Key Identifier:")
		line(16, "keyid:%s", colons(c.AuthorityKeyId))
	}
	var names []string
	for _, n := range c.DNSNames {
		names = append(names, "DNS:"+n)
	}
	for _, u := range c.URIs {
		names = append(names, "URI:"+u.String())
	}
	for _, ip := range c.IPAddresses {
		names = append(names, "IP Address:"+ip.String())
	}
	if len(names) > 0 {
		line(12, "X509v3 Subject Alternative Name:")
		line(16, "%s", strings.Join(names, ", "))
	}
	line(4, "Signature Algorithm: %s", c.SignatureAlgorithm)
	const perLine = 18
	for signature := c.Signature; len(signature) > 0; {
		n := min(perLine, len(signature))
		text := colons(signature[:n])
		signature = signature[n:]
		if len(signature) > 0 {
			text += ":"
		}
		line(9, "%s", text)
	}
	return b.String()
}

func colons(data []byte) string {
	parts := make([]string, len(data))
	for i, d := range data {
		parts[i] = fmt.Sprintf("%02x", d)
	}
	return strings.Join(parts, ":")
}

// name writes a name the way openssl does, the most general part first.
func name(n pkix.Name) string {
	var parts []string
	for _, set := range n.ToRDNSequence() {
		for _, attribute := range set {
			key := map[string]string{
				"2.5.4.3": "CN", "2.5.4.6": "C", "2.5.4.7": "L", "2.5.4.8": "ST", "2.5.4.10": "O", "2.5.4.11": "OU",
			}[attribute.Type.String()]
			if key == "" {
				key = attribute.Type.String()
			}
			parts = append(parts, fmt.Sprintf("%s=%v", key, attribute.Value))
		}
	}
	return strings.Join(parts, ", ")
}
