// Package plan decides everything about a development cluster that can be decided without touching the
// machine: which names are allowed, which address ranges a cluster gets, and where its files live.
//
// A Cluster is a plain value; its methods are pure and may be called from any goroutine.
package plan

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"strconv"
)

const (
	// DefaultName is the cluster that commands use when the user names none.
	DefaultName = "linkerd"
	// DefaultStateBase is where clusters keep their state when the user chooses no directory.
	DefaultStateBase = "/var/lib/linkerd-devcluster"
	// DefaultRunBase holds what must not survive a reboot: sockets, process records, the address registry.
	// It is the same for every state directory, because names and addresses are unique on the machine.
	DefaultRunBase = "/run/linkerd-devcluster"
	// CgroupBase is the cgroup under which every cluster has one of its own.
	CgroupBase = "/linkerd-devcluster"
	// MaxClusters is how many clusters can exist on one machine at the same time.
	MaxClusters = 48
	// maxStatePath keeps the unix sockets that the kubelet makes below its root under the kernel's limit
	// of 107 bytes; the longest suffix it adds is a little over 40 bytes.
	maxStatePath = 64
)

// The three blocks of 10.0.0.0/8 that clusters are cut from; see Cluster.Pods, Services and Uplink.
const (
	podBlock     = 200 // 10.(200+index).0.0/16
	serviceBlock = 150 // 10.(150+index).0.0/16
	uplinkBlock  = 149 // 10.149.index.0/30
)

// Cluster is one development cluster: its name, its number and where its files go.
type Cluster struct {
	// Name is what the user calls it. It appears in the names of the network namespace, the node and the
	// kubeconfig context.
	Name string `json:"name"`
	// Index numbers the clusters of one machine; all addresses follow from it.
	Index int `json:"index"`
	// StateBase is the directory under which the cluster's own state directory lies.
	StateBase string `json:"stateBase"`
	// RunBase is like StateBase for what does not survive a reboot. Tests change it; users never do.
	RunBase string `json:"runBase"`
	// APIOnly says that the cluster is an API server with its store and nothing that runs pods.
	APIOnly bool `json:"apiOnly,omitempty"`
}

var namePattern = regexp.MustCompile(`^[a-z]([-a-z0-9]{0,18}[a-z0-9])?$`)

// CheckName says why name cannot be a cluster's name, or returns nil. Names become parts of DNS names, of
// file names and of the network namespace's name.
func CheckName(name string) error {
	if !namePattern.MatchString(name) {
		return fmt.Errorf("cluster name %q: use 1 to 20 lower-case letters, digits and '-', starting with a letter", name)
	}
	return nil
}

// CheckStateBase says why dir cannot hold clusters' state, or returns nil.
func CheckStateBase(dir, name string) error {
	if !filepath.IsAbs(dir) {
		return fmt.Errorf("state directory %q: must be an absolute path", dir)
	}
	if full := filepath.Join(dir, name); len(full) > maxStatePath {
		return fmt.Errorf("state directory %q: %d bytes are too long for the unix sockets below it, at most %d", full, len(full), maxStatePath)
	}
	return nil
}

// Pods is the range of all addresses routed to the cluster: pods, the node and load balancers.
func (c Cluster) Pods() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(podBlock + c.Index), 0, 0}), 16)
}

// PodSubnet is the part of Pods that the node's bridge serves.
func (c Cluster) PodSubnet() netip.Prefix {
	return netip.PrefixFrom(c.Pods().Addr(), 20)
}

// PodRangeStart is the first address that a pod may get; the ones below belong to the node.
func (c Cluster) PodRangeStart() netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(podBlock + c.Index), 0, 16})
}

// NodeIP is the bridge's address: the node's internal address and where the API server is reached.
func (c Cluster) NodeIP() netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(podBlock + c.Index), 0, 1})
}

// LoadBalancers is the part of Pods that Services of type LoadBalancer get their address from.
func (c Cluster) LoadBalancers() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(podBlock + c.Index), 255, 0}), 24)
}

// Services is the cluster's Service range.
func (c Cluster) Services() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(serviceBlock + c.Index), 0, 0}), 16)
}

