package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/linkerd-go/linkerd-go/internal/command"
	"github.com/linkerd-go/linkerd-go/internal/command/commandtest"
	"github.com/linkerd-go/linkerd-go/internal/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

const workloadName = "web.shop.serviceaccount.identity.linkerd.cluster.local"

// serving returns a server that shows a certificate to whoever asks for its
// name.
func serving(t *testing.T) func(net.Conn) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: workloadName}, DNSNames: []string{workloadName},
		NotBefore: commandtest.Start, NotAfter: commandtest.Start.AddDate(0, 0, 1),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if hello.ServerName != workloadName {
			t.Errorf("the client asks for %q", hello.ServerName)
		}
		return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
	}}
	return func(c net.Conn) { _ = tls.Server(c, config).Handshake() }
}

func pod(name string, meshed bool, phase corev1.PodPhase) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{ServiceAccountName: "web"},
		Status:     corev1.PodStatus{Phase: phase},
	}
	if meshed {
		p.Spec.InitContainers = []corev1.Container{{
			Name:  "linkerd-proxy",
			Ports: []corev1.ContainerPort{{Name: "linkerd-admin", ContainerPort: 4191}},
			Env:   []corev1.EnvVar{{Name: "LINKERD2_PROXY_IDENTITY_LOCAL_NAME", Value: "$(_pod_sa).$(_pod_ns).serviceaccount.identity.linkerd.cluster.local"}},
		}}
	}
	return p
}

func TestIdentity(t *testing.T) {
	cases := []struct {
		name string
		args []string
		// out and errs are parts of what is printed.
		out, errs []string
		fails     bool
	}{
		{
			name: "a pod",
			args: []string{"web-1", "-n", "shop"},
			out: []string{"\nPOD web-1 (1 of 1)\n\nCertificate:\n    Data:\n        Version: 3 (0x2)\n        Serial Number: 7 (0x7)\n",
				"            Not Before: Mar 14 15:09:26 2026 UTC\n            Not After : Mar 15 15:09:26 2026 UTC\n        Subject: CN=" + workloadName + "\n",
				"            X509v3 Subject Alternative Name:\n                DNS:" + workloadName + "\n"},
		},
		{
			name: "by label, going on after a failure",
			args: []string{"-l", "app=web", "-n", "shop"},
			out:  []string{"POD pending (1 of 3)", "POD plain (2 of 3)", "POD web-1 (3 of 3)\n\nCertificate:"},
			errs: []string{"pod not running: pending\n",
				"plain: Could not fetch Certificate. Ensure that the pod(s) are meshed by running `linkerd inject`\n"},
			fails: true,
		},
		{
			name: "as JSON",
			args: []string{"web-1", "-n", "shop", "-o", "json"},
			out:  []string{`"dnsNames": [` + "\n" + `      "` + workloadName + `"`, `"notAfter": "2026-03-15T15:09:26Z"`},
		},
		{name: "by type", args: []string{"pod/web-1", "-n", "shop"}, out: []string{"POD web-1 (1 of 1)\n\nCertificate:"}},
		{name: "unknown", args: []string{"web-2", "-n", "shop"}, errs: []string{`pods "web-2" not found in namespace "shop"`}, fails: true},
		{name: "unknown in the namespace of the context", args: []string{"web-2"}, errs: []string{`pods "web-2" not found in namespace "default"`}, fails: true},
		{name: "unknown label", args: []string{"-l", "app=db", "-n", "shop"}, errs: []string{`No pods found in namespace "shop"`}, fails: true},
		{name: "unknown of a type", args: []string{"deploy/web", "-n", "shop"}, errs: []string{`deployment/web not found in namespace "shop"`}, fails: true},
		{name: "nothing", errs: []string{"Provide the pod name argument or use the selector flag"}, fails: true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := commandtest.New(t, commandtest.Cluster(t, pod("web-1", true, corev1.PodRunning), pod("plain", false, corev1.PodRunning), pod("pending", true, corev1.PodPending)))
			r.Ports[commandtest.Address("shop", "web-1", 4191)] = serving(t)
			cmd := New(r.World, &command.Globals{})
			cmd.SilenceErrors, cmd.SilenceUsage = true, true
			cmd.SetArgs(append([]string{}, c.args...))
			err := cmd.Execute()
			if (err != nil) != c.fails {
				t.Errorf("error is %v", err)
			}
			errs := r.Err.String()
			if err != nil {
				errs += err.Error()
			}
			for _, want := range c.out {
				if !strings.Contains(r.Out.String(), want) {
					t.Errorf("no %q in\n%s", want, r.Out)
				}
			}
			for _, want := range c.errs {
				if !strings.Contains(errs, want) {
					t.Errorf("no %q in\n%s", want, errs)
				}
			}
		})
	}
}
