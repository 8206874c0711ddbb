// Command conformance shows what of the Gateway API the mesh can do: it builds
// the mesh, installs it on an embedded Kubernetes of its own, runs the official
// conformance suite on it and writes the suite's report. `make conformance`
// runs it; see README.md.
//
//	go run . [-keep] [-report FILE] [-- FLAGS OF THE SUITE]
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	l := &lab{start: time.Now()}
	// A set of its own: the suite, from which the names of images come, has
	// its flags in the common one.
	flags := flag.NewFlagSet("conformance", flag.ExitOnError)
	flags.StringVar(&l.cluster, "cluster", "conformance", "name of the cluster, which is made and removed")
	flags.BoolVar(&l.keep, "keep", false, "leave the cluster running; a later run uses it again")
	flags.StringVar(&l.version, "version", "", "version of the mesh, for its images and the report; by default named after the commit")
	flags.StringVar(&l.report, "report", "", "where the report goes; nowhere if empty")
	flags.StringVar(&l.run, "run-test", "", "short name of the only test to run")
	_ = flags.Parse(os.Args[1:])
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := l.all(ctx, flags.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

// lab is a cluster with the mesh on it.
type lab struct {
	cluster, version, report, run string
	keep                          bool

	start time.Time
	here  string   // directory of this module
	root  string   // of the checkout
	env   []string // of the commands
}

// steps are done in order.
type step struct {
	title string
	do    func(context.Context) error
}

func (l *lab) all(ctx context.Context, suiteFlags []string) (err error) {
	if err := l.find(ctx); err != nil {
		return err
	}
	if !l.keep {
		defer func() {
			// The context may be over already; the cluster has to go all
			// the same.
			l.say("Removing the cluster")
			if e := l.exec(context.WithoutCancel(ctx), "bin/devcluster", "down", "--cluster", l.cluster); err == nil {
				err = e
			}
		}()
	}
	for _, s := range []step{
		{"Building the embedded Kubernetes", func(ctx context.Context) error { return l.exec(ctx, "make", "--no-print-directory", "devcluster") }},
		{"Installing the OS packages that are missing", func(ctx context.Context) error { return l.exec(ctx, "bin/devcluster", "deps") }},
		{"Building the CLI, the images and the suite's workload", l.build},
		{"Starting the cluster", l.up},
		{"Loading the images", l.load},
		{"Installing the mesh", l.install},
		{"Running the conformance suite", func(ctx context.Context) error { return l.test(ctx, suiteFlags) }},
	} {
		l.say(s.title)
		if err := s.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", strings.ToLower(s.title[:1])+s.title[1:], err)
		}
	}
	l.say("Every test passed")
	return nil
}

func (l *lab) say(title string) {
	fmt.Printf("\n[%6s] %s\n", time.Since(l.start).Round(time.Second), title)
}

// find sets the directories.
func (l *lab) find(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return fmt.Errorf("finding the checkout: %w", err)
	}
	l.here = strings.TrimSpace(string(out))
	l.root = filepath.Dir(filepath.Dir(l.here))
	l.env = installed(os.Environ())
	for i, v := range l.env {
		if path, ok := strings.CutPrefix(v, "PATH="); ok {
			l.env[i] = "PATH=" + l.out("bin") + ":" + filepath.Join(l.root, "bin") + ":" + path
		}
	}
	if l.report != "" {
		if l.report, err = filepath.Abs(l.report); err != nil {
			return err
		}
	}
	if l.version != "" {
		return nil
	}
	// Not "dev" for all: a cluster that is used again would take the images of
	// the version before for those of this one.
	out, err = exec.CommandContext(ctx, "git", "-C", l.root, "rev-parse", "--short=9", "HEAD").Output()
	if err != nil {
		return fmt.Errorf("naming the version: %w", err)
	}
	l.version = "dev-" + strings.TrimSpace(string(out))
	return nil
}

// installed is env for commands that build the project with the toolchain that
// is installed, as a release is, and not with the newer one that this module may
// run with, which `go run` puts first.
func installed(env []string) []string {
	ofModule := func(path string) bool { return strings.Contains(path, "golang.org/toolchain@") }
	var list []string
	for _, v := range env {
		name, value, _ := strings.Cut(v, "=")
		switch {
		case name == "GOROOT" && ofModule(value):
			continue
		case name == "PATH":
			v = "PATH=" + strings.Join(slices.DeleteFunc(filepath.SplitList(value), ofModule), ":")
		}
		list = append(list, v)
	}
	return list
}