// APIServiceIP is the address of the Service "kubernetes".
func (c Cluster) APIServiceIP() netip.Addr { return c.Services().Addr().Next() }

// DNSIP is the address of the Service "kube-dns".
func (c Cluster) DNSIP() netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(serviceBlock + c.Index), 0, 10})
}

// UplinkHost is the host's end of the link between host and cluster.
func (c Cluster) UplinkHost() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, uplinkBlock, byte(c.Index), 1}), 30)
}

// UplinkCluster is the cluster's end of the link between host and cluster.
func (c Cluster) UplinkCluster() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, uplinkBlock, byte(c.Index), 2}), 30)
}

// Ranges lists every range that the cluster occupies, for finding overlaps.
func (c Cluster) Ranges() []netip.Prefix {
	return []netip.Prefix{c.Pods(), c.Services(), c.UplinkHost().Masked()}
}

// APIServer is the URL of the API server, reachable from the host and from every pod.
func (c Cluster) APIServer() string { return "https://" + c.NodeIP().String() + ":6443" }

// NodeName is the name of the only node.
func (c Cluster) NodeName() string { return c.Name + "-node" }

// Namespace is the name of the network namespace, as "ip netns" shows it.
func (c Cluster) Namespace() string { return "ldc-" + c.Name }

// HostLink is the name of the host's end of the uplink.
func (c Cluster) HostLink() string { return HostLinkPrefix + strconv.Itoa(c.Index) }

// HostLinkPrefix begins the names of all clusters' links on the host.
const HostLinkPrefix = "ldc-up"

// HostTable is the nftables table (family ip) on the host that belongs to the cluster.
func (c Cluster) HostTable() string { return "ldc-" + c.Name }

// CNINetwork is the name of the CNI network; the CNI library keeps files by it outside our directories.
func (c Cluster) CNINetwork() string { return "ldc-" + c.Name }

// Cgroup is the cluster's cgroup, below which all of its processes live.
func (c Cluster) Cgroup() string { return CgroupBase + "/" + c.Name }

// SystemCgroup holds the cluster's own components.
func (c Cluster) SystemCgroup() string { return c.Cgroup() + "/system" }

// PodsCgroup is the kubelet's cgroup root.
func (c Cluster) PodsCgroup() string { return c.Cgroup() + "/pods" }

// StateDir is the directory of everything that survives a reboot.
func (c Cluster) StateDir() string { return filepath.Join(c.StateBase, c.Name) }

// RemovedStateDir is where the state directory goes in one step when the cluster is removed, so that a
// removal that is cut short never leaves half a cluster's state where a new cluster would pick it up.
func (c Cluster) RemovedStateDir() string { return c.StateDir() + ".removed" }

// State joins elem to the state directory.
func (c Cluster) State(elem ...string) string {
	return filepath.Join(append([]string{c.StateDir()}, elem...)...)
}

// RunDir is the directory of everything that does not survive a reboot.
func (c Cluster) RunDir() string { return filepath.Join(c.RunBase, c.Name) }

// Run joins elem to the run directory.
func (c Cluster) Run(elem ...string) string {
	return filepath.Join(append([]string{c.RunDir()}, elem...)...)
}

// Kubeconfig is the path of the administrator's kubeconfig.
func (c Cluster) Kubeconfig() string { return c.State("kubeconfig") }

// ContainerdSocket is the address of the cluster's containerd.
func (c Cluster) ContainerdSocket() string { return c.Run("containerd.sock") }

// Log is the path of a component's log.
func (c Cluster) Log(component string) string { return c.State("logs", component+".log") }

// Allocate picks the lowest index that no other cluster has and whose ranges overlap none of busy (the
// addresses and routes that the machine already has). The default route is no obstacle.
func Allocate(taken map[int]string, busy []netip.Prefix) (int, error) {
next:
	for i := range MaxClusters {
		if _, ok := taken[i]; ok {
			continue
		}
		for _, mine := range (Cluster{Index: i}).Ranges() {
			for _, other := range busy {
				if other.Bits() > 0 && mine.Overlaps(other) {
					continue next
				}
			}
		}
		return i, nil
	}
	return 0, fmt.Errorf("no address range is free: %d clusters exist and the machine's own routes block the rest of %d", len(taken), MaxClusters)
}
