// Package config renders what a cluster is configured with: every component's command line and every
// configuration file and manifest. It is pure: the same cluster on the same machine gives the same bytes.
package config

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/linkerd-go/linkerd-go/devcluster/certs"
	"github.com/linkerd-go/linkerd-go/devcluster/plan"
)

// The names of the components, in the order in which they start.
const (
	Containerd        = "containerd"
	Etcd              = "etcd"
	APIServer         = "kube-apiserver"
	ControllerManager = "kube-controller-manager"
	Scheduler         = "kube-scheduler"
	KubeProxy         = "kube-proxy"
	Kubelet           = "kubelet"
	LoadBalancer      = "load-balancer"
	// Kubectl is no component of a cluster; the binary can act as it too.
	Kubectl = "kubectl"
)

// Components lists what runs in a cluster, in the order in which it starts.
func Components() []string {
	return []string{Containerd, Etcd, APIServer, ControllerManager, Scheduler, KubeProxy, Kubelet, LoadBalancer}
}

const (
	// PauseImage is the image that holds a pod's network namespace open.
	PauseImage = "devcluster.local/pause:1"
	// DNSImage is CoreDNS.
	DNSImage = "devcluster.local/coredns:1"
	// ClusterDomain is the suffix of all names that the cluster's DNS answers for.
	ClusterDomain = "cluster.local"
	// MaxPods is how many pods the node takes.
	MaxPods = 250
)

// Ports that health checks need; the ones of the API server and etcd are below.
const (
	controllerManagerPort = 10257
	schedulerPort         = 10259
	kubeProxyHealthPort   = 10256
	kubeletHealthPort     = 10248
)

const (
	etcdClientURL = "http://127.0.0.1:2379"
	etcdPeerURL   = "http://127.0.0.1:2380"
)

// Host is what rendering has to know about the machine.
type Host struct {
	// Self is the path of this binary, Containerd the one of containerd.
	Self, Containerd string
	// CNIBin is the directory with the CNI plugins.
	CNIBin string
	// Snapshotter is containerd's: overlayfs, or native where overlayfs cannot lie on the file system.
	Snapshotter string
	// Nameservers are the machine's DNS servers that a pod can reach, possibly none.
	Nameservers []netip.Addr
	// MTU is the size of packets that the machine's way to the outside takes.
	MTU int
}

// Process is how to start one component and how to see that it is well.
type Process struct {
	Name string
	Argv []string
	// Health is the URL to ask, from inside the cluster's network namespace. Empty where another check is
	// used (containerd: its socket; the load balancer: being alive).
	Health string
	// OnNodeIP says that the health check is to be made from the host, which also proves that the host
	// reaches the node.
	OnNodeIP bool
}

// Processes says how each component of c is started on host, in the order of Components.
func Processes(c plan.Cluster, host Host) []Process {
	all := processes(c, host)
	if !c.APIOnly {
		return all
	}
	return slices.DeleteFunc(all, func(p Process) bool { return p.Name != Etcd && p.Name != APIServer })
}

