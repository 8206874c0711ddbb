package main

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/linkerd-go/linkerd-go/cli"
	"github.com/linkerd-go/linkerd-go/internal/cluster"
	"github.com/linkerd-go/linkerd-go/internal/command/commandtest"
)

// silent is an input where nobody types: a Read interrupts the command, and
// has no answer until the test ends.
type silent struct {
	interrupt func()
	end       chan struct{}
}

func (s silent) Read([]byte) (int, error) {
	s.interrupt()
	<-s.end
	return 0, io.EOF
}

// TestInterruptedWhileReading: a command that waits for standard input ends
// when it is interrupted, and does not explain how it is used.
func TestInterruptedWhileReading(t *testing.T) {
	for _, line := range []string{
		"inject --ignore-cluster -",
		"uninject -",
		"profile --ignore-cluster --open-api - web",
		"upgrade --from-manifests -",
		"install --ignore-cluster -f -",
	} {
		t.Run(line, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			end := make(chan struct{})
			t.Cleanup(func() { close(end) })
			r := commandtest.New(t, nil)
			r.World.In = silent{func() { cancel(errors.New("interrupt signal received")) }, end}
			code := cli.Run(ctx, r.World, parts(), strings.Fields(line))
			if got := r.Err.String(); code != 1 || r.Out.Len() > 0 || !strings.Contains(got, "interrupt signal received") || strings.Contains(got, "Usage:") {
				t.Errorf("exit code %d, on standard output %q, on standard error %q", code, r.Out, got)
			}
		})
	}
}

// TestInterruptedWhileConnecting: so does one that waits for an API server.
func TestInterruptedWhileConnecting(t *testing.T) {
	for _, line := range []string{"install", "install --crds", "inject -"} {
		t.Run(line, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			end := make(chan struct{})
			t.Cleanup(func() { close(end) })
			kube := fake.NewClientset()
			kube.PrependReactor("get", "version", func(clienttesting.Action) (bool, runtime.Object, error) {
				cancel(errors.New("interrupt signal received"))
				<-end
				return true, nil, errors.New("too late")
			})
			r := commandtest.New(t, &cluster.Cluster{Kube: kube, Namespace: "default"})
			code := cli.Run(ctx, r.World, parts(), strings.Fields(line))
			if got := r.Err.String() + r.Out.String(); code != 1 || !strings.Contains(got, "interrupt signal received") || strings.Contains(got, "too late") {
				t.Errorf("exit code %d, and %q", code, got)
			}
		})
	}
}
