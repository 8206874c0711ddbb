// Package netns makes and removes the network that a cluster lives in: a network namespace with the node's
// bridge, a link to the host, the routes between the two, and the translation of what leaves the machine.
//
// Everything it makes has a name that follows from the cluster, so that Down removes it without any record.
// Functions that change the machine are for one process per cluster at a time.
package netns

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink"
	vnetns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/linkerd-go/linkerd-go/devcluster/plan"
)

// namedDir is where iproute2 looks for named namespaces.
const namedDir = "/run/netns"

const (
	bridgeName = "cni0"
	uplinkName = "uplink0"
)

// Path is the file that stands for the cluster's network namespace.
func Path(c plan.Cluster) string { return filepath.Join(namedDir, c.Namespace()) }

// Enter moves the calling thread into the namespace at path. The caller has locked its goroutine to the
// thread and ends without unlocking it, so that the thread dies instead of serving others in the wrong place.
func Enter(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open network namespace: %w", err)
	}
	defer file.Close()
	if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", path, err)
	}
	return nil
}

// Do runs f inside the namespace at path and waits for it. f must not start goroutines that use the network.
func Do(path string, f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := Enter(path); err != nil {
			result <- err
			return
		}
		result <- f()
	}()
	return <-result
}

// DialContext dials from inside the namespace at path. The address has to be a literal IP, because a name
// would be looked up by another thread.
func DialContext(path string) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		err = Do(path, func() error {
			var dialer net.Dialer
			conn, err = dialer.DialContext(ctx, network, address)
			return err
		})
		return conn, err
	}
}

// Exists reports whether the cluster's namespace exists.
func Exists(c plan.Cluster) bool {
	var stat unix.Statfs_t
	return unix.Statfs(Path(c), &stat) == nil && stat.Type == unix.NSFS_MAGIC
}

// Up makes whatever is missing of the cluster's network.
func Up(c plan.Cluster, mtu int) error {
	if !Exists(c) {
		if err := makeNamespace(Path(c)); err != nil {
			return err
		}
	}
	if err := uplink(c, mtu); err != nil {
		return fmt.Errorf("link between host and cluster: %w", err)
	}
	if err := inside(c, mtu); err != nil {
		return fmt.Errorf("inside %s: %w", c.Namespace(), err)
	}
	if err := hostSide(c); err != nil {
		return fmt.Errorf("on the host: %w", err)
	}
	return nil
}

// makeNamespace does what "ip netns add" does: it mounts a new namespace at path. The directory is made a
// shared mount, as iproute2 does, so that its later use of the directory finds nothing to change.
func makeNamespace(path string) error {
	if err := os.MkdirAll(namedDir, 0o755); err != nil {
		return fmt.Errorf("make %s: %w", namedDir, err)
	}
	if err := shareDirectory(); err != nil {
		return fmt.Errorf("share %s: %w", namedDir, err)
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o444)
	if err != nil {
		return fmt.Errorf("make network namespace: %w", err)
	}
	file.Close()
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			result <- fmt.Errorf("make network namespace: %w", err)
			return
		}
		self := fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid())
		if err := unix.Mount(self, path, "", unix.MS_BIND, ""); err != nil {
			result <- fmt.Errorf("mount network namespace: %w", err)
			return
		}
		result <- nil
	}()
	return <-result
}

