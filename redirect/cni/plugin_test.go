package cni

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/google/go-cmp/cmp"

	"github.com/linkerd-go/linkerd-go/redirect/install"
	"github.com/linkerd-go/linkerd-go/redirect/iptables"
	"github.com/linkerd-go/linkerd-go/redirect/rules"
)

// An api is a Kubernetes API that knows a few objects.
type api struct {
	*httptest.Server
	objects map[string]string // by path below /api/v1/
}

func newAPI(t *testing.T, objects map[string]string) *api {
	a := &api{objects: objects}
	a.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("authorization") != "Bearer secret" {
			http.Error(w, `{"kind": "Status", "message": "who are you?"}`, http.StatusUnauthorized)
			return
		}
		object, ok := a.objects[strings.TrimPrefix(r.URL.Path, "/api/v1/")]
		if !ok {
			http.Error(w, fmt.Sprintf(`{"kind": "Status", "message": "%s not found"}`, r.URL.Path), http.StatusNotFound)
			return
		}
		io.WriteString(w, object)
	}))
	a.Config.ErrorLog = nil
	t.Cleanup(a.Close)
	return a
}

// kubeconfig writes a kubeconfig for the API.
func (a *api) kubeconfig(t *testing.T, token string) string {
	t.Helper()
	data, err := Kubeconfig{
		Server: a.URL,
		CA:     pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Certificate().Raw}),
		Token:  token,
	}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const prevResult = `{"cniVersion": "1.0.0", "interfaces": [{"name": "eth0"}], "ips": [{"address": "10.1.2.3/24"}]}`

// netConf is what the container runtime passes.
func netConf(kubeconfig, mode string) []byte {
	return fmt.Appendf(nil, `{
		"cniVersion": "1.0.0", "name": "linkerd-cni", "type": "linkerd-cni", "log_level": "debug",
		"prevResult": %s,
		"kubernetes": {"kubeconfig": %q},
		"linkerd": {
			"incoming-proxy-port": 4143, "outgoing-proxy-port": 4140, "proxy-uid": 2102,
			"ports-to-redirect": [], "inbound-ports-to-ignore": ["4191", "4190"],
			"outbound-ports-to-ignore": ["25"], "subnets-to-ignore": ["10.0.0.0/8"],
			"simulate": false, "use-wait-flag": true, "iptables-mode": %q, "ipv6": true
		}
	}`, prevResult, kubeconfig, mode)
}

const (
	podArgs  = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-1;K8S_POD_INFRA_CONTAINER_ID=abc"
	podPath  = "namespaces/shop/pods/web-1"
	nsPath   = "namespaces/shop"
	svcPath  = "namespaces/default/services/kubernetes"
	plainPod = `{"spec": {"containers": [{"name": "app"}, {"name": "linkerd-proxy"}]}}`
	plainNS  = `{"metadata": {"name": "shop"}}`
)

// standard is what the configuration above asks for in a pod without
// annotations.
func standard() install.Config {
	return install.Config{
		Rules: rules.Options{
			InboundProxyPort: 4143, OutboundProxyPort: 4140, ProxyUID: 2102,
			PortsToRedirect:       []int{},
			InboundPortsToIgnore:  []string{"4191", "4190"},
			OutboundPortsToIgnore: []string{"25"},
			SubnetsToIgnore:       []string{"10.0.0.0/8"},
			IPv6:                  true,
		},
		Mode:  iptables.NFT,
		Netns: "/netns",
		Wait:  true,
	}
}

