package cnirepair

import (
	"bytes"
	"context"
	"log/slog"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/linkerd-go/linkerd-go/internal/kube"
)

func TestFlags(t *testing.T) {
	for name, c := range map[string]struct {
		env, args   []string
		level, node string
	}{
		"defaults":    {level: "info"},
		"environment": {env: []string{"LINKERD_CNI_REPAIR_CONTROLLER_LOG_LEVEL=debug", "LINKERD_CNI_REPAIR_CONTROLLER_NODE_NAME=n1"}, level: "debug", node: "n1"},
		"flags outrank it": {env: []string{"LINKERD_CNI_REPAIR_CONTROLLER_NODE_NAME=n1"},
			args: []string{"--log-level", "kube=error,linkerd_cni_repair_controller=trace", "--node-name", "n2"}, level: "trace", node: "n2"},
		"a filter for all of it": {args: []string{"--log-level=warn"}, level: "warn"},
	} {
		t.Run(name, func(t *testing.T) {
			var o command
			if err := o.flags(c.env).Parse(c.args); err != nil {
				t.Fatal(err)
			}
			if o.common.LogLevel != c.level || o.node != c.node {
				t.Errorf("level %q and node %q, want %q and %q", o.common.LogLevel, o.node, c.level, c.node)
			}
		})
	}
	for _, o := range []command{{node: "n"}, {podName: "p"}} {
		if err := o.run(t.Context(), nil, nil); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
}

func TestUsage(t *testing.T) {
	for arg, want := range map[string]int{"-h": 0, "--version": 0, "--nonsense": 2, "--log-level=loud": 2} {
		var out bytes.Buffer
		if code := Run(t.Context(), []string{arg}, nil, &out, &out); code != want || out.Len() == 0 {
			t.Errorf("%s: exit code %d, want %d; output %q", arg, code, want, out.String())
		}
	}
}

// TestCommand follows one pod through the whole command.
func TestCommand(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	client := fake.NewClientset(mkPod("web", func(*corev1.Pod) {}))
	client.PrependReactor("create", "events", func(clienttesting.Action) (bool, runtime.Object, error) {
		cancel() // the last thing that happens
		return true, nil, nil
	})
	c := command{adminAddr: "127.0.0.1:0", node: "node-1", podName: "p"}
	if err := c.run(ctx, &kube.Clients{Kube: client}, slog.New(slog.DiscardHandler)); err != nil {
		t.Error(err)
	}
	if _, err := client.CoreV1().Pods("shop").Get(context.Background(), "web", metav1.GetOptions{}); err == nil {
		t.Error("the pod is still there")
	}
}
