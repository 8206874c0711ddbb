package rotation

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/linkerd-go/linkerd-go/api/names"
	api "github.com/linkerd-go/linkerd-go/api/rotation"
	"github.com/linkerd-go/linkerd-go/internal/golden"
	"github.com/linkerd-go/linkerd-go/internal/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// TestTranscripts plays testdata/*.txt. A line that begins with "> " is a command, what follows is what happened: each state of
// the objects, with the time since the start. Commands:
//
//	lives ISSUER ANCHOR  the lifetimes; a transcript has it once, where it begins
//	run TOTAL STEP       lets time pass; everybody acts once a step
//	request anchor       what `linkerd identity rotate --anchor` does; likewise issuer and cancel
//	leaf LIFETIME        changes the lifetime of workloads' certificates
//	crash before N       the process dies at its Nth write from now, before it; or `after`
//	start NAME [live]    starts a proxy, of ours if live, with the bundle of the time
//	save                 keeps issuer and bundle, as a manifest does
//	apply                applies what was kept
//	lose roots           empties the bundle's annotations, as a tool may
//	lose next            takes the next anchor out of the bundle but leaves the annotations, as another may
//
// Lines with # are comments. What is not printed is checked all the time: every proxy accepts every other's certificate.
func TestTranscripts(t *testing.T) {
	golden.Files(t, "testdata", ".txt", func(t *testing.T, text string) (got string) {
		synctest.Test(t, func(t *testing.T) { got = play(t, text) })
		return got
	})
}

func play(t *testing.T, text string) string {
	policy := testPolicy
	if _, lives, ok := strings.Cut(text, "> lives "); ok {
		lives, _, _ = strings.Cut(lives, "\n")
		issuer, anchor, _ := strings.Cut(lives, " ")
		policy.IssuerLifetime, policy.AnchorLifetime = must[time.Duration](t)(time.ParseDuration(issuer)), must[time.Duration](t)(time.ParseDuration(anchor))
	}
	m := newMesh(t, policy)
	var saved *objects
	var out strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "#") || line == "" {
			fmt.Fprintln(&out, line)
		}
		command, ok := strings.CutPrefix(line, "> ")
		if !ok {
			continue
		}
		fmt.Fprintln(&out, line)
		f := append(strings.Fields(command), "", "", "")
		span := func(s string) time.Duration { return must[time.Duration](t)(time.ParseDuration(s)) }
		switch f[0] {
		case "lives": // was read before
		case "run":
			m.run(span(f[1]), span(f[2]))
		case "request":
			m.request("request-" + f[1])
			time.Sleep(time.Second)
		case "leaf":
			m.policy.Leaf = span(f[1])
		case "crash":
			m.crashAfter = f[1] == "after"
			if _, err := fmt.Sscan(f[2], &m.crash); err != nil {
				t.Fatal(err)
			}
			m.crash--
		case "start":
			m.mount()
			m.add(f[1], f[2] == "live")
		case "save":
			saved = m.objects()
		case "apply":
			m.put(saved)
			m.show()
		case "lose":
			o := m.objects()
			if f[1] == "next" {
				w := must[World](t)(o.world(time.Now()))
				o.roots.Data[names.ConfigMapTrustRootsBundle] = string(encodeCerts(without(w.Bundle, []string{fingerprint(w.Keys.Next.Cert)})...))
			} else {
				o.roots.Annotations = nil
			}
			m.put(o)
		default:
			t.Fatalf("unknown command %q", command)
		}
		out.WriteString(m.out.String())
		m.out.Reset()
	}
	return out.String()
}

// TestCrashAnywhere lets the process die at each write of a whole rotation, before and after the write.
func TestCrashAnywhere(t *testing.T) {
	for _, after := range []bool{false, true} {
		for n := 0; ; n++ {
			done := false
			t.Run(fmt.Sprintf("after=%v/write=%d", after, n), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := newMesh(t, testPolicy)
					m.run(2*time.Hour, time.Hour)
					old := m.objects()
					m.request(api.KeyRequestAnchor)
					time.Sleep(time.Second)
					m.crash, m.crashAfter = n, after
					m.run(60*time.Hour, time.Hour)
					done = m.crash >= 0 // it never came to that write
					w := must[World](t)(m.objects().world(time.Now()))
					if w.Keys.Next != nil || len(w.Bundle) != 1 || !w.Bundle[0].Equal(w.Keys.Current.Cert) || !signedBy(w.Issuer, w.Bundle[0], time.Now()) {
						t.Errorf("the rotation did not end: %s", m.shown)
					}
					if before := must[World](t)(old.world(time.Now())); before.Bundle[0].Equal(w.Bundle[0]) {
						t.Error("the anchor is still the old one")
					}
				})
			})
			if done || t.Failed() {
				break
			}
		}
	}
}

