package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
)

var names = Names{
	Node:      "east-node",
	NodeIP:    netip.MustParseAddr("10.200.0.1"),
	ServiceIP: netip.MustParseAddr("10.150.0.1"),
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestEnsureMakesWhatServersAndClientsNeed(t *testing.T) {
	dir := t.TempDir()
	if err := Ensure(dir, names); err != nil {
		t.Fatal(err)
	}
	for _, r := range requests(names) {
		pair, err := tls.LoadX509KeyPair(filepath.Join(dir, r.name+".crt"), filepath.Join(dir, r.name+".key"))
		if err != nil {
			t.Errorf("%s: %v", r.name, err)
			continue
		}
		issuer := r.issuer
		if issuer == "" {
			issuer = r.name
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(read(t, filepath.Join(dir, issuer+".crt")))
		usage := x509.ExtKeyUsageClientAuth
		if r.server {
			usage = x509.ExtKeyUsageServerAuth
		}
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
			t.Errorf("%s does not verify: %v", r.name, err)
		}
		for _, ip := range r.ips {
			if err := pair.Leaf.VerifyHostname(ip.String()); err != nil {
				t.Errorf("%s: %v", r.name, err)
			}
		}
	}
}

func TestEnsureKeepsWhatIsThereAndRepairsTheRest(t *testing.T) {
	dir := t.TempDir()
	if err := Ensure(dir, names); err != nil {
		t.Fatal(err)
	}
	admin := read(t, filepath.Join(dir, "admin.crt"))
	proxy := read(t, filepath.Join(dir, "front-proxy-client.crt"))
	if err := os.Remove(filepath.Join(dir, "front-proxy-ca.crt")); err != nil {
		t.Fatal(err)
	}
	if err := Ensure(dir, names); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(admin, read(t, filepath.Join(dir, "admin.crt"))) {
		t.Error("a certificate that was there was replaced")
	}
	if bytes.Equal(proxy, read(t, filepath.Join(dir, "front-proxy-client.crt"))) {
		t.Error("a certificate outlived its issuer")
	}
}
