package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/linkerd-go/linkerd-go/internal/kube"
)

// apiServer is a cluster of devcluster that has an API server and its store.
type apiServer struct {
	binary, cluster string
	// kubeconfig is known once it is up.
	kubeconfig string
}

func (a *apiServer) run(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, a.binary, append([]string{args[0], "--cluster", a.cluster}, args[1:]...)...).Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("%w\n%s", err, exit.Stderr)
	}
	if err != nil {
		return "", fmt.Errorf("devcluster %s: %w", args[0], err)
	}
	return strings.TrimSpace(string(out)), nil
}

func (a *apiServer) up(ctx context.Context) error {
	if _, err := a.run(ctx, "up", "--only-api"); err != nil {
		return err
	}
	var err error
	a.kubeconfig, err = a.run(ctx, "kubeconfig", "--path")
	return err
}

func (a *apiServer) down(ctx context.Context) error {
	_, err := a.run(ctx, "down")
	return err
}

// pids are the processes of the cluster, by component.
func (a *apiServer) pids(ctx context.Context) (map[string]int, error) {
	text, err := a.run(ctx, "status", "-o", "json")
	if err != nil {
		return nil, err
	}
	var status struct {
		Components []struct {
			Name string
			PID  int
		}
	}
	if err := json.Unmarshal([]byte(text), &status); err != nil {
		return nil, fmt.Errorf("status of the API server: %w", err)
	}
	pids := make(map[string]int)
	for _, c := range status.Components {
		pids[c.Name] = c.PID
	}
	return pids, nil
}

func (a *apiServer) restart(ctx context.Context) error {
	pids, err := a.pids(ctx)
	if err != nil {
		return err
	}
	pid := pids["kube-apiserver"]
	if pid == 0 {
		return errors.New("the API server does not run")
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill the API server: %w", err)
	}
	for !gone(pid) { // its port is free then
		select {
		case <-ctx.Done():
			return fmt.Errorf("the API server does not end: %w", ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
	return a.up(ctx)
}

// gone reports whether a process has ended with all its threads, also if nobody
// has asked how: the first thread may end before those that keep its files open.
func gone(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	_, state, _ := strings.Cut(string(b), ") ")
	return err != nil || strings.HasPrefix(state, "Z") && len(threads) <= 1
}

// connect returns clients that hold nothing back: the usual limit of requests
// per second would be what is measured.
func (a *apiServer) connect() (*kube.Clients, error) {
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Clean(a.kubeconfig))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", a.kubeconfig, err)
	}
	config.QPS = -1
	dyn, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	config.ContentType = "application/vnd.kubernetes.protobuf"
	typed, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	return &kube.Clients{Kube: typed, Dynamic: dyn}, nil
}

// lists is how many complete lists of pods, slices and Services the API server
// has been asked for since its start, by whoever is not itself; those that
// begin a watch count too.
func (l *Lab) lists(ctx context.Context) (int, error) {
	text, err := l.clients.Kube.Discovery().RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return 0, fmt.Errorf("metrics of the API server: %w", err)
	}
	sum := 0
	for line := range strings.Lines(string(text)) {
		streamed := strings.HasPrefix(line, "apiserver_watch_list_duration_seconds_count{")
		plain := strings.HasPrefix(line, "apiserver_request_total{") && strings.Contains(line, `verb="LIST"`) && strings.Contains(line, `component=""`) && strings.Contains(line, `code="200"`)
		if !streamed && !plain {
			continue
		}
		if !strings.Contains(line, `resource="pods"`) && !strings.Contains(line, `resource="endpointslices"`) && !strings.Contains(line, `resource="services"`) {
			continue
		}
		n, err := strconv.Atoi(strings.TrimSpace(line[strings.LastIndexByte(strings.TrimSpace(line), ' ')+1:]))
		if err != nil {
			return 0, fmt.Errorf("metrics of the API server: %w", err)
		}
		sum += n
	}
	return sum, nil
}
