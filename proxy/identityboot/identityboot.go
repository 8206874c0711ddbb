// Package identityboot makes the key and the certificate signing request that
// the proxy is first certified with (proxy chapter, section 6.3). It runs once,
// before the proxy, so that a restart of the container yields a new key.
//
//	err := identityboot.Write(dir, anchors, name)     // then exec the proxy
//	key, csr, err := identityboot.NewKey(name)        // for each renewal
//
// Keys of renewals are never written down.
package identityboot

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/linkerd-go/linkerd-go/proxy/model"
)

// Names of the files in the identity directory.
const (
	KeyFile = "key.p8"
	CSRFile = "csr.der"
)

// Write checks its arguments, makes a P-256 key and a request for the name, and
// writes them into dir: the key as PKCS#8, both in DER, readable by the owner
// alone. Files that are there are replaced. anchors is only checked: a proxy
// without trust anchors could not be certified.
func Write(dir string, anchors []byte, name string) error {
	if fi, err := os.Stat(dir); err != nil {
		return fmt.Errorf("identity directory: %w", err)
	} else if !fi.IsDir() {
		return fmt.Errorf("identity directory %s is not a directory", dir)
	}
	if err := checkAnchors(anchors); err != nil {
		return err
	}
	key, csr, err := NewKey(name)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encode key: %w", err)
	}
	if err := replace(filepath.Join(dir, KeyFile), keyDER); err != nil {
		return err
	}
	return replace(filepath.Join(dir, CSRFile), csr)
}

// NewKey makes a P-256 key, and a request in DER for a certificate that says that
// its owner is called name.
func NewKey(name string) (key crypto.Signer, csr []byte, err error) {
	id, err := model.ParseDNSIdentity(name)
	if err != nil {
		return nil, nil, fmt.Errorf("local identity name: %w", err)
	}
	key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("generate key: %w", err)
	}
	csr, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:            pkix.Name{CommonName: id.String()},
		DNSNames:           []string{id.String()},
		SignatureAlgorithm: x509.ECDSAWithSHA256,
	}, key)
	if err != nil {
		return nil, nil, fmt.Errorf("create certificate signing request: %w", err)
	}
	return key, csr, nil
}

func checkAnchors(bundle []byte) error {
	for rest := bundle; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return errors.New("trust anchors hold no certificate that can be parsed")
		}
		if _, err := x509.ParseCertificate(block.Bytes); err == nil && block.Type == "CERTIFICATE" {
			return nil
		}
	}
}

// replace writes a file under another name first, so that nobody reads half of
// it and a former file's mode does not stay.
func replace(path string, data []byte) error {
	if _, err := os.Lstat(path); err == nil {
		slog.Info("Replacing identity file", "path", path)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(0o600)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// BundleFile has the trust anchors that the control plane told of last. The
// environment of a container has those of the time when its pod was made, which
// may have left since when the container starts again.
const BundleFile = "trust-bundle.pem"

// KeepBundle writes trust anchors for a later start in the same pod.
func KeepBundle(dir string, bundle []byte) error {
	return replace(filepath.Join(dir, BundleFile), bundle)
}

// KeptBundle reads what KeepBundle wrote, nothing if it never did.
func KeptBundle(dir string) []byte {
	bundle, err := os.ReadFile(filepath.Join(dir, BundleFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		slog.Warn("Cannot read the trust anchors of an earlier start", "error", err)
	}
	return bundle
}

// Read reads what Write wrote.
func Read(dir string) (key crypto.Signer, csr []byte, err error) {
	der, err := os.ReadFile(filepath.Join(dir, KeyFile))
	if err != nil {
		return nil, nil, fmt.Errorf("read identity key: %w", err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, nil, fmt.Errorf("parse identity key %s: %w", filepath.Join(dir, KeyFile), err)
	}
	k, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || k.Curve != elliptic.P256() {
		return nil, nil, fmt.Errorf("identity key %s is not an ECDSA P-256 key", filepath.Join(dir, KeyFile))
	}
	if csr, err = os.ReadFile(filepath.Join(dir, CSRFile)); err != nil {
		return nil, nil, fmt.Errorf("read certificate signing request: %w", err)
	}
	if _, err := x509.ParseCertificateRequest(csr); err != nil {
		return nil, nil, fmt.Errorf("parse certificate signing request %s: %w", filepath.Join(dir, CSRFile), err)
	}
	return k, csr, nil
}
