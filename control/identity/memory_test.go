package identity_test

import (
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/control/identity"
)

// replicas are several identity controllers with the same mounted files.
type replicas struct {
	*fixture
	t         *testing.T
	memory    identity.Remembered
	lifetimes identity.Lifetimes
}

func newReplicas(t *testing.T) *replicas {
	client := fake.NewClientset(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "linkerd", Name: names.ConfigMapFormerAnchors}})
	return &replicas{
		fixture: newFixture(t, time.Hour, authenticated("system:serviceaccount:emo:web")), t: t,
		memory:    identity.Remembered{ConfigMaps: client.CoreV1().ConfigMaps("linkerd")},
		lifetimes: identity.Lifetimes{Issuance: 24 * time.Hour, ClockSkew: time.Minute},
	}
}

// start starts a replica as its command does.
func (r *replicas) start() *identity.Credentials {
	r.t.Helper()
	c := identity.NewCredentials(r.files, r.events, slog.New(slog.DiscardHandler))
	r.exchange(c)
	if err := c.Load(); err != nil {
		r.t.Fatal(err)
	}
	return c
}

func (r *replicas) exchange(all ...*identity.Credentials) {
	r.t.Helper()
	for _, c := range all {
		if err := c.Recall(r.t.Context(), r.memory, r.lifetimes); err != nil {
			r.t.Fatal(err)
		}
	}
}

// trusts checks the bundle that a replica gives.
func (r *replicas) trusts(when string, c *identity.Credentials, after time.Duration, want ...string) {
	r.t.Helper()
	var got []string
	for rest := c.Bundle(r.lifetimes, time.Now().Add(after)); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			r.t.Fatal(err)
		}
		got = append(got, c.Subject.CommonName)
	}
	if !slices.Equal(got, want) {
		r.t.Errorf("%s: bundle %v, want %v", when, got, want)
	}
}

// TestReplicasGiveTheSameBundle: of two replicas one was started after the trust anchor was replaced. Both have to tell proxies of
// the anchor before, for as long as certificates under it live.
func TestReplicasGiveTheSameBundle(t *testing.T) {
	r := newReplicas(t)
	first := r.start()
	other := newAuthority(t, "other root", nil, time.Hour, true)
	r.writeRoots(t, other)
	first.Reload()
	r.exchange(first)
	// Now the issuer does not lead to what is in the file.
	second := r.start()
	r.trusts("before the issuer follows, the first", first, 0, "other root", "root")
	r.trusts("before the issuer follows, the second", second, 0, "other root", "root")

	r.write(t, newAuthority(t, "second issuer", other, time.Hour, true), other)
	first.Reload()
	second.Reload()
	r.exchange(first, second)
	third := r.start()
	for name, c := range map[string]*identity.Credentials{"first": first, "second": second, "third": third} {
		r.trusts("while certificates live, the "+name, c, 24*time.Hour, "other root", "root")
		r.trusts("when they have ended, the "+name, c, 24*time.Hour+3*time.Minute, "other root")
	}

	// One that knows more tells the others.
	last := newAuthority(t, "last root", nil, time.Hour, true)
	r.write(t, newAuthority(t, "last issuer", last, time.Hour, true), last)
	third.Reload()
	r.exchange(third, first)
	first.Reload()
	r.trusts("the first was slow", first, 0, "last root", "root", "other root")
}

// TestOperatorsTakeFormerAnchorsOut: after a theft an anchor has to leave at once, and not to come back from any replica.
func TestOperatorsTakeFormerAnchorsOut(t *testing.T) {
	r := newReplicas(t)
	first := r.start()
	other := newAuthority(t, "other root", nil, time.Hour, true)
	r.write(t, newAuthority(t, "second issuer", other, time.Hour, true), other)
	first.Reload()
	r.exchange(first)
	second := r.start()
	r.exchange(second)
	r.trusts("before", second, 0, "other root", "root")

	object, err := r.memory.ConfigMaps.Get(t.Context(), names.ConfigMapFormerAnchors, metav1.GetOptions{})
	if err != nil || !strings.Contains(object.Data[names.ConfigMapFormerAnchorsKey], "BEGIN CERTIFICATE") {
		t.Fatal(object, err)
	}
	object.Data = nil
	if _, err := r.memory.ConfigMaps.Update(t.Context(), object, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	r.exchange(first, second, first)
	for name, c := range map[string]*identity.Credentials{"first": first, "second": second, "third": r.start()} {
		r.trusts("afterwards, the "+name, c, 0, "other root")
	}
}

// TestWithoutMemory: a control plane without the ConfigMap, or without the right to it, goes on as it did.
func TestWithoutMemory(t *testing.T) {
	r := newReplicas(t)
	c := identity.NewCredentials(r.files, r.events, slog.New(slog.DiscardHandler))
	m := identity.Remembered{ConfigMaps: fake.NewClientset().CoreV1().ConfigMaps("linkerd")}
	if err := c.Recall(t.Context(), m, r.lifetimes); err == nil {
		t.Error("nothing was there, and nobody said so")
	}
	if err := c.Load(); err != nil {
		t.Fatal(err)
	}
	r.trusts("at first", c, 0, "root")
}
