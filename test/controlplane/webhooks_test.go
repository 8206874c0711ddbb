package controlplane

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/linkerd-go/linkerd-go/control/identity/serving"
)

// guarded is a webhook with the controller that serves it, and an object of which each creation asks it.
type guarded struct {
	w         *world
	service   string
	component string
	kind      string
	object    string
	asked     atomic.Int64

	mu     sync.Mutex // guards served
	served [][]byte   // the certificates that the kubelet has put into the pod
}

// webhookLives are options of the identity controller with which certificates are replaced while a test watches: as soon as one
// is served everywhere, its successor is made. They live for much longer, so that a slow machine makes none expire.
var webhookLives = []string{
	"-webhook-certificates=proxy-injector,sp-validator,policy-validator", "-webhook-certificates-lifetime=30m",
	"-webhook-certificates-renew-at=0.005", "-webhook-certificates-margin=10s", "-webhook-certificates-interval=200ms",
}

// TestWebhookCertificates: certificates of webhooks are replaced over and over, one after the other, while the API server asks the
// webhooks all the time. Not one request fails, and none of the pods starts anew.
func TestWebhookCertificates(t *testing.T) {
	w := leasedWorld(t)
	hooks := []*guarded{
		{service: "linkerd-proxy-injector", component: "proxy-injector", kind: "mutatingwebhookconfigurations",
			object: "apiVersion: v1\nkind: Service\nmetadata: {name: asked}\nspec: {ports: [{port: 80}]}"},
		{service: "linkerd-sp-validator", component: "sp-validator", kind: "validatingwebhookconfigurations",
			object: "apiVersion: linkerd.io/v1alpha2\nkind: ServiceProfile\nmetadata: {name: asked.app.svc.cluster.local}\nspec: {routes: []}"},
		{service: "linkerd-policy-validator", component: "policy", kind: "validatingwebhookconfigurations",
			object: "apiVersion: policy.linkerd.io/v1beta3\nkind: Server\nmetadata: {name: asked}\nspec: {podSelector: {}, port: http}"},
	}
	for _, g := range hooks {
		g.install(w)
	}
	identity := w.start("identity", starting{args: webhookLives}).ready()

	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	defer all.Wait()
	defer stop()
	for _, g := range hooks {
		all.Go(func() { g.kubelet(ctx) })
		all.Go(func() { g.ask(ctx) })
	}
	for _, g := range hooks {
		w.eventually(3*time.Minute, g.service+" to have served three certificates, and to be asked", func() error {
			if n := g.count(); n < 3 || g.asked.Load() < 20 {
				return fmt.Errorf("%d certificates, %d requests", n, g.asked.Load())
			}
			return nil
		})
	}
	stop()
	all.Wait()
	w.event("WebhookCertificate", 2)
	for _, g := range hooks {
		t.Logf("%s: %d certificates, %d requests", g.service, g.count(), g.asked.Load())
	}
	identity.Stop(soon) // gives the lease back
	for _, e := range w.api.Audit() {
		if e.Forbidden() {
			t.Errorf("%s may not %s %s", e.User.Name, e.Verb, e.URI)
		}
	}
}

// note keeps a certificate that is served from now on.
func (g *guarded) note(crt []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n := len(g.served); n == 0 || !bytes.Equal(g.served[n-1], crt) {
		g.served = append(g.served, crt)
	}
}

// count is how many certificates were served.
func (g *guarded) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.served)
}

// ageWebhook gives a webhook's Secret a certificate that is due, and good for ten minutes more.
func (w *world) ageWebhook(service string) *corev1.Secret {
	w.t.Helper()
	pair, err := serving.NewPair(service+"."+mesh+".svc", time.Hour, time.Now().Add(-50*time.Minute))
	w.check(err)
	secret, err := w.kube.CoreV1().Secrets(mesh).Get(w.t.Context(), service+"-k8s-tls", metav1.GetOptions{})
	w.check(err)
	secret.Data = map[string][]byte{"tls.crt": pair.CertPEM, "tls.key": pair.KeyPEM}
	secret, err = w.kube.CoreV1().Secrets(mesh).Update(w.t.Context(), secret, metav1.UpdateOptions{})
	w.check(err)
	return secret
}

