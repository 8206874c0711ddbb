//go:build e2e

// Package e2e runs whole clusters. It needs root and the built binaries:
//
//	make && go test -tags e2e ./e2e
//
// The binaries are looked for in $DEVCLUSTER_BIN, or in ../../bin.
package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/linkerd-go/linkerd-go/devcluster/cluster"
	"github.com/linkerd-go/linkerd-go/devcluster/config"
	"github.com/linkerd-go/linkerd-go/devcluster/image"
	"github.com/linkerd-go/linkerd-go/devcluster/plan"
)

const probeImage = "devcluster.test/probe:1"

// bench is one machine with clusters on it.
type bench struct {
	t      *testing.T
	binary string
}

// run runs devcluster and returns its output; standard error goes to the test's log.
func (b bench) run(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(b.t.Context(), 10*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, b.binary, args...)
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	err := command.Run()
	b.t.Logf("devcluster %s\n%s", strings.Join(args, " "), stderr.String())
	if err != nil {
		err = fmt.Errorf("devcluster %s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	return stdout.String(), err
}

func (b bench) must(args ...string) string {
	b.t.Helper()
	out, err := b.run(args...)
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

// up starts a cluster that is removed, and checked to be gone, at the end of the test.
func (b bench) up(name string) plan.Cluster {
	b.t.Helper()
	b.t.Cleanup(func() { b.down(name) })
	b.must("up", "--cluster", name)
	c, err := cluster.Target{Name: name, RunBase: plan.DefaultRunBase}.Find()
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}

func (b bench) down(name string) {
	c, err := cluster.Target{Name: name, RunBase: plan.DefaultRunBase}.Find()
	if err != nil {
		return // down already
	}
	// The test's context has ended when this runs as a cleanup.
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, b.binary, "down", "--cluster", name).CombinedOutput(); err != nil {
		b.t.Errorf("down: %v: %s", err, out)
	}
	if left := cluster.Leftovers(c); len(left) > 0 {
		b.t.Errorf("left behind: %s", strings.Join(left, ", "))
	}
}

func setUp(t *testing.T) (b bench, probeTar string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("clusters need root")
	}
	dir := os.Getenv("DEVCLUSTER_BIN")
	if dir == "" {
		dir = "../../bin"
	}
	binary, err := filepath.Abs(filepath.Join(dir, "devcluster"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(binary); err != nil {
		t.Fatalf("build first: %v", err)
	}
	program := filepath.Join(t.TempDir(), "probe")
	build := exec.Command("go", "build", "-o", program, "./probe")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build probe: %v: %s", err, out)
	}
	probeTar = filepath.Join(t.TempDir(), "probe.tar")
	if err := image.Write(probeTar, image.Program{Reference: probeImage, Binary: program, Path: "/probe"}); err != nil {
		t.Fatal(err)
	}
	return bench{t, binary}, probeTar
}

// apply applies YAML.
func (b bench) apply(name, yaml string) {
	b.t.Helper()
	file := filepath.Join(b.t.TempDir(), "objects.yaml")
	if err := os.WriteFile(file, []byte(yaml), 0o644); err != nil {
		b.t.Fatal(err)
	}
	b.must("--cluster", name, "kubectl", "apply", "-f", file)
}

const objects = `
apiVersion: v1
kind: Pod
metadata: {name: server, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 1
  initContainers:
  - {name: sidecar, image: ` + probeImage + `, restartPolicy: Always, args: [wait]}
  containers:
  - name: probe
    image: ` + probeImage + `
    imagePullPolicy: Never
    readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
    volumeMounts: [{name: token, mountPath: /token}]
  volumes:
  - {name: token, projected: {sources: [{serviceAccountToken: {audience: test.audience, path: t}}]}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: LoadBalancer, selector: {app: web}, ports: [{port: 80, targetPort: 8080, nodePort: 30123}]}
---
apiVersion: batch/v1
kind: Job
metadata: {name: once}
spec:
  template:
    spec:
      restartPolicy: OnFailure
      containers: [{name: probe, image: ` + probeImage + `, args: [get, "http://web/"]}]
`

const aggregated = `
apiVersion: v1
kind: Pod
metadata: {name: aggregated, labels: {app: aggregated}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: probe, image: ` + probeImage + `, args: [aggregated]}]
---
apiVersion: v1
kind: Service
metadata: {name: aggregated}
spec: {selector: {app: aggregated}, ports: [{port: 443, targetPort: 8443}]}
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1.probe.test}
spec:
  group: probe.test
  version: v1
  insecureSkipTLSVerify: true
  groupPriorityMinimum: 100
  versionPriority: 100
  service: {name: aggregated, namespace: default}
`

func TestOneCluster(t *testing.T) {
	b, probe := setUp(t)
	const name = "e2e-one"
	c := b.up(name)

	begin := time.Now()
	b.must("up", "--cluster", name)
	// It has nothing to do, which is told from starting anew even on a busy machine.
	if took := time.Since(begin); took > time.Minute {
		t.Errorf("a second up took %s", took)
	}
	b.must("load", "--cluster", name, probe)
	if images := b.must("images", "--cluster", name); !strings.Contains(images, probeImage) {
		t.Fatalf("%s is not among:\n%s", probeImage, images)
	}

	b.apply(name, objects)
	b.must("--cluster", name, "kubectl", "wait", "--for=condition=Ready", "pod/server", "--timeout=300s")
	b.must("--cluster", name, "kubectl", "wait", "--for=condition=Complete", "job/once", "--timeout=300s")

	t.Run("host reaches pod, node port and load balancer", func(t *testing.T) {
		b := bench{t, b.binary}
		pod := b.must("--cluster", name, "kubectl", "get", "pod", "server", "-o", "jsonpath={.status.podIP}")
		b.must("--cluster", name, "kubectl", "wait", "--for=jsonpath={.status.loadBalancer.ingress}", "service/web", "--timeout=300s")
		balancer := b.must("--cluster", name, "kubectl", "get", "service", "web", "-o", "jsonpath={.status.loadBalancer.ingress[0].ip}")
		for _, address := range []string{net.JoinHostPort(pod, "8080"), c.NodeIP().String() + ":30123", balancer + ":80"} {
			reach(t, "http://"+address+"/")
		}
	})
	t.Run("native sidecar runs beside", func(t *testing.T) {
		b := bench{t, b.binary}
		if got := b.must("--cluster", name, "kubectl", "get", "pod", "server", "-o", "jsonpath={.status.initContainerStatuses[0].started}"); got != "true" {
			t.Errorf("sidecar started: %q", got)
		}
	})
	t.Run("exec, logs and projected token", func(t *testing.T) {
		b := bench{t, b.binary}
		if got := b.must("--cluster", name, "kubectl", "exec", "server", "-c", "probe", "--", "/probe", "get", "http://web.default.svc.cluster.local/"); !strings.HasPrefix(got, "hello ") {
			t.Errorf("exec printed %q", got)
		}
		if got := b.must("--cluster", name, "kubectl", "logs", "job/once"); !strings.HasPrefix(got, "hello ") {
			t.Errorf("the job logged %q", got)
		}
		token := b.must("--cluster", name, "kubectl", "exec", "server", "-c", "probe", "--", "/probe", "cat", "/token/t")
		payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
		if err != nil {
			t.Fatal(err)
		}
		var claims struct {
			Audience []string `json:"aud"`
		}
		if err := json.Unmarshal(payload, &claims); err != nil || len(claims.Audience) != 1 || claims.Audience[0] != "test.audience" {
			t.Errorf("claims %s: %v", payload, err)
		}
	})
	t.Run("aggregated API", func(t *testing.T) {
		b := bench{t, b.binary}
		b.apply(name, aggregated)
		b.must("--cluster", name, "kubectl", "wait", "--for=condition=Available", "apiservice/v1.probe.test", "--timeout=300s")
		if got, want := b.must("--cluster", name, "kubectl", "get", "--raw", "/apis/probe.test/v1/whoami"), "front-proxy-client for kubernetes-admin"; got != want {
			t.Errorf("the API server came as %q, want %q", got, want)
		}
	})
	t.Run("kubelet and containerd killed", func(t *testing.T) {
		b := bench{t, b.binary}
		killComponents(t, c, config.Kubelet, config.Containerd)
		if _, err := b.run("status", "--cluster", name); err == nil {
			t.Error("status is content without a kubelet")
		}
		b.must("up", "--cluster", name)
		if got := b.must("--cluster", name, "kubectl", "get", "pod", "server", "-o", "jsonpath={.status.containerStatuses[0].restartCount}"); got != "0" {
			t.Errorf("the container was restarted %s times", got)
		}
	})
	t.Run("network namespace lost", func(t *testing.T) {
		b := bench{t, b.binary}
		if out, err := exec.Command("ip", "netns", "del", c.Namespace()).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		b.must("up", "--cluster", name)
		b.must("--cluster", name, "kubectl", "wait", "--for=condition=Ready", "pod/server", "--timeout=300s")
	})
	t.Run("everything killed, then down", func(t *testing.T) {
		killComponents(t, c, config.Components()...)
		bench{t, b.binary}.down(name)
	})
}

func TestTwoClusters(t *testing.T) {
	b, probe := setUp(t)
	names := []string{"e2e-east", "e2e-west"}
	addresses := map[string]string{}
	for _, name := range names {
		b.up(name)
		b.must("load", "--cluster", name, probe)
		b.apply(name, `
apiVersion: v1
kind: Pod
metadata: {name: server}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: probe, image: `+probeImage+`}]
`)
		b.must("--cluster", name, "kubectl", "wait", "--for=condition=Ready", "pod/server", "--timeout=300s")
		addresses[name] = b.must("--cluster", name, "kubectl", "get", "pod", "server", "-o", "jsonpath={.status.podIP}")
	}
	for i, name := range names {
		other := names[1-i]
		got := b.must("--cluster", name, "kubectl", "exec", "server", "--", "/probe", "get", "http://"+addresses[other]+":8080/")
		if !strings.HasPrefix(got, "hello "+addresses[name]+":") {
			t.Errorf("%s reaches %s as %q, want its own address %s", name, other, got, addresses[name])
		}
	}
	// The one that stays must not notice the other go.
	b.down(names[0])
	b.must("status", "--cluster", names[1])
}

// reach asks url until it answers: kube-proxy needs a moment to learn of a new Service.
func reach(t *testing.T, url string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err == nil {
			response.Body.Close()
			return
		}
		select {
		case <-ctx.Done():
			t.Errorf("%s: %v", url, err)
			return
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func killComponents(t *testing.T, c plan.Cluster, names ...string) {
	t.Helper()
	for _, component := range cluster.Inspect(t.Context(), c).Components {
		for _, name := range names {
			if component.Name == name && component.PID != 0 {
				if err := syscall.Kill(component.PID, syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}
