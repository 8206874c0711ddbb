package cniinstall

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/linkerd-go/linkerd-go/internal/leaks"
	"github.com/linkerd-go/linkerd-go/redirect/cni"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// A node is a fake host with an installer on it.
type node struct {
	t        *testing.T
	cfg      Config
	lines    chan string
	netDir   string
	binDir   string
	stop     context.CancelFunc
	finished chan error
}

// Write takes the log's lines, by which tests wait for what has happened.
func (n *node) Write(line []byte) (int, error) {
	n.lines <- string(line)
	return len(line), nil
}

func newNode(t *testing.T) *node {
	dir := t.TempDir()
	n := &node{t: t, lines: make(chan string, 1000)}
	n.cfg = Config{
		MountPrefix:       filepath.Join(dir, "host"),
		SourceBinDir:      filepath.Join(dir, "image/bin"),
		HostBinDir:        "/opt/cni/bin",
		HostNetDir:        "/etc/cni/net.d",
		NetworkConfig:     `{"type": "linkerd-cni", "kubernetes": {"kubeconfig": "__KUBECONFIG_FILEPATH__"}}`,
		KubeconfigName:    "ZZZ-kube",
		ServiceAccountDir: filepath.Join(dir, "sa"),
		CAFile:            filepath.Join(dir, "sa/ca.crt"),
		APIHost:           "fd00::1",
		APIPort:           "443",
	}
	n.netDir = filepath.Join(n.cfg.MountPrefix, n.cfg.HostNetDir)
	n.binDir = filepath.Join(n.cfg.MountPrefix, n.cfg.HostBinDir)
	for _, d := range []string{n.netDir, n.binDir, filepath.Join(n.cfg.SourceBinDir, "subdir"), n.cfg.ServiceAccountDir} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	n.write(filepath.Join(n.cfg.SourceBinDir, "linkerd-cni"), "binary")
	if err := os.Chmod(filepath.Join(n.cfg.SourceBinDir, "linkerd-cni"), 0o755); err != nil {
		t.Fatal(err)
	}
	n.write(filepath.Join(n.cfg.ServiceAccountDir, "token"), "secret\n")
	n.write(n.cfg.CAFile, "certificate")
	return n
}

func (n *node) write(path, content string) {
	n.t.Helper()
	if err := writeFile(path, 0o644, strings.NewReader(content)); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) start() {
	ctx, cancel := context.WithCancel(n.t.Context())
	n.stop, n.finished = cancel, make(chan error, 1)
	in := newInstaller(n.cfg, slog.New(slog.NewTextHandler(n, &slog.HandlerOptions{Level: slog.LevelDebug})))
	go func() {
		err := in.run(ctx)
		if undoErr := in.undo(); err == nil {
			err = undoErr
		}
		n.finished <- err
	}()
	n.t.Cleanup(cancel)
}

// await waits until the log says something.
func (n *node) await(text string) {
	n.t.Helper()
	var seen []string
	for {
		select {
		case line := <-n.lines:
			seen = append(seen, line)
			if strings.Contains(line, text) {
				return
			}
		case <-time.After(time.Minute):
			n.t.Fatalf("the log does not say %q, but:\n%s", text, strings.Join(seen, ""))
		}
	}
}

// plugins returns the types of a configuration's plugins.
func (n *node) plugins(file string) string {
	n.t.Helper()
	data, err := os.ReadFile(filepath.Join(n.netDir, file))
	if err != nil {
		n.t.Fatal(err)
	}
	var list struct {
		Plugins []struct {
			Type       string `json:"type"`
			Kubernetes struct {
				Kubeconfig string `json:"kubeconfig"`
			} `json:"kubernetes"`
		} `json:"plugins"`
	}
	if err := json.Unmarshal(data, &list); err != nil {
		n.t.Fatalf("%s: %v", data, err)
	}
	var types []string
	for _, p := range list.Plugins {
		types = append(types, p.Type)
		if p.Type == cni.Type && p.Kubernetes.Kubeconfig != "/etc/cni/net.d/ZZZ-kube" {
			n.t.Errorf("the plugin will look for its kubeconfig at %s", p.Kubernetes.Kubeconfig)
		}
	}
	return strings.Join(types, " ")
}

