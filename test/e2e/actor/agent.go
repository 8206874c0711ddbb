package actor

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"

	spiffepb "github.com/linkerd-go/linkerd-go/api/proto/spiffe"
)

// ServeAgent plays the SPIFFE agent of a machine outside of the cluster: on a
// Unix socket it hands out a certificate for id, which it signs with the
// issuer's, crt.pem and key.pem in dir. It returns nil when ctx ends.
func ServeAgent(ctx context.Context, socket, id, dir string) error {
	svid, err := issue(id, dir)
	if err != nil {
		return err
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	s := grpc.NewServer()
	spiffepb.RegisterSpiffeWorkloadAPIServer(s, agent{svid: svid})
	stop := context.AfterFunc(ctx, s.Stop)
	defer stop()
	if err := s.Serve(l); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

type agent struct {
	spiffepb.UnimplementedSpiffeWorkloadAPIServer
	svid *spiffepb.X509SVID
}

// FetchX509SVID sends the certificate and then has nothing more to say.
func (a agent) FetchX509SVID(_ *spiffepb.X509SVIDRequest, stream spiffepb.SpiffeWorkloadAPI_FetchX509SVIDServer) error {
	if err := stream.Send(&spiffepb.X509SVIDResponse{Svids: []*spiffepb.X509SVID{a.svid}}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

// issue makes a key and a certificate for a SPIFFE ID.
func issue(id, dir string) (*spiffepb.X509SVID, error) {
	uri, err := url.Parse(id)
	if err != nil {
		return nil, err
	}
	read := func(name string) ([]byte, error) {
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		block, _ := pem.Decode(raw)
		if block == nil {
			return nil, fmt.Errorf("%s has no PEM block", name)
		}
		return block.Bytes, nil
	}
	issuerDER, err := read("crt.pem")
	if err != nil {
		return nil, err
	}
	issuer, err := x509.ParseCertificate(issuerDER)
	if err != nil {
		return nil, err
	}
	keyDER, err := read("key.pem")
	if err != nil {
		return nil, err
	}
	signer, err := privateKey(keyDER)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), URIs: []*url.URL{uri},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, issuer, key.Public(), signer)
	if err != nil {
		return nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return &spiffepb.X509SVID{SpiffeId: id, X509Svid: append(der, issuerDER...), X509SvidKey: pkcs8}, nil
}

// privateKey reads the issuer's key, in either of the forms that it comes in.
func privateKey(der []byte) (*ecdsa.PrivateKey, error) {
	if k, err := x509.ParseECPrivateKey(der); err == nil {
		return k, nil
	}
	k, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, err
	}
	if k, ok := k.(*ecdsa.PrivateKey); ok {
		return k, nil
	}
	return nil, errors.New("the issuer's key is not of ECDSA")
}
