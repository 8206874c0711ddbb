package main

import (
	"errors"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/linkerd-go/linkerd-go/cli"
	"github.com/linkerd-go/linkerd-go/internal/command/commandtest"
)

// TestCheckWithoutRights: whoever may read nothing is told what failed, and the
// result, though extensions cannot even be looked for.
func TestCheckWithoutRights(t *testing.T) {
	c := commandtest.Cluster(t)
	forbid := func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: "namespaces"}, "", errors.New("not allowed"))
	}
	c.Kube.(*fake.Clientset).PrependReactor("*", "*", forbid)
	c.Dynamic.(*dynamicfake.FakeDynamicClient).PrependReactor("*", "*", forbid)
	r := commandtest.New(t, c)
	code := cli.Run(t.Context(), r.World, parts(), []string{"check", "--wait=0s"})
	if code != 1 || !strings.HasSuffix(r.Out.String(), "\nStatus check results are ×\n") || !strings.HasPrefix(r.Err.String(), "Failed to run extensions checks: ") {
		t.Errorf("check exits with %d, prints\n%s\nand says %s", code, r.Out, r.Err)
	}
}
