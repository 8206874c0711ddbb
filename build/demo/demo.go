package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// sampleTime is how long traffic runs before the tables are shown: long enough
// for rates and percentiles to mean something.
const sampleTime = 10 * time.Second

type demo struct {
	cluster string

	screen  *screen
	bin     string // directory of the built programs
	version string
	env     []string // of the commands, with KUBECONFIG and PATH set

	kubeconfig string // path, once the cluster runs

	// stale says that the mesh was there already and runs images of other
	// programs than are built now: their tag is the same.
	stale bool
}

// up is the whole way, each step safe to do again.
func (d *demo) up(ctx context.Context) error {
	if err := d.prepare(ctx); err != nil {
		return err
	}
	steps := []struct {
		title string
		do    func(context.Context) error
	}{
		{"Building the embedded Kubernetes (minutes the first time, seconds later)", d.buildCluster},
		{"Installing the OS packages that are missing", d.packages},
		{"Building the CLI and the images", d.buildMesh},
		{"Starting the cluster", d.startCluster},
		{"Loading the images", d.loadImages},
		{"Installing the mesh", d.install},
		{"Deploying the sample shop into an injected namespace", d.deploy},
		{fmt.Sprintf("Letting traffic run for %s", sampleTime), wait(sampleTime)},
	}
	for _, s := range steps {
		if err := d.screen.step(s.title, func() error { return s.do(ctx) }); err != nil {
			return err
		}
	}
	return d.show(ctx)
}

// down removes the cluster and what it left. It builds the cluster's program
// if that is gone, since only it knows all the traces.
func (d *demo) down(ctx context.Context) error {
	if err := d.prepare(ctx); err != nil {
		return err
	}
	if _, err := os.Stat(d.program("devcluster")); err != nil {
		if err := d.screen.step("Building the embedded Kubernetes to remove it with", func() error { return d.buildCluster(ctx) }); err != nil {
			return err
		}
	}
	return d.screen.step("Removing the demo", func() error {
		return d.run(ctx, "devcluster", "down", "--cluster", d.cluster)
	})
}

func (d *demo) prepare(ctx context.Context) error {
	d.screen = newScreen()
	if os.Geteuid() != 0 {
		return fmt.Errorf("containers and network namespaces need root")
	}
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return fmt.Errorf("finding the checkout: %w", err)
	}
	root := strings.TrimSpace(string(out))
	if err := os.Chdir(root); err != nil {
		return err
	}
	d.bin = filepath.Join(root, "bin")
	d.version = "dev"
	d.env = append(os.Environ(),
		"PATH="+d.bin+":"+os.Getenv("PATH"),
		"CGO_ENABLED=0")
	return os.MkdirAll(d.bin, 0o755)
}

func (d *demo) program(name string) string { return filepath.Join(d.bin, name) }

func (d *demo) buildCluster(ctx context.Context) error {
	return d.run(ctx, "make", "--no-print-directory", "devcluster")
}

func (d *demo) packages(ctx context.Context) error {
	return d.run(ctx, "devcluster", "deps")
}

func (d *demo) buildMesh(ctx context.Context) error {
	return d.run(ctx, "make", "--no-print-directory", "cli", "images", "VERSION="+d.version)
}

func (d *demo) startCluster(ctx context.Context) error {
	if err := d.run(ctx, "devcluster", "up", "--cluster", d.cluster); err != nil {
		return err
	}
	path, err := d.output(ctx, "devcluster", "kubeconfig", "--path", "--cluster", d.cluster)
	if err != nil {
		return err
	}
	d.kubeconfig = strings.TrimSpace(path)
	d.env = append(d.env, "KUBECONFIG="+d.kubeconfig)
	d.screen.printf("         $ export KUBECONFIG=%s\n", d.kubeconfig)
	return nil
}

func (d *demo) loadImages(ctx context.Context) error {
	files, err := filepath.Glob("out/images/*.tar")
	if err != nil || len(files) == 0 {
		return fmt.Errorf("no images in out/images: %v", err)
	}
	return d.run(ctx, "devcluster", append([]string{"load", "--cluster", d.cluster}, files...)...)
}

// loaded is where it is written down of which programs the pods were made.
const loaded = "out/images/demo"

// programs is a digest of those that the images were made of.
func programs() (string, error) {
	files, err := filepath.Glob("out/images/bin/*/*")
	if err != nil {
		return "", err
	}
	all := sha256.New()
	for _, f := range files {
		content, err := os.ReadFile(f)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(all, "%s %x\n", f, sha256.Sum256(content))
	}
	return fmt.Sprintf("%x\n", all.Sum(nil)), nil
}

// renew makes the pods of a namespace anew if they are stale.
func (d *demo) renew(ctx context.Context, namespace string) error {
	if !d.stale {
		return nil
	}
	if err := d.run(ctx, "kubectl", "-n", namespace, "rollout", "restart", "deployment"); err != nil {
		return err
	}
	return d.run(ctx, "kubectl", "-n", namespace, "rollout", "status", "deployment", "--timeout=180s")
}