// out is where everything of this version is built, apart from what other
// commands build.
func (l *lab) out(name string) string { return filepath.Join(l.root, "out", "conformance", name) }

func (l *lab) build(ctx context.Context) error {
	if err := os.MkdirAll(l.out("bin"), 0o755); err != nil {
		return err
	}
	if err := l.exec(ctx, "make", "--no-print-directory", "cli", "VERSION="+l.version, "BIN="+l.out("bin")); err != nil {
		return err
	}
	if err := l.exec(ctx, "go", "run", "./build/images", "-version", l.version, "-only", "proxy,controller", "-out", l.out("images")); err != nil {
		return err
	}
	return buildEcho(ctx, l.here, l.out("images/echo.tar"))
}

func (l *lab) up(ctx context.Context) error {
	if err := l.exec(ctx, "bin/devcluster", "up", "--cluster", l.cluster); err != nil {
		return err
	}
	cmd := l.command(ctx, "bin/devcluster", "kubeconfig", "--path", "--cluster", l.cluster)
	cmd.Stdout = nil
	path, err := cmd.Output()
	if err != nil {
		return err
	}
	l.env = append(l.env, "KUBECONFIG="+strings.TrimSpace(string(path)))
	return nil
}

func (l *lab) load(ctx context.Context) error {
	return l.exec(ctx, "bin/devcluster", "load", "--cluster", l.cluster,
		l.out("images/proxy.tar"), l.out("images/controller.tar"), l.out("images/echo.tar"))
}

// install installs the definitions of the Gateway API that the suite insists on,
// which may be newer than those that are bundled with the mesh, as a user does
// whose cluster has them already; then the mesh, or upgrades it if it is there.
func (l *lab) install(ctx context.Context) error {
	list := l.command(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api")
	list.Dir, list.Stdout = l.here, nil
	module, err := list.Output()
	if err != nil {
		return fmt.Errorf("finding the definitions of the Gateway API: %w", err)
	}
	if err := l.exec(ctx, "kubectl", "apply", "--server-side", "--force-conflicts", "-k",
		filepath.Join(strings.TrimSpace(string(module)), "config", "crd", "experimental")); err != nil {
		return err
	}
	verb := "install"
	if l.exec(ctx, "kubectl", "-n", "linkerd", "get", "configmap", "linkerd-config", "-o", "name") == nil {
		verb = "upgrade"
	}
	for _, line := range []string{
		"linkerd " + verb + " --crds --set installGatewayAPI=false | kubectl apply --server-side --force-conflicts -f -",
		"linkerd " + verb + " | kubectl apply -f -",
		"linkerd check",
	} {
		if err := l.exec(ctx, "bash", "-o", "pipefail", "-c", line); err != nil {
			return err
		}
	}
	return nil
}

// namespaces are those that the suite makes.
var namespaces = []string{"gateway-conformance-mesh", "gateway-conformance-mesh-consumer"}

func (l *lab) test(ctx context.Context, suiteFlags []string) error {
	// Pods of an earlier run would have its proxies.
	if err := l.exec(ctx, "kubectl", append([]string{"delete", "namespace", "--ignore-not-found"}, namespaces...)...); err != nil {
		return err
	}
	args := []string{"test", "-count=1", "-v", "-timeout=60m", "./suite", "-args", "-mesh-version=" + l.version}
	if l.report != "" {
		if err := os.MkdirAll(filepath.Dir(l.report), 0o755); err != nil {
			return err
		}
		args = append(args, "--report-output="+l.report)
	}
	if l.run != "" {
		args = append(args, "--run-test="+l.run)
	}
	cmd := l.command(ctx, "go", append(args, suiteFlags...)...)
	cmd.Dir = l.here
	cmd.Env = append(cmd.Env, "LINKERD_CONFORMANCE=1")
	return cmd.Run()
}

func (l *lab) exec(ctx context.Context, name string, args ...string) error {
	return l.command(ctx, name, args...).Run()
}

// command passes an interrupt on as such, so that the command can clean up.
func (l *lab) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	if strings.HasPrefix(name, "bin/") {
		name = filepath.Join(l.root, name)
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = l.root, l.env, os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	return cmd
}
