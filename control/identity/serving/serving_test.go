package serving

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/linkerd-go/linkerd-go/internal/leaks"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

const (
	ns   = "linkerd"
	host = "linkerd-proxy-injector.linkerd.svc"
)

var (
	injector   = All["proxy-injector"]
	testPolicy = Policy{Lifetime: 24 * time.Hour, RenewAt: 2. / 3, Margin: 5 * time.Minute}
)

// cluster is one in virtual time: the objects, pods that serve what the Secret had some time ago, and API servers that trust what
// the configuration said some time ago. Whenever it is looked at, each API server has to accept each pod.
type cluster struct {
	t      *testing.T
	client *fake.Clientset
	c      *Controller
	// pods and servers are how late each is.
	pods, servers []time.Duration
	secrets       []version[map[string][]byte]
	bundles       []version[[]byte]
	told, failed  []string
	// accepted is until when what was found good stays so.
	accepted map[string]time.Time
	// crash makes a write fail: at 0, before it is done or after.
	crash      int
	crashAfter bool
}

// version is what an object had from some time on.
type version[T any] struct {
	since time.Time
	value T
}

// at returns what was there at a time.
func at[T any](history []version[T], when time.Time) T {
	for _, v := range slices.Backward(history) {
		if !v.since.After(when) {
			return v.value
		}
	}
	return history[0].value
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// newCluster is what an installation leaves. Without a pair there is no Secret and no bundle.
func newCluster(t *testing.T, pair *Pair, create bool) *cluster {
	t.Helper()
	k := &cluster{t: t, crash: -1, accepted: map[string]time.Time{}, pods: []time.Duration{0, 70 * time.Second, 290 * time.Second}, servers: []time.Duration{0, 3 * time.Second, 280 * time.Second}}
	configuration := &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: injector.Configuration()},
		Webhooks: []admissionregistrationv1.MutatingWebhook{
			{Name: "somebody.else", ClientConfig: admissionregistrationv1.WebhookClientConfig{CABundle: []byte("theirs")}},
			{Name: injector.Name()},
		},
	}
	k.client = fake.NewSimpleClientset()
	if pair != nil {
		configuration.Webhooks[1].ClientConfig.CABundle = pair.CertPEM
		must[*corev1.Secret](t)(k.client.CoreV1().Secrets(ns).Create(t.Context(), secretOf(pair), metav1.CreateOptions{}))
	}
	must[*admissionregistrationv1.MutatingWebhookConfiguration](t)(k.client.AdmissionregistrationV1().MutatingWebhookConfigurations().Create(t.Context(), configuration, metav1.CreateOptions{}))
	k.client.PrependReactor("*", "*", func(action clienttesting.Action) (bool, runtime.Object, error) {
		if verb := action.GetVerb(); k.crash < 0 || verb != "update" && verb != "patch" && verb != "create" {
			return false, nil, nil
		}
		k.crash--
		if k.crash >= 0 {
			return false, nil, nil
		}
		if k.crashAfter {
			if _, _, err := clienttesting.ObjectReaction(k.client.Tracker())(action); err != nil {
				t.Error(err)
			}
		}
		return true, nil, errors.New("the process died")
	})
	k.c = must[*Controller](t)(New(Options{
		Client: k.client, Namespace: ns, Webhooks: []Webhook{injector}, Policy: testPolicy, Interval: time.Minute, Create: create,
		Event: func(m string) { k.told = append(k.told, m) }, Failure: func(m string) { k.failed = append(k.failed, m) },
		Logger: slog.New(slog.DiscardHandler),
	}))
	k.look()
	return k
}

func secretOf(pair *Pair) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: injector.Secret()}, Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{"tls.crt": pair.CertPEM, "tls.key": pair.KeyPEM},
	}
}

func (k *cluster) secret() *corev1.Secret {
	k.t.Helper()
	return must[*corev1.Secret](k.t)(k.client.CoreV1().Secrets(ns).Get(k.t.Context(), injector.Secret(), metav1.GetOptions{}))
}