// TestAnotherAnchorStays has an anchor of somebody else's in the bundle.
func TestAnotherAnchorStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, testPolicy)
		other := must[*Authority](t)(newAnchor("root of a linked cluster", time.Hour*24*365, time.Now()))
		o := m.objects()
		o.roots.Data[names.ConfigMapTrustRootsBundle] += string(encodeCerts(other.Cert))
		m.put(o)
		m.request(api.KeyRequestAnchor)
		time.Sleep(time.Second)
		m.run(60*time.Hour, 30*time.Minute)
		w := must[World](t)(m.objects().world(time.Now()))
		if len(w.Bundle) != 2 || !contains(w.Bundle, other.Cert) || !contains(w.Bundle, w.Keys.Current.Cert) {
			t.Errorf("bundle: %s", m.shown)
		}
	})
}

// TestManifestOfTheInstallation is applied again after a rotation: with the first anchor and its key, besides the bundle and the
// issuer of then.
func TestManifestOfTheInstallation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, testPolicy)
		secrets := corev1.SchemeGroupVersion.WithResource("secrets")
		first := m.objects()
		anchor := first.anchor.DeepCopy()
		anchor.Data = map[string][]byte{api.KeyFirstCert: anchor.Data[api.KeyCurrentCert], api.KeyFirstKey: anchor.Data[api.KeyCurrentKey]}
		if err := m.client.Tracker().Update(secrets, anchor, ns); err != nil {
			t.Fatal(err)
		}
		m.run(time.Hour, time.Hour)
		m.request(api.KeyRequestAnchor)
		time.Sleep(time.Second)
		m.run(60*time.Hour, 30*time.Minute)
		rotated := must[World](t)(m.objects().world(time.Now()))
		if rotated.Keys.Current.Cert.Equal(must[World](t)(first.world(time.Now())).Keys.Current.Cert) {
			t.Fatal("nothing rotated")
		}
		again := m.objects().anchor
		for key, value := range anchor.Data {
			again.Data[key] = value
		}
		if err := m.client.Tracker().Update(secrets, again, ns); err != nil {
			t.Fatal(err)
		}
		m.put(first)
		m.run(30*time.Hour, 30*time.Minute)
		w := must[World](t)(m.objects().world(time.Now()))
		if !w.Keys.Current.Cert.Equal(rotated.Keys.Current.Cert) || len(w.Bundle) != 1 || !w.Bundle[0].Equal(w.Keys.Current.Cert) {
			t.Errorf("the first anchor came back: %s", m.shown)
		}
	})
}

// TestUnreadableAnchorIsReported breaks the Secret; nothing else may be touched then.
func TestUnreadableAnchorIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, testPolicy)
		m.run(time.Hour, time.Hour)
		o := m.objects()
		delete(o.anchor.Data, api.KeyCurrentKey)
		if err := m.client.Tracker().Update(corev1.SchemeGroupVersion.WithResource("secrets"), o.anchor, ns); err != nil {
			t.Fatal(err)
		}
		if err := m.controller().Settle(t.Context()); err != nil {
			t.Fatal(err)
		}
		s := must[*api.Status](t)(api.ParseStatus(m.objects().state.Data))
		if s == nil || s.Neglected(time.Now()) != "secret linkerd-identity-trust-anchor: no private key" {
			t.Errorf("status %+v", s)
		}
		if string(m.objects().issuer.Data[names.IssuerLinkerdCert]) != string(o.issuer.Data[names.IssuerLinkerdCert]) {
			t.Error("issuer was changed")
		}
	})
}

func TestPolicy(t *testing.T) {
	for _, c := range []struct {
		edit func(*Policy)
		want string
	}{
		{func(*Policy) {}, ""},
		{func(p *Policy) { p.RenewAt = 1 }, "between 0 and 1"},
		{func(p *Policy) { p.Leaf = 0 }, "must be positive"},
		{func(p *Policy) { p.IssuerLifetime = 48 * time.Hour }, "cannot outlive the certificates"},
		{func(p *Policy) { p.AnchorLifetime = 24 * time.Hour }, "does not leave time for a rotation"},
	} {
		p := testPolicy
		c.edit(&p)
		if err := p.Validate(); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", p, err, c.want)
		}
	}
}
