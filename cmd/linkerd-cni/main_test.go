package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestDispatch(t *testing.T) {
	for _, c := range []struct {
		args string
		want string
	}{
		{"/usr/lib/linkerd/linkerd2-cni-install --help", "linkerd2-cni-install puts"},
		{"linkerd-cni install --help", "linkerd2-cni-install puts"},
		{"/usr/lib/linkerd/linkerd-cni-repair-controller -h", "-controller-pod-name"},
		{"linkerd-cni repair -h", "-controller-pod-name"},
	} {
		var out bytes.Buffer
		code := dispatch(t.Context(), strings.Fields(c.args), nil, &out, &out)
		if code != 0 || !strings.Contains(out.String(), c.want) {
			t.Errorf("%s: exit code %d, output %q", c.args, code, out.String())
		}
	}
}
