// Package certs makes the keys and certificates of a cluster: its CA, the front proxy's CA, the API
// server's and the kubelet's certificates, client certificates for every component and the key that signs
// ServiceAccount tokens.
//
// Ensure writes what is missing and keeps what is there, so that a cluster that is started again keeps its
// identity. It may be called by one process per directory at a time.
package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

const (
	// lifetime of every certificate: longer than any development cluster lives.
	lifetime = 10 * 365 * 24 * time.Hour
	// backdate lets a certificate be valid on a machine whose clock is a little behind.
	backdate = time.Hour
)

// The names of the certificates; each is a file NAME.crt with a key in NAME.key.
const (
	// CA signs everything but the front proxy's certificate. It also signs CertificateSigningRequests.
	CA = "ca"
	// FrontProxyCA signs FrontProxy only, so that no other client can claim to be someone else.
	FrontProxyCA = "front-proxy-ca"
	// FrontProxy is what the API server shows to aggregated API servers.
	FrontProxy = "front-proxy-client"
	// APIServer is the API server's serving certificate.
	APIServer = "apiserver"
	// APIServerKubelet is what the API server shows to the kubelet.
	APIServerKubelet = "apiserver-kubelet-client"
	// Kubelet is the kubelet's serving certificate.
	Kubelet = "kubelet-server"
	// Local is the serving certificate of the controller manager's and the scheduler's health endpoints.
	Local = "local"
	// Admin, and the four below, are client certificates.
	Admin             = "admin"
	Node              = "node"
	ControllerManager = "controller-manager"
	Scheduler         = "scheduler"
	Proxy             = "kube-proxy"
	// ServiceAccount is a bare key pair, private in sa.key and public in sa.pub.
	ServiceAccount = "sa"
)

// Names are the names and addresses that certificates have to carry.
type Names struct {
	// Node is the node's name.
	Node string
	// NodeIP is the address of the node and the API server.
	NodeIP netip.Addr
	// ServiceIP is the API server's address inside the cluster.
	ServiceIP netip.Addr
}

// request is one certificate to make.
type request struct {
	name     string
	issuer   string // "" means self-signed CA
	subject  pkix.Name
	server   bool
	dnsNames []string
	ips      []netip.Addr
}

func requests(names Names) []request {
	loopback := netip.MustParseAddr("127.0.0.1")
	client := func(name, issuer, cn string, groups ...string) request {
		return request{name: name, issuer: issuer, subject: pkix.Name{CommonName: cn, Organization: groups}}
	}
	return []request{
		{name: CA, subject: pkix.Name{CommonName: "devcluster-ca"}},
		{name: FrontProxyCA, subject: pkix.Name{CommonName: "devcluster-front-proxy-ca"}},
		{
			name: APIServer, issuer: CA, server: true, subject: pkix.Name{CommonName: "kube-apiserver"},
			dnsNames: []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost", names.Node},
			ips:      []netip.Addr{names.NodeIP, names.ServiceIP, loopback},
		},
		{
			name: Kubelet, issuer: CA, server: true, subject: pkix.Name{CommonName: "system:node:" + names.Node, Organization: []string{"system:nodes"}},
			dnsNames: []string{names.Node, "localhost"}, ips: []netip.Addr{names.NodeIP, loopback},
		},
		{
			name: Local, issuer: CA, server: true, subject: pkix.Name{CommonName: "localhost"},
			dnsNames: []string{"localhost"}, ips: []netip.Addr{loopback},
		},
		client(FrontProxy, FrontProxyCA, "front-proxy-client"),
		client(APIServerKubelet, CA, "kube-apiserver-kubelet-client", "system:masters"),
		client(Admin, CA, "kubernetes-admin", "system:masters"),
		client(Node, CA, "system:node:"+names.Node, "system:nodes"),
		client(ControllerManager, CA, "system:kube-controller-manager"),
		client(Scheduler, CA, "system:kube-scheduler"),
		client(Proxy, CA, "system:kube-proxy"),
	}
}

// Ensure makes dir and every certificate that is missing from it. A certificate whose issuer was made anew
// is made anew too.
func Ensure(dir string, names Names) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make certificate directory: %w", err)
	}
	made := map[string]bool{}
	for _, r := range requests(names) {
		if have(dir, r.name, ".crt", ".key") && !made[r.issuer] {
			continue
		}
		if err := issue(dir, r); err != nil {
			return fmt.Errorf("make certificate %s: %w", r.name, err)
		}
		made[r.name] = true
	}
	if have(dir, ServiceAccount, ".pub", ".key") {
		return nil
	}
	if err := serviceAccountKey(dir); err != nil {
		return fmt.Errorf("make service account key: %w", err)
	}
	return nil
}

// have reports whether all files of a certificate exist.
func have(dir, name string, suffixes ...string) bool {
	for _, suffix := range suffixes {
		if _, err := os.Stat(filepath.Join(dir, name+suffix)); errors.Is(err, fs.ErrNotExist) {
			return false
		}
	}
	return true
}

func issue(dir string, r request) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("generate key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return fmt.Errorf("generate serial number: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               r.subject,
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(lifetime),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		DNSNames:              r.dnsNames,
	}
	for _, ip := range r.ips {
		template.IPAddresses = append(template.IPAddresses, net.IP(ip.AsSlice()))
	}
	parent, signer := template, crypto.Signer(key)
	switch {
	case r.issuer == "":
		template.IsCA = true
		template.KeyUsage |= x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	case r.server:
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	default:
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	if r.issuer != "" {
		if parent, signer, err = load(dir, r.issuer); err != nil {
			return fmt.Errorf("load issuer: %w", err)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	return writePair(dir, r.name, ".crt", "CERTIFICATE", der, key)
}

// serviceAccountKey makes an RSA key: RS256 is the one signature algorithm that every verifier of
// ServiceAccount tokens has to know.
func serviceAccountKey(dir string) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return fmt.Errorf("generate key: %w", err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return fmt.Errorf("encode public key: %w", err)
	}
	return writePair(dir, ServiceAccount, ".pub", "PUBLIC KEY", der, key)
}

// writePair writes the public part last, so that a pair is either complete or looks incomplete.
func writePair(dir, name, suffix, kind string, der []byte, key crypto.Signer) error {
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encode key: %w", err)
	}
	public := filepath.Join(dir, name+suffix)
	if err := os.Remove(public); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, name+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600); err != nil {
		return err
	}
	return os.WriteFile(public, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o644)
}

func load(dir, name string) (*x509.Certificate, crypto.Signer, error) {
	block := func(file string) ([]byte, error) {
		data, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			return nil, err
		}
		b, _ := pem.Decode(data)
		if b == nil {
			return nil, fmt.Errorf("%s: no PEM block", file)
		}
		return b.Bytes, nil
	}
	der, err := block(name + ".crt")
	if err != nil {
		return nil, nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, fmt.Errorf("%s.crt: %w", name, err)
	}
	if der, err = block(name + ".key"); err != nil {
		return nil, nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, nil, fmt.Errorf("%s.key: %w", name, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, nil, fmt.Errorf("%s.key: %T cannot sign", name, key)
	}
	return certificate, signer, nil
}
