package main

import (
	"strings"
	"testing"
)

func TestDispatch(t *testing.T) {
	for _, c := range []struct {
		name   string
		args   []string
		env    []string
		code   int
		stdout string
		stderr string
	}{
		{"no arguments", []string{"linkerd-proxy"}, nil, 2, "", "Usage: linkerd-proxy COMMAND"},
		{"help", []string{"linkerd-proxy", "--help"}, nil, 0, "linkerd2-proxy-init", ""},
		{"version", []string{"/usr/bin/linkerd-proxy", "version"}, nil, 0, "dev-undefined", ""},
		{"unknown", []string{"linkerd-proxy", "mix"}, nil, 2, "", `unknown command "mix"`},
		{"by name", []string{"/bin/sleep", "0"}, nil, 0, "", ""},
		{"by argument", []string{"linkerd-proxy", "sleep", "x"}, nil, 1, "", "sleep: "},
		{"proxy with an argument", []string{"/usr/lib/linkerd/linkerd2-proxy", "x"}, nil, 2, "", `unexpected argument "x"`},
		{"proxy without configuration", []string{"linkerd2-proxy"}, []string{"LINKERD2_PROXY_LOG=off"}, 64, "", "Invalid configuration: "},
		{"proxy with a bad filter", []string{"linkerd2-proxy"}, []string{"LINKERD2_PROXY_LOG=a=loud"}, 64, "", "invalid log filter"},
		{"mistakes are logged", []string{"linkerd2-proxy"}, []string{"LINKERD2_PROXY_INGRESS_MODE=1"}, 64,
			`LINKERD2_PROXY_INGRESS_MODE="1" is not valid: not a valid boolean`, "POLICY_WORKLOAD must be set"},
		{"identity without a directory", []string{"linkerd2-proxy-identity"}, nil, 1, "", "linkerd2-proxy-identity: "},
	} {
		var stdout, stderr strings.Builder
		code := dispatch(c.args, c.env, &stdout, &stderr)
		if code != c.code || !strings.Contains(stdout.String(), c.stdout) || !strings.Contains(stderr.String(), c.stderr) {
			t.Errorf("%s: exit code %d\nstdout: %s\nstderr: %s", c.name, code, stdout.String(), stderr.String())
		}
	}
}

func TestCleanRanges(t *testing.T) {
	const maps = `00400000-00a5e000 r-xp 00000000 fe:00 123                 /usr/lib/linkerd/linkerd2-proxy
00a5e000-01200000 r--p 0065e000 fe:00 123                 /usr/lib/linkerd/linkerd2-proxy
01200000-01260000 rw-p 00e00000 fe:00 123                 /usr/lib/linkerd/linkerd2-proxy
c000000000-c000400000 rw-p 00000000 00:00 0
7f0000000000-7f0000001000 r-xp 00000000 00:00 0           [vdso]
`
	got := cleanRanges(strings.NewReader(maps), "/usr/lib/linkerd/linkerd2-proxy")
	if len(got) != 2 || got[0] != [2]uintptr{0x400000, 0xa5e000} || got[1] != [2]uintptr{0xa5e000, 0x1200000} {
		t.Errorf("got %x", got)
	}
	// It must be safe on the program that runs.
	dropPages()
}
