package netlab_test

import (
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/linkerd-go/linkerd-go/redirect/cni"
	"github.com/linkerd-go/linkerd-go/redirect/nft"
	"github.com/linkerd-go/linkerd-go/redirect/rules"
)

// The plugin as a container runtime calls it: a process on the node (here the
// peer's namespace), a pod's namespace by path, an API to ask.
func TestCNIPlugin(t *testing.T) {
	lab := newLab(t)
	api := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/api/v1/namespaces/shop/pods/web-1":
			io.WriteString(w, `{"metadata": {"annotations": {"config.linkerd.io/skip-outbound-ports": "4567"}}, "spec": {"containers": [{"name": "linkerd-proxy"}]}}`)
		case "/api/v1/namespaces/shop":
			io.WriteString(w, `{}`)
		default:
			http.NotFound(w, r)
		}
	}))
	api.Listener.Close()
	api.Listener = lab.Peer.Listen(t, "tcp", "127.0.0.1:443")
	api.StartTLS()
	t.Cleanup(api.Close)
	kubeconfig, err := cni.Kubeconfig{
		Server: api.URL,
		CA:     pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: api.Certificate().Raw}),
		Token:  "secret",
	}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, kubeconfig, 0o600); err != nil {
		t.Fatal(err)
	}

	call := func(verb, pod string) (string, int) {
		cmd := command(t, cni.Type)
		cmd.Env = []string{
			"CNI_COMMAND=" + verb, "CNI_CONTAINERID=abc", "CNI_NETNS=" + lab.Pod.Path(), "CNI_IFNAME=eth0",
			"CNI_PATH=/opt/cni/bin", "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=" + pod,
		}
		cmd.Stdin = strings.NewReader(fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "n", "type": "linkerd-cni",
			"prevResult": {"cniVersion": "1.0.0", "ips": [{"address": "10.77.0.2/24"}]},
			"kubernetes": {"kubeconfig": %q},
			"linkerd": {"incoming-proxy-port": 4143, "outgoing-proxy-port": 4140, "proxy-uid": 2102,
				"inbound-ports-to-ignore": ["4191", "4190"], "iptables-mode": "nft", "ipv6": true}}`, path))
		return runIn(t, lab.Peer, cmd)
	}

	if out, code := call("CHECK", "web-1"); code == 0 || !strings.Contains(out, "redirection rules are missing") {
		t.Errorf("CHECK before ADD: exit code %d, output %s", code, out)
	}
	out, code := call("ADD", "web-1")
	if code != 0 || !strings.Contains(out, `"10.77.0.2/24"`) {
		t.Fatalf("ADD: exit code %d, output %s", code, out)
	}
	for _, family := range []rules.Family{rules.IPv4, rules.IPv6} {
		dial{from: "pod", uid: appUID, to: "PEER:80", want: "outbound PEER:80"}.check(t, lab, family)
		dial{from: "pod", uid: appUID, to: "PEER:4567", want: "app PEER:4567"}.check(t, lab, family)
		dial{from: "peer", to: "POD:8080", want: "inbound POD:8080"}.check(t, lab, family)
		dial{from: "peer", to: "POD:4191", want: "app POD:4191"}.check(t, lab, family)
	}
	if out, code := call("CHECK", "web-1"); code != 0 {
		t.Errorf("CHECK after ADD: exit code %d, output %s", code, out)
	}
	if out, code := call("DEL", "web-1"); code != 0 {
		t.Errorf("DEL: exit code %d, output %s", code, out)
	}

	// Rules that others have removed are noticed.
	if err := lab.Pod.Do(nft.Remove); err != nil {
		t.Fatal(err)
	}
	if out, code := call("CHECK", "web-1"); code == 0 {
		t.Errorf("CHECK after the rules are gone: exit code %d, output %s", code, out)
	}
	// The runtime gets an error in the form that it reads.
	if out, code := call("ADD", "web-2"); code == 0 || !strings.Contains(out, `"msg": "get namespaces/shop/pods/web-2`) {
		t.Errorf("ADD of an unknown pod: exit code %d, output %s", code, out)
	}
	if out, code := call("VERSION", ""); code != 0 || !strings.Contains(out, `"1.0.0"`) {
		t.Errorf("VERSION: exit code %d, output %s", code, out)
	}
}
