// Command runtests runs every test of the project and says in one line how it
// ended. It is what `make test` runs.
//
//	go run ./build/runtests                      everything
//	go run ./build/runtests -only unit           repository rules and units
//	go run ./build/runtests -only controlplane   the controllers against an API server that fails them
//	go run ./build/runtests -only e2e            that, and end to end on the embedded cluster
//	go run ./build/runtests -only cni            with the CNI plugin in place of init containers; not part of everything
//	go run ./build/runtests -only certmanager    with cert-manager and trust-manager, which are built first; not part of everything
//	go run ./build/runtests -run REGEXP          only the tests that match
//
// Passing packages take a line each, failing tests show all that they printed. A
// failed test that is marked as unsteady (package internal/unsteady) runs once
// more, alone; if it passes then, it counts as passed, and a line before the last
// names it. The last line has the form "N passed, N failed, N skipped".
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() {
	only := flag.String("only", "", "unit, controlplane (a part of e2e), e2e, certmanager or cni; unit and e2e if empty")
	run := flag.String("run", "", "regular expression that test names have to match")
	keep := flag.Bool("keep", false, "leave the end-to-end cluster running")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	r := &runner{filter: *run, start: time.Now()}
	var err error
	switch *only {
	case "":
		err = r.all(ctx, *keep)
	case "unit":
		err = r.unit(ctx)
	case "controlplane":
		if err = r.cluster(ctx); err == nil {
			err = r.controlplane(ctx)
		}
	case "e2e":
		err = r.e2e(ctx, *keep)
	case "certmanager":
		err = r.certManager(ctx, *keep)
	case "cni":
		err = r.cni(ctx, *keep)
	default:
		fmt.Fprintf(os.Stderr, "runtests: -only takes unit, controlplane, e2e, certmanager or cni, not %q\n", *only)
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "runtests:", err)
		r.count.failed++
	}
	fmt.Printf("\ntook %s\n%s", time.Since(r.start).Round(time.Second), r.summary())
	if r.count.failed > 0 {
		os.Exit(1)
	}
}

// runner runs groups of tests and adds up their results.
type runner struct {
	filter string
	start  time.Time
	count  counts
	// unsteady are the tests that passed only when they ran again.
	unsteady []unsteadyTest
	// stdout takes what is said about tests; nil is the program's own.
	stdout io.Writer
}

func (r *runner) out() io.Writer { return cmp.Or[io.Writer](r.stdout, os.Stdout) }

// summary is how it ended: a line for each test that had to run again, and the
// counts.
func (r *runner) summary() string {
	var b strings.Builder
	for _, u := range r.unsteady {
		fmt.Fprintf(&b, "unsteady: %s: %s\n", u.test, u.reason)
	}
	fmt.Fprintf(&b, "%d passed, %d failed, %d skipped\n", r.count.passed, r.count.failed, r.count.skipped)
	return b.String()
}

func (r *runner) all(ctx context.Context, keep bool) error {
	if err := r.unit(ctx); err != nil {
		return err
	}
	if r.count.failed > 0 {
		// A broken unit makes for a slow and unreadable failure end to end.
		return fmt.Errorf("the units failed: not going on to the cluster")
	}
	return r.e2e(ctx, keep)
}

func (r *runner) say(format string, args ...any) {
	fmt.Printf("\n[%6s] %s\n", time.Since(r.start).Round(time.Second), fmt.Sprintf(format, args...))
}

// unit runs what needs no cluster. Packages of end-to-end tests skip
// themselves without LINKERD_E2E.
func (r *runner) unit(ctx context.Context) error {
	r.say("go vet")
	if err := command(ctx, ".", "go", "vet", "./...").Run(); err != nil {
		return fmt.Errorf("go vet: %w", err)
	}
	r.say("Unit tests, under the race detector")
	// Go's own limit, ten minutes a package, is a matter of the machine for those that render all charts.
	if err := r.goTest(ctx, ".", "-race", "-timeout=40m", "./..."); err != nil {
		return err
	}
	if err := r.fuzz(ctx); err != nil {
		return err
	}
	r.say("What the race detector would falsify: budgets, and suites that go by the clock")
	if err := r.goTest(ctx, ".", "-run", "Allocat|Idle|Memory|Budget|TestConformance",
		"./proxy/integration", "./proxy/pool", "./proxy/h1", "./proxy/h2", "./test/h2spec"); err != nil {
		return err
	}
	// The controllers' packages are left to `make fips`: below them all of the Kubernetes client would be compiled again.
	r.say("mTLS as a FIPS build, in which any other cryptography is an error")
	if err := r.goTestWith(ctx, ".", []string{"GOFIPS140=v1.0.0", "GODEBUG=fips140=only"}, "./proxy/meshtls"); err != nil {
		return err
	}
	r.say("Unit tests of the embedded cluster")
	return r.goTest(ctx, clusterModule, "-trimpath", "./...")
}

// clusterModule is the module of the embedded cluster. Its tests are compiled
// with the flags of its Makefile: with others, all of Kubernetes would be
// compiled a second time.
const clusterModule = "devcluster"

// cluster builds the embedded cluster's program.
func (r *runner) cluster(ctx context.Context) error {
	r.say("Building the embedded Kubernetes")
	if err := command(ctx, ".", "make", "--no-print-directory", "devcluster").Run(); err != nil {
		return fmt.Errorf("building the embedded Kubernetes: %w", err)
	}
	return nil
}

