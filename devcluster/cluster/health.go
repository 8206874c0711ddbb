package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"syscall"
	"time"

	"github.com/linkerd-go/linkerd-go/devcluster/config"
	"github.com/linkerd-go/linkerd-go/devcluster/host"
	"github.com/linkerd-go/linkerd-go/devcluster/kubeapi"
	"github.com/linkerd-go/linkerd-go/devcluster/netns"
	"github.com/linkerd-go/linkerd-go/devcluster/plan"
	"github.com/linkerd-go/linkerd-go/devcluster/process"
)

// checkTimeout bounds one health check.
const checkTimeout = 10 * time.Second

// check says what is wrong with a component that runs, or returns nil.
func check(ctx context.Context, c plan.Cluster, p config.Process) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	switch {
	case p.Name == config.Containerd:
		_, err := host.Ctr(ctx, c.ContainerdSocket(), "version")
		return err
	case p.OnNodeIP:
		api, err := kubeapi.New(c)
		if err != nil {
			return err
		}
		defer api.Close()
		return api.Get(ctx, "/readyz", nil)
	case p.Health != "":
		return get(ctx, c, p.Health)
	default:
		return nil
	}
}

// get asks a health endpoint inside the cluster's network namespace. Who answers is not verified: nothing
// is sent, and nobody else listens on the namespace's loopback.
func get(ctx context.Context, c plan.Cluster, url string) error {
	transport := &http.Transport{
		DialContext:     netns.DialContext(netns.Path(c)),
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("health check: %w", err)
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return fmt.Errorf("health check: %w", err)
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(response.Body, 512))
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("health check %s: %s: %s", url, response.Status, body)
	}
	return nil
}

// resolveTimeout bounds one question to CoreDNS.
const resolveTimeout = 2 * time.Second

// resolve asks CoreDNS, as a process on the node would, for the API server's name. An answer proves that
// CoreDNS, kube-proxy and the pod network work together.
func resolve(ctx context.Context, c plan.Cluster) error {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	dial := netns.DialContext(netns.Path(c))
	resolver := net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dial(ctx, network, net.JoinHostPort(c.DNSIP().String(), "53"))
		},
	}
	addresses, err := resolver.LookupHost(ctx, "kubernetes.default.svc."+config.ClusterDomain+".")
	if err != nil {
		// The resolver names the server of the machine's resolv.conf, which was not asked.
		if dns, ok := errors.AsType[*net.DNSError](err); ok {
			return fmt.Errorf("CoreDNS (%s) does not answer: %s", c.DNSIP(), dns.Err)
		}
		return fmt.Errorf("CoreDNS (%s) does not answer: %w", c.DNSIP(), err)
	}
	if !slices.Contains(addresses, c.APIServiceIP().String()) {
		return fmt.Errorf("CoreDNS answers %v for the API server, not %s", addresses, c.APIServiceIP())
	}
	return nil
}

// kill ends one process and waits until it is gone or a zombie.
func kill(pid int) error {
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("end process %d: %w", pid, err)
	}
	for range 250 {
		if process.Gone(pid) {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("process %d does not end", pid)
}

// Component is the state of one component.
type Component struct {
	Name string `json:"name"`
	// PID is 0 if it does not run.
	PID int `json:"pid"`
	// Since is when it started, Resident its memory in bytes.
	Since    time.Time `json:"since,omitzero"`
	Resident int64     `json:"residentBytes"`
	// Problem is empty if it is well.
	Problem string `json:"problem,omitempty"`
}

// Status is the state of a cluster.
type Status struct {
	Cluster    string      `json:"cluster"`
	NodeIP     string      `json:"nodeIP"`
	APIServer  string      `json:"apiServer"`
	Pods       string      `json:"podCIDR"`
	Services   string      `json:"serviceCIDR"`
	Balancers  string      `json:"loadBalancerCIDR"`
	Namespace  string      `json:"networkNamespace"`
	Kubeconfig string      `json:"kubeconfig"`
	StateDir   string      `json:"stateDir"`
	Components []Component `json:"components"`
	// Problems are those that are not one component's.
	Problems []string `json:"problems,omitempty"`
}

// Healthy reports whether pods can run, or whether the API server answers where it is all there shall be.
func (s Status) Healthy() bool {
	for _, component := range s.Components {
		if component.Problem != "" {
			return false
		}
	}
	return len(s.Problems) == 0
}

// Inspect looks at a cluster without changing anything.
func Inspect(ctx context.Context, c plan.Cluster) Status {
	status := Status{
		Cluster: c.Name, NodeIP: c.NodeIP().String(), APIServer: c.APIServer(),
		Pods: c.PodSubnet().String(), Services: c.Services().String(), Balancers: c.LoadBalancers().String(),
		Namespace: c.Namespace(), Kubeconfig: c.Kubeconfig(), StateDir: c.StateDir(),
	}
	problem := func(format string, args ...any) {
		status.Problems = append(status.Problems, fmt.Sprintf(format, args...))
	}
	if !netns.Exists(c) {
		problem("the network namespace %s does not exist", c.Namespace())
	}
	apiWell := false
	for _, p := range config.Processes(c, config.Host{}) {
		component := inspectComponent(ctx, c, p)
		status.Components = append(status.Components, component)
		apiWell = apiWell || (p.Name == config.APIServer && component.Problem == "")
	}
	if !apiWell || c.APIOnly {
		return status
	}
	api, err := kubeapi.New(c)
	if err != nil {
		problem("%v", err)
		return status
	}
	defer api.Close()
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	if ready, why, err := api.NodeReady(ctx, c.NodeName(), time.Time{}); err != nil {
		problem("%v", err)
	} else if !ready {
		problem("node %s is not ready: %s", c.NodeName(), why)
	}
	if err := resolve(ctx, c); err != nil {
		problem("%v", err)
	}
	return status
}

func inspectComponent(ctx context.Context, c plan.Cluster, p config.Process) Component {
	component := Component{Name: p.Name}
	record, ok, err := process.Load(recordPath(c, p.Name))
	switch {
	case err != nil:
		component.Problem = err.Error()
	case !ok:
		component.Problem = "was never started"
	case !record.Alive():
		component.Problem = "has ended; see " + c.Log(p.Name)
	default:
		component.PID, component.Since, component.Resident = record.PID, record.Started, record.Resident()
		if err := check(ctx, c, p); err != nil {
			component.Problem = err.Error()
		}
	}
	return component
}