// shareDirectory makes the directory a shared mount of its own, unless it is one already. Left to "ip netns add",
// this would happen later and cover the mounts made until then, which nobody could remove any more.
func shareDirectory() error {
	err := unix.Mount("", namedDir, "", unix.MS_SHARED|unix.MS_REC, "")
	if !errors.Is(err, unix.EINVAL) {
		return err
	}
	if err := unix.Mount(namedDir, namedDir, "none", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	return unix.Mount("", namedDir, "", unix.MS_SHARED|unix.MS_REC, "")
}

// handle opens netlink inside the cluster's namespace.
func handle(c plan.Cluster) (*netlink.Handle, error) {
	ns, err := vnetns.GetFromPath(Path(c))
	if err != nil {
		return nil, fmt.Errorf("open network namespace: %w", err)
	}
	defer ns.Close()
	return netlink.NewHandleAt(ns)
}

// uplink makes the pair of links. One end is born in the cluster's namespace, so that a crash leaves either
// both ends in place or none. An end whose other end is not where it belongs is left from a namespace that
// is gone, and goes too.
func uplink(c plan.Cluster, mtu int) error {
	h, err := handle(c)
	if err != nil {
		return err
	}
	defer h.Close()
	inside, insideErr := h.LinkByName(uplinkName)
	outside, outsideErr := netlink.LinkByName(c.HostLink())
	if insideErr == nil && outsideErr == nil && inside.Attrs().ParentIndex == outside.Attrs().Index {
		return nil
	}
	if insideErr == nil {
		if err := removeLink(h.LinkDel, inside); err != nil {
			return err
		}
	}
	if outsideErr == nil {
		if err := removeLink(netlink.LinkDel, outside); err != nil {
			return err
		}
	}
	ns, err := vnetns.GetFromPath(Path(c))
	if err != nil {
		return err
	}
	defer ns.Close()
	attributes := netlink.NewLinkAttrs()
	attributes.Name = c.HostLink()
	attributes.MTU = mtu
	return netlink.LinkAdd(&netlink.Veth{
		LinkAttrs:     attributes,
		PeerName:      uplinkName,
		PeerMTU:       uint32(mtu),
		PeerNamespace: netlink.NsFd(int(ns)),
	})
}

// removeLink removes a link that may be about to go by itself.
func removeLink(remove func(netlink.Link) error, link netlink.Link) error {
	if err := remove(link); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove %s: %w", link.Attrs().Name, err)
	}
	return nil
}

// inside sets up the namespace: loopback, the bridge with the node's address, the way out.
func inside(c plan.Cluster, mtu int) error {
	h, err := handle(c)
	if err != nil {
		return err
	}
	defer h.Close()
	lo, err := h.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	if err := h.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}

	bridge, err := h.LinkByName(bridgeName)
	if err != nil {
		attributes := netlink.NewLinkAttrs()
		attributes.Name = bridgeName
		attributes.MTU = mtu
		// A fixed address, or the bridge would take over that of a port and change it with the ports.
		attributes.HardwareAddr = hardwareAddr(c.NodeIP())
		if err := h.LinkAdd(&netlink.Bridge{LinkAttrs: attributes}); err != nil {
			return fmt.Errorf("make bridge: %w", err)
		}
		if bridge, err = h.LinkByName(bridgeName); err != nil {
			return fmt.Errorf("find bridge: %w", err)
		}
	}
	if err := setAddress(h, bridge, netip.PrefixFrom(c.NodeIP(), c.PodSubnet().Bits())); err != nil {
		return err
	}
	up, err := h.LinkByName(uplinkName)
	if err != nil {
		return fmt.Errorf("find %s: %w", uplinkName, err)
	}
	if err := setAddress(h, up, c.UplinkCluster()); err != nil {
		return err
	}
	if err := h.RouteReplace(&netlink.Route{LinkIndex: up.Attrs().Index, Gw: c.UplinkHost().Addr().AsSlice()}); err != nil {
		return fmt.Errorf("set default route: %w", err)
	}
	return Do(Path(c), func() error {
		for _, setting := range []struct{ name, value string }{
			{"ipv4/ip_forward", "1"},
			{"ipv4/conf/all/rp_filter", "0"},
			{"ipv4/conf/default/rp_filter", "0"},
			// A pod's answer to another pod on the same bridge has to pass the translation that its request
			// passed, although the bridge alone could deliver it.
			{"bridge/bridge-nf-call-iptables", "1"},
		} {
			if err := writeSysctl(setting.name, setting.value); err != nil {
				return err
			}
		}
		return nil
	})
}

func setAddress(h *netlink.Handle, link netlink.Link, address netip.Prefix) error {
	name := link.Attrs().Name
	err := h.AddrReplace(link, &netlink.Addr{IPNet: &net.IPNet{
		IP: address.Addr().AsSlice(), Mask: net.CIDRMask(address.Bits(), 32),
	}})
	if err != nil {
		return fmt.Errorf("set address of %s: %w", name, err)
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", name, err)
	}
	return nil
}