// e2e runs the end-to-end tests of the embedded cluster and of the mesh.
func (r *runner) e2e(ctx context.Context, keep bool) error {
	if err := r.cluster(ctx); err != nil {
		return err
	}
	if err := r.packages(ctx); err != nil {
		return err
	}
	r.say("Controllers against an API server that fails them")
	if err := r.controlplane(ctx); err != nil {
		return err
	}
	r.say("End-to-end tests of the embedded cluster itself")
	if err := r.goTest(ctx, clusterModule, "-trimpath", "-tags=e2e", "-timeout=1h", "-count=1", "./e2e"); err != nil {
		return err
	}
	if err := r.mesh(ctx); err != nil {
		return err
	}
	return r.onCluster(ctx, "e2e", keep, func() error {
		r.say("End-to-end tests")
		return r.goTest(ctx, ".", "-timeout=2h", "-count=1", "./test/e2e/...")
	})
}

// certManager runs those end-to-end tests that need cert-manager, on a cluster
// without the mesh, which they install.
func (r *runner) certManager(ctx context.Context, keep bool) error {
	if err := r.prepare(ctx); err != nil {
		return err
	}
	r.say("Building cert-manager and trust-manager")
	out, err := filepath.Abs("out/certmanager")
	if err != nil {
		return err
	}
	if err := command(ctx, "test/certmanager", "go", "run", ".", "-out", out).Run(); err != nil {
		return fmt.Errorf("building cert-manager: %w", err)
	}
	if err := os.Setenv("LINKERD_CERTMANAGER", out); err != nil {
		return err
	}
	if r.filter == "" {
		r.filter = "TestCertManager"
	}
	return r.onCluster(ctx, "certmanager", keep, func() error {
		r.say("End-to-end tests with cert-manager")
		return r.goTest(ctx, ".", "-timeout=40m", "-count=1", "./test/e2e")
	})
}

// cni runs the end-to-end test of the CNI plugin, on a cluster without the mesh,
// which the test installs.
func (r *runner) cni(ctx context.Context, keep bool) error {
	if err := r.prepare(ctx); err != nil {
		return err
	}
	if err := os.Setenv("LINKERD_CNI", "1"); err != nil {
		return err
	}
	if r.filter == "" {
		r.filter = "TestCNI"
	}
	return r.onCluster(ctx, "cni", keep, func() error {
		r.say("End-to-end test with the CNI plugin")
		return r.goTest(ctx, ".", "-timeout=15m", "-count=1", "./test/e2e")
	})
}

// prepare builds and installs what tests on a cluster of their own need.
func (r *runner) prepare(ctx context.Context) error {
	for _, step := range []func(context.Context) error{r.cluster, r.packages, r.mesh} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// packages installs what the embedded cluster needs of the OS.
func (r *runner) packages(ctx context.Context) error {
	r.say("Installing the OS packages that are missing")
	if err := command(ctx, ".", "bin/devcluster", "deps").Run(); err != nil {
		return fmt.Errorf("OS packages: %w", err)
	}
	return nil
}

// mesh builds what is installed.
func (r *runner) mesh(ctx context.Context) error {
	r.say("Building the CLI and the images")
	if err := command(ctx, ".", "make", "--no-print-directory", "cli", "images").Run(); err != nil {
		return fmt.Errorf("building the mesh: %w", err)
	}
	return nil
}

// onCluster starts a cluster, runs tests on it and removes it.
func (r *runner) onCluster(ctx context.Context, cluster string, keep bool, tests func() error) error {
	if !keep {
		defer func() {
			r.say("Removing the cluster")
			// The tests' context may be over already; the cluster has
			// to go all the same.
			c, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Minute)
			defer cancel()
			if err := command(c, ".", "bin/devcluster", "down", "--cluster", cluster).Run(); err != nil {
				fmt.Fprintln(os.Stderr, "runtests: removing the cluster:", err)
				r.count.failed++
			}
		}()
	}
	r.say("Starting the cluster")
	if err := command(ctx, ".", "bin/devcluster", "up", "--cluster", cluster).Run(); err != nil {
		return fmt.Errorf("starting the cluster: %w", err)
	}
	kubeconfig, err := exec.CommandContext(ctx, "bin/devcluster", "kubeconfig", "--path", "--cluster", cluster).Output()
	if err != nil {
		return fmt.Errorf("finding the cluster's kubeconfig: %w", err)
	}
	if err := os.Setenv("LINKERD_E2E", strings.TrimSpace(string(kubeconfig))); err != nil {
		return err
	}
	return tests()
}

// controlplane runs the tests of the controllers on API servers of their own, of which the built devcluster is the program.
// Most of their time is waiting, which they do side by side.
func (r *runner) controlplane(ctx context.Context) error {
	program, err := filepath.Abs("bin/devcluster")
	if err != nil {
		return err
	}
	if err := os.Setenv("LINKERD_DEVCLUSTER", program); err != nil {
		return err
	}
	return r.goTest(ctx, ".", "-timeout=1h", "-count=1", "-parallel=4", "./test/controlplane")
}

func command(ctx context.Context, dir, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second
	return cmd
}
