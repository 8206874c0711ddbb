package main

import (
	"slices"
	"strings"
	"testing"
)

// TestCompletion looks at what a shell is offered; the last word is the one
// that is being typed.
func TestCompletion(t *testing.T) {
	o := installed(t)
	for line, want := range map[string]string{
		"authz ":                      "cronjob daemonset deployment job namespace pod replicaset replicationcontroller service statefulset",
		"viz stat -n linkerd deploy ": "linkerd-destination linkerd-identity linkerd-proxy-injector",
		"viz stat -n linkerd deploy linkerd-identity ": "linkerd-destination linkerd-proxy-injector",
		"stat -n linkerd deploy/linkerd-d":             "deploy/linkerd-destination",
		"diagnostics proxy-metrics -n linkerd po/":     "po/linkerd-destination-6d5f-x2x9z po/linkerd-identity-6d5f-x2x9z po/linkerd-proxy-injector-6d5f-x2x9z",
		"identity -n linkerd linkerd-i":                "linkerd-identity-6d5f-x2x9z",
		"identity -n linkerd deploy/linkerd-i":         "deploy/linkerd-identity",
		"viz edges -n linkerd thing/":                  "",
	} {
		code, stdout, stderr := run(t, o, append([]string{"__complete"}, strings.Split(line, " ")...)...)
		if code != 0 {
			t.Errorf("%q exits with %d: %s", line, code, stderr)
		}
		// The last line is the directive.
		got := strings.Fields(stdout)
		got = got[:max(0, len(got)-1)]
		if !slices.Equal(got, strings.Fields(want)) {
			t.Errorf("%q is completed by %q, want %q", line, got, want)
		}
	}
}