func (k *cluster) configuration() *admissionregistrationv1.MutatingWebhookConfiguration {
	k.t.Helper()
	return must[*admissionregistrationv1.MutatingWebhookConfiguration](k.t)(
		k.client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(k.t.Context(), injector.Configuration(), metav1.GetOptions{}))
}

// look takes the objects into the histories.
func (k *cluster) look() {
	if secret, err := k.client.CoreV1().Secrets(ns).Get(k.t.Context(), injector.Secret(), metav1.GetOptions{}); err == nil {
		if n := len(k.secrets); n == 0 || !bytes.Equal(k.secrets[n-1].value["tls.crt"], secret.Data["tls.crt"]) {
			k.secrets = append(k.secrets, version[map[string][]byte]{time.Now(), secret.Data})
		}
	}
	bundle := k.configuration().Webhooks[1].ClientConfig.CABundle
	if n := len(k.bundles); n == 0 || !bytes.Equal(k.bundles[n-1].value, bundle) {
		k.bundles = append(k.bundles, version[[]byte]{time.Now(), bundle})
	}
}

// ask has API servers ask pods, of which none may be late by more than a limit.
func (k *cluster) ask(limit time.Duration) error {
	now := time.Now()
	for _, pod := range k.pods {
		data := at(k.secrets, now.Add(-pod))
		for _, server := range k.servers {
			if pod > limit || server > limit {
				continue
			}
			if err := k.accepts(data, at(k.bundles, now.Add(-server)), now); err != nil {
				return fmt.Errorf("pod %s late, API server %s late: %w", pod, server, err)
			}
		}
	}
	return nil
}

// accepts checks what a pod serves against what an API server trusts.
func (k *cluster) accepts(data map[string][]byte, bundle []byte, now time.Time) error {
	key := string(data["tls.crt"]) + string(bundle)
	if until, ok := k.accepted[key]; ok && now.Before(until) {
		return nil // as the last time
	}
	pair, err := tls.X509KeyPair(data["tls.crt"], data["tls.key"])
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	if _, err = pair.Leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: roots, CurrentTime: now}); err == nil {
		k.accepted[key] = pair.Leaf.NotAfter
	}
	return err
}

// run lets time pass. The controller acts once a step, and everybody asks after it.
func (k *cluster) run(total, step time.Duration) {
	k.t.Helper()
	for end := time.Now().Add(total); time.Now().Before(end); time.Sleep(step) {
		k.c.complain(injector, k.c.Settle(k.t.Context(), injector))
		k.look()
		if err := k.ask(time.Hour); err != nil {
			k.t.Fatalf("after %v: %v", k.told, err)
		}
	}
}

// served counts the certificates that were ever served.
func (k *cluster) served() int { return len(k.secrets) }

// rest checks that nothing is left of a rotation.
func (k *cluster) rest() {
	k.t.Helper()
	secret, configuration := k.secret(), k.configuration()
	if bundle := configuration.Webhooks[1].ClientConfig.CABundle; !bytes.Equal(bundle, secret.Data["tls.crt"]) {
		k.t.Errorf("%d certificates are trusted after %v", len(decode(bundle)), k.told)
	}
	if len(secret.Data[keyNextKey]) > 0 {
		k.t.Error("something of a rotation is left")
	}
	if string(configuration.Webhooks[0].ClientConfig.CABundle) != "theirs" {
		k.t.Error("somebody else's webhook was changed")
	}
}

// TestReplacesInTime: for days of certificates that live for one, however late anybody is, nobody is refused.
func TestReplacesInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pair := must[*Pair](t)(NewPair(host, 24*time.Hour, time.Now()))
		k := newCluster(t, pair, false)
		k.run(97*time.Hour, 47*time.Second)
		// A life of a day ends after 16 hours.
		if n := k.served(); n != 7 {
			t.Errorf("%d certificates were served in 97 hours, want 7", n)
		}
		k.rest()
		if want := 4 * (k.served() - 1); len(k.told) != want || len(k.failed) > 0 {
			t.Errorf("%d events, want %d; failures %v; the first %v", len(k.told), want, k.failed, k.told[:4])
		}
	})
}

