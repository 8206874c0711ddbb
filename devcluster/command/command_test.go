package command

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/linkerd-go/linkerd-go/devcluster/cluster"
)

func TestTakeCluster(t *testing.T) {
	for _, test := range []struct {
		args string
		name string
		rest string
	}{
		{"get pods", "first", "get pods"},
		{"--cluster east get pods", "east", "get pods"},
		{"--cluster=east get --cluster kubectls-own", "east", "get --cluster kubectls-own"},
		{"--cluster", "first", "--cluster"},
		{"", "first", ""},
	} {
		o := &options{target: cluster.Target{Name: "first"}}
		rest := o.takeCluster(strings.Fields(test.args))
		if o.target.Name != test.name || strings.Join(rest, " ") != test.rest {
			t.Errorf("%q: cluster %q, rest %q", test.args, o.target.Name, rest)
		}
	}
}

func TestExitCode(t *testing.T) {
	for _, test := range []struct {
		err  error
		code int
		show bool
	}{
		{nil, 0, false},
		{errors.New("x"), 1, true},
		{fmt.Errorf("about: %w", ErrUnhealthy), 3, true},
		{ExitError(7), 7, false},
		{ExitError(0), 0, false},
	} {
		if code, show := ExitCode(test.err); code != test.code || show != test.show {
			t.Errorf("ExitCode(%v) = %d, %v", test.err, code, show)
		}
	}
}

// run runs one command line against a machine whose clusters are under dir.
func run(t *testing.T, dir string, args ...string) (stdout string, kubectl []string, err error) {
	t.Helper()
	var out bytes.Buffer
	root := New(Outside{
		Stdout: &out, Stderr: t.Output(),
		Getenv:  func(name string) string { return map[string]string{stateVariable: dir}[name] },
		Kubectl: func(args []string) int { kubectl = args; return 5 },
	})
	root.SetArgs(args)
	err = root.ExecuteContext(t.Context())
	return out.String(), kubectl, err
}

// stopped makes a cluster as it is after a reboot: known, but nothing of it runs.
func stopped(t *testing.T) (base string) {
	t.Helper()
	base = t.TempDir()
	dir := filepath.Join(base, "test-only-east")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string]string{
		"cluster.json": fmt.Sprintf(`{"name":"test-only-east","index":2,"stateBase":%q}`, base),
		"kubeconfig":   "the kubeconfig\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return base
}

func TestKubeconfig(t *testing.T) {
	base := stopped(t)
	if got, _, err := run(t, base, "kubeconfig", "--cluster", "test-only-east"); err != nil || got != "the kubeconfig\n" {
		t.Errorf("kubeconfig = %q, %v", got, err)
	}
	want := filepath.Join(base, "test-only-east", "kubeconfig") + "\n"
	if got, _, err := run(t, base, "kubeconfig", "--cluster", "test-only-east", "--path"); err != nil || got != want {
		t.Errorf("kubeconfig --path = %q, %v; want %q", got, err, want)
	}
	if _, _, err := run(t, base, "kubeconfig", "--cluster", "test-only-nobody"); !errors.Is(err, cluster.ErrNotFound) {
		t.Errorf("kubeconfig of nobody: %v", err)
	}
}

func TestKubectlGetsItsArgumentsAndGivesItsExitCode(t *testing.T) {
	for _, name := range []string{"KUBECONFIG", "NO_PROXY", "no_proxy"} {
		t.Setenv(name, "") // restored after the command has changed it
	}
	base := stopped(t)
	_, args, err := run(t, base, "--cluster", "test-only-east", "kubectl", "get", "-o", "wide", "--help")
	if code, show := ExitCode(err); code != 5 || show {
		t.Errorf("error = %v", err)
	}
	if want := []string{"get", "-o", "wide", "--help"}; !reflect.DeepEqual(args, want) {
		t.Errorf("kubectl got %q, want %q", args, want)
	}
	if got := os.Getenv("KUBECONFIG"); got != filepath.Join(base, "test-only-east", "kubeconfig") {
		t.Errorf("KUBECONFIG = %q", got)
	}
}

func TestStatusOfAStoppedCluster(t *testing.T) {
	base := stopped(t)
	got, _, err := run(t, base, "status", "--cluster", "test-only-east", "-o", "json")
	if !errors.Is(err, ErrUnhealthy) {
		t.Errorf("error = %v", err)
	}
	if !strings.Contains(got, `"apiServer": "https://10.202.0.1:6443"`) || !strings.Contains(got, "was never started") {
		t.Errorf("status:\n%s", got)
	}
}

func TestPrintStatus(t *testing.T) {
	now := time.Unix(1000, 0)
	var out bytes.Buffer
	printStatus(&out, cluster.Status{
		Cluster: "east", NodeIP: "10.202.0.1",
		Components: []cluster.Component{
			{Name: "etcd", PID: 7, Since: now.Add(-90 * time.Second), Resident: 3 << 20},
			{Name: "kubelet", Problem: "has ended"},
		},
		Problems: []string{"node east-node is not ready"},
	}, now)
	for _, want := range []string{"etcd       7    1m30s  3 MiB   well", "kubelet    -    -      -       has ended", "problem: node east-node is not ready"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, out.String())
		}
	}
}