func (n *node) files(dir string) string {
	n.t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		n.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

const bridge = `{"cniVersion": "0.4.0", "type": "bridge"}`

func TestInstaller(t *testing.T) {
	n := newNode(t)
	n.write(filepath.Join(n.netDir, "10-bridge.conf"), bridge)
	n.write(filepath.Join(n.netDir, "notes.txt"), "not a configuration")
	n.start()
	n.await("added the plugin")

	if got := n.files(n.binDir); got != "linkerd-cni" {
		t.Errorf("binaries on the host: %s", got)
	}
	if info, err := os.Stat(filepath.Join(n.binDir, "linkerd-cni")); err != nil || info.Mode() != 0o755 {
		t.Errorf("the binary: %v, %v", info, err)
	}
	if got := n.files(n.netDir); got != "10-bridge.conflist ZZZ-kube notes.txt" {
		t.Errorf("configurations on the host: %s", got)
	}
	if got := n.plugins("10-bridge.conflist"); got != "bridge linkerd-cni" {
		t.Errorf("plugins: %s", got)
	}
	kubeconfig := filepath.Join(n.netDir, "ZZZ-kube")
	k, err := cni.ReadKubeconfig(kubeconfig)
	if err != nil || k.Server != "https://[fd00::1]:443" || k.Token != "secret" || string(k.CA) != "certificate" {
		t.Errorf("kubeconfig %+v, %v", k, err)
	}
	if info, err := os.Stat(kubeconfig); err != nil || info.Mode() != 0o600 {
		t.Errorf("the kubeconfig: %v, %v; nobody but root may read the token", info.Mode(), err)
	}

	// Other software replaces its configuration.
	n.write(filepath.Join(n.netDir, "10-bridge.conflist"), `{"name": "x", "plugins": [{"type": "bridge"}, {"type": "portmap"}]}`)
	n.await("added the plugin")
	if got := n.plugins("10-bridge.conflist"); got != "bridge portmap linkerd-cni" {
		t.Errorf("plugins after a change: %s", got)
	}
	// The installer sees its own writing and leaves it.
	n.await("in place already")

	// A new one appears, first incomplete.
	n.write(filepath.Join(n.netDir, "05-new.conf"), bridge[:20])
	n.await("incomplete")
	n.write(filepath.Join(n.netDir, "05-new.conf"), bridge)
	n.await("added the plugin")
	if got := n.plugins("05-new.conflist"); got != "bridge linkerd-cni" {
		t.Errorf("plugins of the new one: %s", got)
	}

	// The kubelet renews the token.
	n.write(filepath.Join(n.cfg.ServiceAccountDir, "token"), "renewed")
	if err := os.Symlink("elsewhere", filepath.Join(n.cfg.ServiceAccountDir, "..data")); err != nil {
		t.Fatal(err)
	}
	n.await("wrote the kubeconfig")
	if k, err := cni.ReadKubeconfig(kubeconfig); err != nil || k.Token != "renewed" {
		t.Errorf("token %q, %v", k.Token, err)
	}

	n.stop()
	if err := <-n.finished; err != nil {
		t.Error(err)
	}
	if got := n.files(n.binDir); got != "" {
		t.Errorf("binaries left: %s", got)
	}
	if got := n.files(n.netDir); got != "05-new.conflist 10-bridge.conflist notes.txt" {
		t.Errorf("configurations left: %s", got)
	}
	for file, want := range map[string]string{"05-new.conflist": "bridge", "10-bridge.conflist": "bridge portmap"} {
		if got := n.plugins(file); got != want {
			t.Errorf("plugins left in %s: %s", file, got)
		}
	}
}

func TestInstallerEnds(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(*node)
		want    string
	}{
		"empty token":       {func(n *node) { n.write(filepath.Join(n.cfg.ServiceAccountDir, "token"), "\n") }, "token is empty"},
		"no token":          {func(n *node) { os.Remove(filepath.Join(n.cfg.ServiceAccountDir, "token")) }, "token"},
		"empty CA":          {func(n *node) { n.write(n.cfg.CAFile, "") }, "CA certificate is empty"},
		"bad configuration": {func(n *node) { n.write(filepath.Join(n.netDir, "10-x.conflist"), `{"plugins": 1}`) }, "10-x.conflist: cannot determine plugins from existing cni configuration"},
		"no host directory": {func(n *node) { os.RemoveAll(n.netDir) }, "no such file or directory"},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			c.prepare(n)
			n.start()
			err := <-n.finished
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if got := n.files(n.binDir); got != "" {
				t.Errorf("binaries left: %s", got)
			}
		})
	}
}

func TestConfigFrom(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(file, []byte("from a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	api := []string{"KUBERNETES_SERVICE_HOST=10.0.0.1", "KUBERNETES_SERVICE_PORT=443"}
	got, err := configFrom(append(api, "CNI_NETWORK_CONFIG={}"))
	want := Config{
		MountPrefix: "/host", SourceBinDir: "/opt/cni/bin", HostBinDir: "/opt/cni/bin", HostNetDir: "/etc/cni/net.d",
		NetworkConfig: "{}", KubeconfigName: "ZZZ-linkerd-cni-kubeconfig",
		ServiceAccountDir: "/var/run/secrets/kubernetes.io/serviceaccount",
		CAFile:            "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt",
		APIHost:           "10.0.0.1", APIPort: "443",
	}
	if err != nil || got != want {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
	if got, err := configFrom(append(api, "CNI_NETWORK_CONFIG_FILE="+file)); err != nil || got.NetworkConfig != "from a file" {
		t.Errorf("got %q, %v", got.NetworkConfig, err)
	}
	if _, err := configFrom(append(api, "CNI_NETWORK_CONFIG_FILE="+file+"x")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	for _, env := range [][]string{api, {"CNI_NETWORK_CONFIG={}", api[0]}, {"CNI_NETWORK_CONFIG={}", api[1]}} {
		if _, err := configFrom(env); err == nil {
			t.Errorf("%v is accepted", env)
		}
	}
}