func processes(c plan.Cluster, host Host) []Process {
	crt := func(name string) string { return c.State("pki", name+".crt") }
	key := func(name string) string { return c.State("pki", name+".key") }
	node := c.NodeIP().String()
	service := func(name string, flags ...string) []string {
		return append([]string{host.Self, name}, flags...)
	}
	return []Process{
		{
			Name: Containerd,
			Argv: []string{host.Containerd, "--config", c.State("config", "containerd.toml")},
		},
		{
			Name: Etcd,
			Argv: service(Etcd,
				"--data-dir="+c.State("etcd"),
				"--listen-client-url="+etcdClientURL,
				"--listen-peer-url="+etcdPeerURL,
			),
			Health: etcdClientURL + "/health",
		},
		{
			Name: APIServer,
			Argv: service(APIServer,
				"--etcd-servers="+etcdClientURL,
				"--bind-address=0.0.0.0",
				"--secure-port=6443",
				"--advertise-address="+node,
				"--service-cluster-ip-range="+c.Services().String(),
				"--allow-privileged=true",
				"--authorization-mode=Node,RBAC",
				"--enable-admission-plugins=NodeRestriction",
				"--anonymous-auth=true",
				"--client-ca-file="+crt(certs.CA),
				"--tls-cert-file="+crt(certs.APIServer),
				"--tls-private-key-file="+key(certs.APIServer),
				"--kubelet-certificate-authority="+crt(certs.CA),
				"--kubelet-client-certificate="+crt(certs.APIServerKubelet),
				"--kubelet-client-key="+key(certs.APIServerKubelet),
				// The node's name resolves nowhere on the host.
				"--kubelet-preferred-address-types=InternalIP",
				"--service-account-issuer=https://kubernetes.default.svc."+ClusterDomain,
				"--service-account-key-file="+c.State("pki", certs.ServiceAccount+".pub"),
				"--service-account-signing-key-file="+key(certs.ServiceAccount),
				// Aggregated API servers (such as tap) trust these headers because of this certificate.
				"--requestheader-client-ca-file="+crt(certs.FrontProxyCA),
				"--requestheader-allowed-names=front-proxy-client",
				"--requestheader-extra-headers-prefix=X-Remote-Extra-",
				"--requestheader-group-headers=X-Remote-Group",
				"--requestheader-username-headers=X-Remote-User",
				"--proxy-client-cert-file="+crt(certs.FrontProxy),
				"--proxy-client-key-file="+key(certs.FrontProxy),
				"--enable-aggregator-routing=true",
				"--cert-dir="+c.State("pki"),
				"--profiling=false",
				"--event-ttl=1h",
			),
			Health:   c.APIServer() + "/readyz",
			OnNodeIP: true,
		},
		{
			Name: ControllerManager,
			Argv: service(ControllerManager,
				"--kubeconfig="+c.State("config", "controller-manager.kubeconfig"),
				"--bind-address=127.0.0.1",
				"--secure-port="+strconv.Itoa(controllerManagerPort),
				"--tls-cert-file="+crt(certs.Local),
				"--tls-private-key-file="+key(certs.Local),
				// Nobody competes for the lease, and writing it every two seconds costs.
				"--leader-elect=false",
				"--use-service-account-credentials=true",
				"--root-ca-file="+crt(certs.CA),
				"--service-account-private-key-file="+key(certs.ServiceAccount),
				// New nodes lose their "not ready" taint this often.
				"--node-monitor-period=1s",
				"--cluster-signing-cert-file="+crt(certs.CA),
				"--cluster-signing-key-file="+key(certs.CA),
				"--allocate-node-cidrs=true",
				"--cluster-cidr="+c.PodSubnet().String(),
				"--node-cidr-mask-size="+strconv.Itoa(c.PodSubnet().Bits()),
				"--service-cluster-ip-range="+c.Services().String(),
				"--kube-api-qps=100",
				"--kube-api-burst=200",
				"--profiling=false",
			),
			Health: loopback("https", controllerManagerPort, "/healthz"),
		},
		{
			Name: Scheduler,
			Argv: service(Scheduler,
				"--config="+c.State("config", "scheduler.yaml"),
				"--bind-address=127.0.0.1",
				"--secure-port="+strconv.Itoa(schedulerPort),
				"--tls-cert-file="+crt(certs.Local),
				"--tls-private-key-file="+key(certs.Local),
			),
			Health: loopback("https", schedulerPort, "/healthz"),
		},
		{
			Name: KubeProxy,
			Argv: service(KubeProxy, "--config="+c.State("config", "kube-proxy.yaml")),
			// Its /healthz also wants a node, which there is none of yet.
			Health: loopback("http", kubeProxyHealthPort, "/livez"),
		},
		{
			Name: Kubelet,
			Argv: service(Kubelet,
				"--config="+c.State("config", "kubelet.yaml"),
				"--kubeconfig="+c.State("config", "kubelet.kubeconfig"),
				"--root-dir="+c.State("kubelet"),
				"--cert-dir="+c.State("kubelet", "pki"),
				"--hostname-override="+c.NodeName(),
				"--node-ip="+node,
			),
			Health: loopback("http", kubeletHealthPort, "/healthz"),
		},
		{
			Name: LoadBalancer,
			Argv: service(LoadBalancer,
				"--kubeconfig="+c.Kubeconfig(),
				"--range="+c.LoadBalancers().String(),
			),
		},
	}
}

func loopback(scheme string, port int, path string) string {
	return fmt.Sprintf("%s://127.0.0.1:%d%s", scheme, port, path)
}

// File is one file that a component reads.
type File struct {
	Path string
	Data []byte
	// Secret files are readable by root only.
	Secret bool
}

// Files renders every file of c but the kubeconfigs, which need the certificates; see Kubeconfigs.
func Files(c plan.Cluster, host Host) []File {
	return []File{
		{Path: c.State("config", "containerd.toml"), Data: containerdConfig(c, host)},
		{Path: c.State("config", "cni", "10-bridge.conflist"), Data: cniConfig(c, host)},
		{Path: c.State("config", "kubelet.yaml"), Data: kubeletConfig(c, host)},
		{Path: c.State("config", "kube-proxy.yaml"), Data: kubeProxyConfig(c)},
		{Path: c.State("config", "scheduler.yaml"), Data: schedulerConfig(c)},
		{Path: c.State("config", "resolv.conf"), Data: resolvConf(host.Nameservers)},
	}
}

// Directories lists the directories that have to exist before anything starts.
func Directories(c plan.Cluster) []string {
	dirs := []string{
		c.StateDir(), c.RunDir(), c.State("logs"), c.State("config"), c.State("etcd"),
		c.State("kubelet"), c.State("pod-logs"), c.State("images"), c.Run("pids"),
		c.State("cni", "ipam"), c.State("containerd", "root"), c.State("containerd", "opt"),
	}
	return append(dirs, filepath.Dir(c.State("config", "cni", "x")))
}
