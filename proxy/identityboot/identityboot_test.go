package identityboot

import (
	"bytes"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/linkerd-go/linkerd-go/proxy/meshtls/testca"
)

const name = "web.ns.serviceaccount.identity.linkerd.cluster.local"

func TestWriteAndRead(t *testing.T) {
	dir, anchors := t.TempDir(), testca.New(t).PEM
	var last []byte
	for range 2 {
		if err := Write(dir, anchors, name); err != nil {
			t.Fatal(err)
		}
		for _, f := range []string{KeyFile, CSRFile} {
			if fi, err := os.Stat(filepath.Join(dir, f)); err != nil || fi.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v %v", f, fi.Mode(), err)
			}
		}
		key, der, err := Read(dir)
		if err != nil {
			t.Fatal(err)
		}
		csr, err := x509.ParseCertificateRequest(der)
		if err != nil {
			t.Fatal(err)
		}
		if csr.Subject.CommonName != name || len(csr.DNSNames) != 1 || csr.DNSNames[0] != name || csr.CheckSignature() != nil {
			t.Errorf("%+v", csr)
		}
		pub, _ := x509.MarshalPKIXPublicKey(key.Public())
		if !bytes.Equal(pub, csr.RawSubjectPublicKeyInfo) {
			t.Error("request is not for the key")
		}
		if bytes.Equal(der, last) {
			t.Error("second run kept the key")
		}
		last = der
	}
	if files, _ := os.ReadDir(dir); len(files) != 2 {
		t.Error("left something behind", files)
	}
}

func TestRefusals(t *testing.T) {
	dir, anchors := t.TempDir(), testca.New(t).PEM
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		dir, name, want string
		anchors         []byte
	}{
		{filepath.Join(dir, "none"), name, "no such file", anchors},
		{file, name, "not a directory", anchors},
		{dir, name, "no certificate", []byte("x")},
		{dir, "a b", "not a DNS name", anchors},
		{dir, "", "not a DNS name", anchors},
	} {
		if err := Write(c.dir, c.anchors, c.name); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
	if _, _, err := Read(dir); err == nil {
		t.Error("read without files")
	}
	if err := os.WriteFile(filepath.Join(dir, KeyFile), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Read(dir); err == nil || !strings.Contains(err.Error(), "parse identity key") {
		t.Error(err)
	}
}