// hardwareAddr is a locally administered address that differs between clusters.
func hardwareAddr(ip netip.Addr) net.HardwareAddr {
	b := ip.As4()
	return net.HardwareAddr{0x0a, 0x58, b[0], b[1], b[2], b[3]}
}

// hostSide routes the cluster's addresses into it and lets its packets through. Forwarding is switched on
// for the cluster's own link only; see Egress for the way to the outside.
func hostSide(c plan.Cluster) error {
	link, err := netlink.LinkByName(c.HostLink())
	if err != nil {
		return fmt.Errorf("find %s: %w", c.HostLink(), err)
	}
	h := &netlink.Handle{}
	if err := setAddress(h, link, c.UplinkHost()); err != nil {
		return err
	}
	pods := c.Pods()
	if err := netlink.RouteReplace(&netlink.Route{
		LinkIndex: link.Attrs().Index,
		Dst:       &net.IPNet{IP: pods.Addr().AsSlice(), Mask: net.CIDRMask(pods.Bits(), 32)},
		Gw:        c.UplinkCluster().Addr().AsSlice(),
	}); err != nil {
		return fmt.Errorf("route %s: %w", pods, err)
	}
	return writeSysctl("ipv4/conf/"+c.HostLink()+"/forwarding", "1")
}

// writeSysctl sets a value of the calling thread's network namespace.
func writeSysctl(name, value string) error {
	path := "/proc/sys/net/" + name
	if old, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(old)) == value {
		return nil
	}
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		return fmt.Errorf("set net/%s: %w", name, err)
	}
	return nil
}

// Down removes the namespace and with it every link, route, address and table inside, and the host's end of
// the link with the host's routes. The processes in the namespace have to be gone.
func Down(c plan.Cluster) error {
	var errs []error
	if link, err := netlink.LinkByName(c.HostLink()); err == nil {
		if err := removeLink(netlink.LinkDel, link); err != nil {
			errs = append(errs, err)
		}
	}
	// Several mounts can lie on one file if two processes made it; the last error says that it is bare.
	for unix.Unmount(Path(c), unix.MNT_DETACH) == nil {
	}
	if err := os.Remove(Path(c)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, fmt.Errorf("remove network namespace: %w", err))
	}
	return errors.Join(errs...)
}

// Leftovers names what is there of the cluster's network.
func Leftovers(c plan.Cluster) []string {
	var found []string
	if _, err := os.Lstat(Path(c)); err == nil {
		found = append(found, "network namespace "+Path(c))
	}
	if _, err := netlink.LinkByName(c.HostLink()); err == nil {
		found = append(found, "link "+c.HostLink())
	}
	return found
}

// Busy lists the machine's addresses and routes, for finding free ranges. Those of other clusters' links are
// left out: their indexes are taken in the registry, and a leftover link is not to block its own cluster.
func Busy() ([]netip.Prefix, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	ours := map[int]bool{}
	for _, link := range links {
		ours[link.Attrs().Index] = strings.HasPrefix(link.Attrs().Name, plan.HostLinkPrefix)
	}
	var busy []netip.Prefix
	add := func(index int, network *net.IPNet) {
		if network == nil || ours[index] {
			return
		}
		if address, ok := netip.AddrFromSlice(network.IP); ok {
			bits, _ := network.Mask.Size()
			busy = append(busy, netip.PrefixFrom(address.Unmap(), bits).Masked())
		}
	}
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	for _, route := range routes {
		add(route.LinkIndex, route.Dst)
	}
	addresses, err := netlink.AddrList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	for _, address := range addresses {
		add(address.LinkIndex, address.IPNet)
	}
	return busy, nil
}

// DefaultLink is the link of the machine's default route and its MTU; empty if there is no such route.
func DefaultLink() (name string, mtu int, err error) {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return "", 0, fmt.Errorf("list routes: %w", err)
	}
	for _, route := range routes {
		if route.Dst != nil && !route.Dst.IP.IsUnspecified() {
			continue
		}
		link, err := netlink.LinkByIndex(route.LinkIndex)
		if err != nil {
			return "", 0, fmt.Errorf("find link of the default route: %w", err)
		}
		return link.Attrs().Name, link.Attrs().MTU, nil
	}
	return "", 0, nil
}