// TestCrashAnywhere lets the process die at each write, before it and after it.
func TestCrashAnywhere(t *testing.T) {
	for _, after := range []bool{false, true} {
		for n := range 6 {
			t.Run(fmt.Sprintf("after=%v/write=%d", after, n), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					k := newCluster(t, must[*Pair](t)(NewPair(host, 24*time.Hour, time.Now())), false)
					k.crash, k.crashAfter = n, after
					k.run(17*time.Hour, 2*time.Minute)
					if k.served() != 2 {
						t.Errorf("%d certificates were served, want 2: %v", k.served(), k.told)
					}
					k.rest()
				})
			})
		}
	}
}

// TestManifestAppliedAgain: who applies the manifest of the first day puts an older certificate into Secret and bundle. The pods go on
// serving the newer one for as long as a file takes to follow, and the next look makes it trusted again.
func TestManifestAppliedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := must[*Pair](t)(NewPair(host, 24*time.Hour, time.Now()))
		k := newCluster(t, first, false)
		k.run(17*time.Hour, time.Minute)
		secret, configuration := k.secret(), k.configuration()
		secret.Data["tls.crt"], secret.Data["tls.key"] = first.CertPEM, first.KeyPEM
		configuration.Webhooks[1].ClientConfig.CABundle = first.CertPEM
		must[*corev1.Secret](t)(k.client.CoreV1().Secrets(ns).Update(t.Context(), secret, metav1.UpdateOptions{}))
		must[*admissionregistrationv1.MutatingWebhookConfiguration](t)(k.client.AdmissionregistrationV1().MutatingWebhookConfigurations().Update(t.Context(), configuration, metav1.UpdateOptions{}))
		k.look()
		if err := k.ask(100 * time.Second); err == nil {
			t.Fatal("the test is about nothing")
		}
		if err := k.c.Settle(t.Context(), injector); err != nil {
			t.Fatal(err)
		}
		k.look()
		k.servers = []time.Duration{0}
		k.run(2*time.Hour, time.Minute)
		// It was past its time, and is replaced again.
		if k.served() != 4 {
			t.Errorf("%d certificates were served, want 4: %v", k.served(), k.told)
		}
		k.rest()
	})
}

// TestNothingUsable: what is missing, broken or expired is made anew at once, for there is nobody to wait for.
func TestNothingUsable(t *testing.T) {
	old := func(t *testing.T) *Pair {
		return must[*Pair](t)(NewPair(host, time.Hour, time.Now().Add(-2*time.Hour)))
	}
	for name, pair := range map[string]func(t *testing.T) *Pair{
		"no secret": func(*testing.T) *Pair { return nil },
		"expired":   old,
		"for another": func(t *testing.T) *Pair {
			return must[*Pair](t)(NewPair("linkerd-sp-validator.linkerd.svc", 24*time.Hour, time.Now()))
		},
		"garbage": func(t *testing.T) *Pair { p := old(t); p.CertPEM = []byte("x"); return p },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newCluster(t, pair(t), true)
				if err := k.c.Settle(t.Context(), injector); err != nil {
					t.Fatal(err)
				}
				k.secrets, k.bundles = nil, nil // all follow
				k.look()
				if err := k.ask(time.Hour); err != nil {
					t.Fatal(err)
				}
				k.run(time.Hour, time.Minute)
				k.rest()
			})
		})
	}
	// Nobody said that it may be made.
	k := newCluster(t, nil, false)
	if err := k.c.Settle(t.Context(), injector); err == nil || !strings.Contains(err.Error(), `secrets "linkerd-proxy-injector-k8s-tls" not found`) {
		t.Error(err)
	}
}

