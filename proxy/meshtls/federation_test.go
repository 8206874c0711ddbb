package meshtls_test

import (
	"crypto/x509"
	"encoding/pem"
	"testing"

	"github.com/linkerd-go/linkerd-go/proxy/meshtls/testca"
	"github.com/linkerd-go/linkerd-go/proxy/model"
)

// certificates are parsed DER.
func certificates(t *testing.T, chain ...[]byte) (certs []*x509.Certificate) {
	t.Helper()
	for _, der := range chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		certs = append(certs, c)
	}
	return certs
}

func anchor(t *testing.T, ca *testca.CA) *x509.Certificate {
	block, _ := pem.Decode(ca.PEM)
	return certificates(t, block.Bytes)[0]
}

// TestFederation: another domain's authority is believed about its own workloads,
// and about nobody else.
func TestFederation(t *testing.T) {
	const me, partner = "spiffe://own.example/vm", "spiffe://partner.example/web"
	own, theirs, third := testca.New(t), testca.New(t), testca.New(t)
	store := own.Store(t, me)
	check := func(ca *testca.CA, names ...string) bool {
		return store.Verify(certificates(t, ca.Issue(t, testca.NewKey(t).Public(), names...)...)) == nil
	}
	if check(theirs, partner) {
		t.Error("a stranger is believed")
	}
	store.Federate(map[string][]*x509.Certificate{
		"partner.example": {anchor(t, theirs)}, "third.example": {anchor(t, third)}, "own.example": {anchor(t, theirs)}, "empty.example": nil,
	})
	for _, c := range []struct {
		name  string
		ca    *testca.CA
		names []string
		want  bool
	}{
		{"its own", own, []string{me}, true},
		{"a workload of the mesh", own, []string{web}, true},
		{"a partner's", theirs, []string{partner}, true},
		{"another partner's", third, []string{"spiffe://third.example/a/b"}, true},
		{"a partner's, signed by another", third, []string{partner}, false},
		{"a partner that says to be of this domain", theirs, []string{me}, false},
		{"a partner that says to be of the mesh", theirs, []string{web}, false},
		{"a partner with a name of the mesh as well", theirs, []string{partner, web}, false},
		{"a partner with two IDs", theirs, []string{partner, "spiffe://partner.example/other"}, false},
		{"a domain that only begins alike", theirs, []string{"spiffe://partner.example.org/web"}, false},
		{"a domain with a port", theirs, []string{"spiffe://partner.example:80/web"}, false},
		{"a domain with a user", theirs, []string{"spiffe://partner.example@own.example/web"}, false},
		{"another scheme", theirs, []string{"https://partner.example/web"}, false},
		{"no ID", theirs, nil, false},
		{"a domain without authorities", theirs, []string{"spiffe://empty.example/web"}, false},
	} {
		if got := check(c.ca, c.names...); got != c.want {
			t.Errorf("%s: believed %v", c.name, got)
		}
	}

	// Both sides of a handshake, each of which knows the other's domain.
	other := theirs.Store(t, partner)
	other.Federate(map[string][]*x509.Certificate{"own.example": {anchor(t, own)}})
	id := model.TLSIdentity{ID: model.MustIdentity(me), ServerName: "server.test"}
	cs, ss, cerr, serr := shake(other.ClientConfig(id, false), store.ServerConfig())
	if cerr != nil || serr != nil {
		t.Fatal(cerr, serr)
	}
	if client, server := peer(&ss), peer(&cs); client != partner || server != me {
		t.Errorf("%s called %s", client, server)
	}

	// The own certificate has to be of the own authority all the same.
	key := testca.NewKey(t)
	if err := store.SetCertificate(theirs.Issue(t, key.Public(), me), key); err == nil {
		t.Error("a partner certified this workload")
	}
	store.Federate(nil)
	if check(theirs, partner) {
		t.Error("a partner of before is believed")
	}
}