// install does what the README tells a user to do. On a cluster that has the
// mesh already it upgrades instead, so that keys stay what they are.
func (d *demo) install(ctx context.Context) error {
	if _, err := d.output(ctx, "kubectl", "-n", "linkerd", "get", "configmap", "linkerd-config"); err == nil {
		if err := d.shell(ctx, "linkerd upgrade --crds | kubectl apply -f -"); err != nil {
			return err
		}
		if err := d.shell(ctx, "linkerd upgrade | kubectl apply -f -"); err != nil {
			return err
		}
		now, err := programs()
		if err != nil {
			return err
		}
		before, _ := os.ReadFile(loaded) // not there if it was not this checkout's demo
		d.stale = string(before) != now
		if err := d.renew(ctx, "linkerd"); err != nil {
			return err
		}
		return d.run(ctx, "linkerd", "check")
	}
	if err := d.run(ctx, "linkerd", "check", "--pre"); err != nil {
		return err
	}
	if err := d.shell(ctx, "linkerd install --crds | kubectl apply -f -"); err != nil {
		return err
	}
	if err := d.shell(ctx, "linkerd install | kubectl apply -f -"); err != nil {
		return err
	}
	return d.run(ctx, "linkerd", "check")
}

func (d *demo) deploy(ctx context.Context) error {
	if err := d.shell(ctx, "kubectl apply -f sample/shop.yaml"); err != nil {
		return err
	}
	if err := d.run(ctx, "kubectl", "-n", "shop", "wait", "--for=condition=Available", "--timeout=180s", "deployment", "--all"); err != nil {
		return d.withPods(ctx, err)
	}
	if err := d.run(ctx, "kubectl", "-n", "shop", "wait", "--for=condition=Complete", "--timeout=120s", "job/stocktake"); err != nil {
		return d.withPods(ctx, err)
	}
	if err := d.renew(ctx, "shop"); err != nil {
		return d.withPods(ctx, err)
	}
	now, err := programs()
	if err != nil {
		return err
	}
	return os.WriteFile(loaded, []byte(now), 0o644)
}

// withPods adds the state of the shop's pods to an error about them.
func (d *demo) withPods(ctx context.Context, err error) error {
	pods, e := d.output(ctx, "kubectl", "-n", "shop", "get", "pods", "-o", "wide")
	if e != nil {
		return err
	}
	return fmt.Errorf("%w\n%s", err, pods)
}

func wait(t time.Duration) func(context.Context) error {
	return func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(t):
			return nil
		}
	}
}

// show prints the two tables and what to try next.
func (d *demo) show(ctx context.Context) error {
	d.screen.printf("\n[%6s] The shop's traffic, as its proxies count it\n", d.screen.elapsed())
	if err := d.run(ctx, "linkerd", "viz", "stat", "deploy", "-n", "shop"); err != nil {
		return err
	}
	d.screen.printf("\n[%6s] Who talks to whom, and how\n", d.screen.elapsed())
	if err := d.run(ctx, "linkerd", "viz", "edges", "deploy", "-n", "shop", "-o", "wide"); err != nil {
		return err
	}
	d.screen.printf(`
Everything is running. In a shell of yours:

  export PATH=%s:$PATH
  export KUBECONFIG=%s

  linkerd check                                        is the mesh healthy?
  linkerd viz stat deploy -n shop                      success, rate, latency
  linkerd viz edges deploy -n shop -o wide             identities on both ends
  linkerd identity -n shop -l app=front                the front's certificate
  linkerd diagnostics endpoints catalog.shop.svc.cluster.local:8080
  linkerd diagnostics proxy-metrics -n shop deploy/front
  kubectl -n shop get pods
  kubectl -n shop rollout restart deploy/catalog       and see no request fail:
  kubectl -n shop logs deploy/traffic -c traffic -f

Stop it with: make demo-down
`, d.bin, d.kubeconfig)
	return nil
}

// run shows a command as a user would type it and runs it.
func (d *demo) run(ctx context.Context, name string, args ...string) error {
	d.screen.printf("         $ %s\n", strings.Join(append([]string{name}, args...), " "))
	return d.exec(ctx, name, args...)
}

// shell runs a pipeline that fails if any part of it does.
func (d *demo) shell(ctx context.Context, line string) error {
	d.screen.printf("         $ %s\n", line)
	return d.exec(ctx, "bash", "-o", "pipefail", "-c", line)
}

func (d *demo) exec(ctx context.Context, name string, args ...string) error {
	out := &indent{s: d.screen}
	defer out.flush()
	cmd := d.command(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func (d *demo) output(ctx context.Context, name string, args ...string) (string, error) {
	var stderr bytes.Buffer
	cmd := d.command(ctx, name, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}

// command finds the program among the built ones first. An interrupt is passed
// on as such, so that the command can clean up.
func (d *demo) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	if p := d.program(name); fileExists(p) {
		name = p
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = d.env
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 20 * time.Second
	return cmd
}

func fileExists(p string) bool {
	_, err := os.Stat(p)
	return err == nil
}
