package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func find(text, pattern string) bool { return regexp.MustCompile(pattern).MatchString(text) }

// nobodyThere is the configuration of a cluster at a port on which nobody listens.
const nobodyThere = `apiVersion: v1
kind: Config
current-context: nobody
contexts: [{name: nobody, context: {cluster: nobody, user: nobody}}]
clusters: [{name: nobody, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: nobody, user: {}}]
`

// TestBadInput: each mistake is named, exits with an error and changes nothing.
func TestBadInput(t *testing.T) {
	w := newWorld(t, injected)
	nobody := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(nobody, []byte(nobodyThere), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, command, want string
	}{
		{"unknown flag", "linkerd install --frobnicate", `unknown flag: --frobnicate`},
		{"unknown command", "linkerd frobnicate", `frobnicate`},
		{"broken manifest", "printf 'kind: [' | linkerd inject -", `(?i)yaml`},
		{"missing manifest", "linkerd inject /no/such/file.yaml", `/no/such/file\.yaml`},
		{"no cluster", "KUBECONFIG=/no/such/config linkerd check", `(?i)kubeconfig|kubernetes|configuration`},
		{"cluster that does not answer", "linkerd check --wait=0s --kubeconfig " + nobody, `127\.0\.0\.1:1.*refused`},
		{"no rights", "linkerd check --pre --as nobody --wait=0s", `(?i)can create|forbidden`},
		{"bad value", "linkerd install --ignore-cluster --set proxy.image.pullPolicy=Sometimes", `(?i)pull.?policy|Sometimes`},
		{"identity files that do not exist", "linkerd install --identity-issuer-certificate-file /no/such/crt --identity-issuer-key-file /no/such/key --identity-trust-anchors-file /no/such/ca", `/no/such/`},
		{"already installed", "linkerd install", `(?i)already|exists|upgrade`},
	} {
		w.run(c.name, func(w *world) {
			t := w.t
			out := w.fails(c.command)
			if !find(out, c.want) {
				t.Errorf("$ %s printed nothing like %q but\n%s", c.command, c.want, out)
			}
			if strings.Contains(out, "goroutine ") {
				t.Errorf("a panic:\n%s", out)
			}
		})
	}

	w.run("bad annotation value", func(w *world) {
		w.apply(client("crooked", "http://nowhere", 1, "config.linkerd.io/admin-port: lots"))
		w.eventually(patience, "an event that names the value", func() error {
			out := w.must("kubectl -n " + w.ns + " get events -o custom-columns=R:.reason,M:.message --no-headers")
			if find(out, `admin-port`) || find(out, `"lots"`) {
				return nil
			}
			return errorText(out)
		})
	})
}

type errorText string

func (e errorText) Error() string { return "saw only:\n" + string(e) }
