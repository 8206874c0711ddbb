package control

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// Controller is a controller that runs.
type Controller struct {
	Name string
	PID  int
	// Addr is where it serves gRPC.
	Addr string

	admin string
	cmd   *exec.Cmd
	// ended is closed when the process has ended; exit says how.
	ended chan struct{}
	exit  error
}

// StartDestination starts a destination controller, configured as the chart
// does it.
func (l *Lab) StartDestination() (*Controller, error) {
	return l.controller("destination", func(grpc, admin string) []string {
		return []string{
			"-addr=" + grpc, "-metrics-addr=" + admin, "-controller-namespace=" + meshNamespace,
			"-outbound-transport-mode=transport-header", "-enable-h2-upgrade=true", "-log-level=info", "-log-format=plain",
			"-enable-endpoint-slices=true", "-cluster-domain=" + clusterDomain, "-identity-trust-domain=" + clusterDomain,
			"-default-opaque-ports=" + opaquePorts, "-enable-ipv6=false",
			`-meshed-http2-client-params={"keep_alive":{"interval":{"seconds":10},"timeout":{"seconds":3},"while_idle":true}}`,
		}
	})
}

// StartPolicy starts a policy controller, configured as the chart does it, but
// without admission reviews.
func (l *Lab) StartPolicy() (*Controller, error) {
	return l.controller("policy", func(grpc, admin string) []string {
		return []string{
			"--admin-addr=" + admin, "--grpc-addr=" + grpc, "--admission-controller-disabled=true",
			"--control-plane-namespace=" + meshNamespace, "--cluster-networks=10.0.0.0/8", "--identity-domain=" + clusterDomain,
			"--cluster-domain=" + clusterDomain, "--default-policy=all-unauthenticated", "--log-level=linkerd=info,warn",
			"--log-format=plain", "--default-opaque-ports=" + opaquePorts, "--probe-networks=0.0.0.0/0",
		}
	})
}

// controller starts a subcommand on free ports. It may still be starting when
// this returns.
func (l *Lab) controller(name string, flags func(grpc, admin string) []string) (*Controller, error) {
	grpc, err := freePort()
	if err != nil {
		return nil, err
	}
	admin, err := freePort()
	if err != nil {
		return nil, err
	}
	l.restarts++
	log, err := os.Create(filepath.Join(l.options.Dir, fmt.Sprintf("control-%s-%d.log", name, l.restarts)))
	if err != nil {
		return nil, fmt.Errorf("log of %s: %w", name, err)
	}
	defer log.Close()
	args := append([]string{"-c", l.options.Measured, l.options.Controller, name}, flags(grpc, admin)...)
	args = append(args, "-kubeconfig="+l.api.kubeconfig, "-enable-pprof="+strconv.FormatBool(l.options.Profile))
	cmd := exec.Command("taskset", args...)
	// The name is that of the pod, for leases. Those of several may be equal: it
	// would be a restart of the same pod.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOSTNAME=linkerd-destination-bench"}
	cmd.Stdout, cmd.Stderr = log, log
	// The kernel ends it if this process dies without a word.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	c := &Controller{Name: name, Addr: grpc, admin: admin, cmd: cmd, ended: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		// To the kernel, the thread that starts it is the one that may die, and
		// threads that were in another network namespace do.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			c.exit = cmd.Wait()
			close(c.ended)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	// taskset becomes the program, so the number is the program's.
	c.PID = cmd.Process.Pid
	return c, nil
}

// freePort finds an address that nobody listens on. Somebody may take it before
// it is used, which nobody does on a machine that measures.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a port: %w", err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// Stop ends the controller and waits until it has ended.
func (c *Controller) Stop() {
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	timer := time.AfterFunc(5*time.Second, func() { _ = c.cmd.Process.Kill() })
	<-c.ended
	timer.Stop()
}

// WaitReady waits until the controller says that it is ready.
func (c *Controller) WaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		_, err := c.Admin(ctx, "/ready")
		if err == nil {
			return nil
		}
		select {
		case <-c.ended:
			return fmt.Errorf("the %s controller has ended: %w", c.Name, c.exit)
		case <-ctx.Done():
			return fmt.Errorf("the %s controller is not ready: %w", c.Name, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Admin asks the admin port.
func (c *Controller) Admin(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.admin+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", path, resp.Status)
	}
	return b, err
}