// install starts the controller with a certificate that is about to expire, and has the API server ask it by its Service's name.
func (g *guarded) install(w *world) {
	own := *w
	g.w = &own
	g.w.mounts = w.t.TempDir()
	w.check(os.CopyFS(g.w.mounts, os.DirFS(w.mounts)))
	secret := w.ageWebhook(g.service)
	w.check(g.mount(secret))
	c := g.w.start(g.component, starting{}).ready()

	// Without a network of pods the Service is a name for this machine.
	_, port, _ := strings.Cut(c.webhook, ":")
	services := w.kube.CoreV1().Services(mesh)
	w.check(services.Delete(w.t.Context(), g.service, metav1.DeleteOptions{}))
	_, err := services.Create(w.t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: g.service}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "localhost"},
	}, metav1.CreateOptions{})
	w.check(err)
	patch, err := json.Marshal(map[string]any{"webhooks": []any{map[string]any{
		"name": g.service + ".linkerd.io", "failurePolicy": "Fail",
		"clientConfig": map[string]any{"caBundle": secret.Data["tls.crt"], "service": map[string]any{"namespace": mesh, "name": g.service, "port": json.Number(port)}},
	}}})
	w.check(err)
	gvr := schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: g.kind}
	_, err = w.dyn.Resource(gvr).Patch(w.t.Context(), g.service+"-webhook-config", types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	w.check(err)
	w.eventually(soon, g.service+" to answer", func() error { return g.try(w.t.Context()) })
}

// mount does what the kubelet does: all files of a Secret change at once.
func (g *guarded) mount(secret *corev1.Secret) error {
	g.note(secret.Data["tls.crt"])
	dir := filepath.Join(g.w.mounts, "tls")
	next, err := os.MkdirTemp(dir, "..next-")
	if err != nil {
		return err
	}
	for name, data := range secret.Data {
		if err := os.WriteFile(filepath.Join(next, name), data, 0o600); err != nil {
			return err
		}
	}
	link := filepath.Join(dir, "..tmp")
	if err := os.Symlink(filepath.Base(next), link); err != nil {
		return err
	}
	if err := os.Rename(link, filepath.Join(dir, "..data")); err != nil {
		return err
	}
	for name := range secret.Data {
		path := filepath.Join(dir, name)
		if to, err := os.Readlink(path); err == nil && to == filepath.Join("..data", name) {
			continue
		}
		os.Remove(path)
		if err := os.Symlink(filepath.Join("..data", name), path); err != nil {
			return err
		}
	}
	return nil
}

// kubelet lets the pod's files follow the Secret, a second late.
func (g *guarded) kubelet(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	version := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		secret, err := g.w.kube.CoreV1().Secrets(mesh).Get(ctx, g.service+"-k8s-tls", metav1.GetOptions{})
		if err == nil && secret.ResourceVersion != version {
			version = secret.ResourceVersion
			err = g.mount(secret)
		}
		if err != nil && ctx.Err() == nil {
			g.w.t.Error(err)
			return
		}
	}
}

// ask creates an object ten times a second, of which nothing is kept. No answer may be a failure.
func (g *guarded) ask(ctx context.Context) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := g.try(ctx); err != nil {
			if ctx.Err() != nil {
				return
			}
			g.w.t.Errorf("request %d: %v; %s", g.asked.Load(), err, g.describe())
			return
		}
		g.asked.Add(1)
	}
}

func (g *guarded) try(ctx context.Context) error {
	o := g.w.decode(g.object)[0]
	ctx, cancel := context.WithTimeout(ctx, soon)
	defer cancel()
	_, err := g.w.clientOf(o).Create(ctx, o, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	return err
}

// describe tells what is served and trusted, for a failure.
func (g *guarded) describe() string {
	gvr := schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: g.kind}
	config, err := g.w.dyn.Resource(gvr).Get(context.Background(), g.service+"-webhook-config", metav1.GetOptions{})
	if err != nil {
		return err.Error()
	}
	hooks, _, _ := unstructured.NestedSlice(config.Object, "webhooks")
	bundle := fmt.Sprint(hooks[0].(map[string]any)["clientConfig"].(map[string]any)["caBundle"])
	served, err := os.ReadFile(filepath.Join(g.w.mounts, "tls/tls.crt"))
	block, _ := pem.Decode(served)
	if block == nil {
		return errors.Join(err, errors.New("nothing is served")).Error()
	}
	crt, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("served until %s, bundle of %d bytes", crt.NotAfter, len(bundle))
}