func TestAdd(t *testing.T) {
	cases := []struct {
		name    string
		args    string
		objects map[string]string
		want    func(*install.Config) // nil: the pod is skipped
		err     string
	}{
		{
			name:    "a pod with a proxy",
			objects: map[string]string{podPath: plainPod, nsPath: plainNS},
			want:    func(*install.Config) {},
		},
		{
			name:    "a native sidecar",
			objects: map[string]string{podPath: `{"spec": {"initContainers": [{"name": "linkerd-proxy"}], "containers": [{"name": "app"}]}}`, nsPath: plainNS},
			want:    func(*install.Config) {},
		},
		{
			name:    "no proxy",
			objects: map[string]string{podPath: `{"spec": {"initContainers": [{"name": "linkerd-network-validator"}], "containers": [{"name": "app"}]}}`},
		},
		{
			name:    "an init container of its own",
			objects: map[string]string{podPath: `{"spec": {"initContainers": [{"name": "linkerd-init"}], "containers": [{"name": "linkerd-proxy"}]}}`},
		},
		{name: "not about a pod", args: "IgnoreUnknown=1"},
		{name: "no arguments", args: " "},
		{
			name: "annotations of the pod",
			objects: map[string]string{
				podPath: `{"metadata": {"annotations": {
					"config.linkerd.io/skip-outbound-ports": "3306,5000-5010",
					"config.linkerd.io/skip-inbound-ports": "8081, 8082",
					"config.linkerd.io/skip-subnets": "192.168.0.0/16",
					"config.linkerd.io/skip-outbound-subnets": "198.51.100.0/24,2001:db8::/32",
					"config.linkerd.io/proxy-uid": "3000",
					"config.linkerd.io/proxy-gid": "3001"}},
					"spec": {"containers": [{"name": "linkerd-proxy"}]}}`,
				nsPath: `{"metadata": {"annotations": {"config.linkerd.io/skip-outbound-ports": "1", "config.linkerd.io/proxy-uid": "1"}}}`,
			},
			want: func(c *install.Config) {
				c.Rules.OutboundPortsToIgnore = []string{"3306", "5000-5010"}
				c.Rules.InboundPortsToIgnore = []string{"4191", "4190", "8081", " 8082"}
				c.Rules.SubnetsToIgnore = []string{"192.168.0.0/16"}
				c.Rules.OutboundSubnetsToIgnore = []string{"198.51.100.0/24", "2001:db8::/32"}
				c.Rules.ProxyUID, c.Rules.ProxyGID = 3000, 3001
			},
		},
		{
			name: "annotations of the namespace",
			objects: map[string]string{
				podPath: plainPod,
				nsPath:  `{"metadata": {"annotations": {"config.linkerd.io/skip-outbound-ports": "1", "config.linkerd.io/proxy-uid": "7"}}}`,
			},
			want: func(c *install.Config) {
				c.Rules.OutboundPortsToIgnore = []string{"1"}
				c.Rules.ProxyUID = 7
			},
		},
		{
			name: "an id that is none",
			objects: map[string]string{
				podPath: `{"metadata": {"annotations": {"config.linkerd.io/proxy-gid": "proxy"}}, "spec": {"containers": [{"name": "linkerd-proxy"}]}}`,
				nsPath:  plainNS,
			},
			err: `annotation config.linkerd.io/proxy-gid: "proxy" is not an integer`,
		},
		{
			name: "a pod of the control plane",
			objects: map[string]string{
				podPath: `{"metadata": {"labels": {"linkerd.io/control-plane-component": "identity"}}, "spec": {"containers": [{"name": "linkerd-proxy"}]}}`,
				nsPath:  plainNS,
				svcPath: `{"spec": {"ports": [{"port": 443, "targetPort": 16443}, {"port": 444, "targetPort": "https"}]}}`,
			},
			want: func(c *install.Config) { c.Rules.OutboundPortsToIgnore = []string{"25", "443", "16443", "444"} },
		},
		{
			name: "a pod of the control plane, the API's Service unknown",
			objects: map[string]string{
				podPath: `{"metadata": {"labels": {"linkerd.io/control-plane-component": "identity"}}, "spec": {"containers": [{"name": "linkerd-proxy"}]}}`,
				nsPath:  plainNS,
			},
			want: func(c *install.Config) { c.Rules.OutboundPortsToIgnore = []string{"25", "443", "6443"} },
		},
		{name: "a pod that is not there", objects: map[string]string{}, err: "get namespaces/shop/pods/web-1: the Kubernetes API answers 404 Not Found: /api/v1/namespaces/shop/pods/web-1 not found"},
		{name: "a namespace that is not there", objects: map[string]string{podPath: plainPod}, err: "get namespaces/shop: the Kubernetes API answers 404"},
		{name: "an answer that is none", objects: map[string]string{podPath: "<html>"}, err: "get namespaces/shop/pods/web-1: invalid character"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			api := newAPI(t, c.objects)
			var got *install.Config
			var stdout bytes.Buffer
			p := plugin{stdout: &stdout, stderr: io.Discard,
				setup: func(_ context.Context, cfg install.Config, _ *slog.Logger) error {
					got = &cfg
					return nil
				},
			}
			args := c.args
			if args == "" {
				args = podArgs
			}
			err := p.add(t.Context(), &skel.CmdArgs{ContainerID: "abc", Netns: "/netns", Args: args, StdinData: netConf(api.kubeconfig(t, "secret"), "nft")})
			if c.err != "" {
				if err == nil || !strings.HasPrefix(err.Error(), c.err) {
					t.Errorf("got error %v, want %q", err, c.err)
				}
				if got != nil || stdout.Len() > 0 {
					t.Errorf("after the error: set up %+v, printed %s", got, stdout.String())
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var want *install.Config
			if c.want != nil {
				cfg := standard()
				c.want(&cfg)
				want = &cfg
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("set up (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(parsed(t, []byte(prevResult)), parsed(t, stdout.Bytes())); diff != "" {
				t.Errorf("the result is not that of the plugin before (-want +got):\n%s", diff)
			}
		})
	}
}

func parsed(t *testing.T, data []byte) any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	// An empty list and none are the same.
	delete(v, "dns")
	return v
}

func TestAddFailsWhenRulesDo(t *testing.T) {
	broken := errors.New("broken")
	api := newAPI(t, map[string]string{podPath: plainPod, nsPath: plainNS})
	var stdout bytes.Buffer
	p := plugin{stdout: &stdout, stderr: io.Discard,
		setup: func(context.Context, install.Config, *slog.Logger) error { return broken }}
	err := p.add(t.Context(), &skel.CmdArgs{Args: podArgs, StdinData: netConf(api.kubeconfig(t, "secret"), "nft")})
	if !errors.Is(err, broken) || stdout.Len() > 0 {
		t.Errorf("error %v, printed %q", err, stdout.String())
	}
}

func TestBadConfigurations(t *testing.T) {
	api := newAPI(t, map[string]string{podPath: plainPod, nsPath: plainNS})
	good := api.kubeconfig(t, "secret")
	yaml := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(yaml, []byte("apiVersion: v1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		conf []byte
		want string
	}{
		"not JSON":        {[]byte("name: x"), "parse network configuration"},
		"bad prevResult":  {bytes.Replace(netConf(good, "nft"), []byte(prevResult), []byte(`{"cniVersion": "9.9"}`), 1), "parse prevResult"},
		"bad mode":        {netConf(good, "ebtables"), "--iptables-mode valid values"},
		"no kubeconfig":   {netConf("/does/not/exist", "nft"), "read kubeconfig"},
		"YAML kubeconfig": {netConf(yaml, "nft"), "JSON is expected"},
		"wrong token":     {netConf(api.kubeconfig(t, "guessed"), "nft"), "401 Unauthorized: who are you?"},
	} {
		t.Run(name, func(t *testing.T) {
			p := plugin{stdout: io.Discard, stderr: io.Discard}
			err := p.add(t.Context(), &skel.CmdArgs{Args: podArgs, StdinData: c.conf})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			// What is in the way of a pod's start must not be in the way of its end.
			if err := p.del(&skel.CmdArgs{Args: podArgs, StdinData: c.conf}); err != nil {
				t.Errorf("DEL: %v", err)
			}
		})
	}
}

func TestStandalone(t *testing.T) {
	var stdout bytes.Buffer
	p := plugin{stdout: &stdout, stderr: io.Discard}
	err := p.add(t.Context(), &skel.CmdArgs{StdinData: []byte(`{"cniVersion": "0.4.0", "name": "x", "type": "linkerd-cni"}`)})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]any{"cniVersion": "0.4.0"}, parsed(t, stdout.Bytes())); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
}