// TestForeign: what bears the marks of another keeper stays as it is, and one complaint is made.
func TestForeign(t *testing.T) {
	for name, c := range map[string]struct {
		mark func(*corev1.Secret, *admissionregistrationv1.MutatingWebhookConfiguration)
		want string
	}{
		"secret of cert-manager": {func(s *corev1.Secret, _ *admissionregistrationv1.MutatingWebhookConfiguration) {
			s.Annotations = map[string]string{"cert-manager.io/certificate-name": "x"}
		}, "secret linkerd-proxy-injector-k8s-tls is not the control plane's own: annotation cert-manager.io/certificate-name"},
		"bundle of cert-manager": {func(_ *corev1.Secret, m *admissionregistrationv1.MutatingWebhookConfiguration) {
			m.Annotations = map[string]string{"cert-manager.io/inject-ca-from": "x/y"}
		}, "configuration linkerd-proxy-injector-webhook-config is not the control plane's own: annotation cert-manager.io/inject-ca-from"},
		"secret with an owner": {func(s *corev1.Secret, _ *admissionregistrationv1.MutatingWebhookConfiguration) {
			s.OwnerReferences = []metav1.OwnerReference{{Kind: "SealedSecret", Name: "x"}}
		}, "secret linkerd-proxy-injector-k8s-tls is not the control plane's own: owned by SealedSecret x"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newCluster(t, must[*Pair](t)(NewPair(host, 24*time.Hour, time.Now())), true)
				secret, configuration := k.secret(), k.configuration()
				c.mark(secret, configuration)
				must[*corev1.Secret](t)(k.client.CoreV1().Secrets(ns).Update(t.Context(), secret, metav1.UpdateOptions{}))
				must[*admissionregistrationv1.MutatingWebhookConfiguration](t)(k.client.AdmissionregistrationV1().MutatingWebhookConfigurations().Update(t.Context(), configuration, metav1.UpdateOptions{}))
				k.run(23*time.Hour, time.Minute)
				var foreign *ErrForeign
				if err := k.c.Settle(context.Background(), injector); !errors.As(err, &foreign) || err.Error() != c.want {
					t.Errorf("error %v, want %s", err, c.want)
				}
				if k.served() != 1 || len(k.told) > 0 || len(k.failed) != 1 {
					t.Errorf("%d certificates, events %v, failures %v", k.served(), k.told, k.failed)
				}
			})
		})
	}
}

func TestPolicies(t *testing.T) {
	for _, c := range []struct {
		policy Policy
		want   string
	}{
		{testPolicy, ""},
		{Policy{Lifetime: 8760 * time.Hour, RenewAt: 0.667, Margin: 5 * time.Minute}, ""},
		{Policy{Lifetime: 8760 * time.Hour, RenewAt: 1, Margin: 5 * time.Minute}, "between 0 and 1"},
		{Policy{Lifetime: time.Hour, RenewAt: 0.9, Margin: 5 * time.Minute}, "does not leave time for the change (15m0s)"},
		{Policy{Lifetime: -time.Hour, RenewAt: 0.5}, "must be positive"},
		{Policy{Lifetime: time.Hour, RenewAt: 0.5, Margin: -1}, "must not be negative"},
	} {
		_, err := New(Options{Policy: c.policy})
		if got := fmt.Sprint(err); c.want == "" && err != nil || c.want != "" && !strings.Contains(got, c.want) {
			t.Errorf("%+v: %v, want %q", c.policy, err, c.want)
		}
	}
}

func TestParse(t *testing.T) {
	hooks, err := Parse("policy-validator, proxy-injector", "-other")
	if err != nil || len(hooks) != 2 || hooks[0].Secret() != "linkerd-policy-validator-k8s-tls" || !hooks[1].Mutating || hooks[1].Configuration() != "linkerd-proxy-injector-webhook-config-other" {
		t.Errorf("%v %v", hooks, err)
	}
	if _, err := Parse("tap-injector", ""); err == nil || err.Error() != `there is no webhook "tap-injector"` {
		t.Error(err)
	}
}
