// Package netlab builds small networks out of real kernel network namespaces,
// for tests of what only the kernel can show: redirection, original
// destinations, the path of a connection through two proxies.
//
// [New] makes two namespaces joined by a virtual cable:
//
//	Pod  10.77.0.2/24 fd77::2/64  eth0 ──── eth0  10.77.0.1/24 fd77::1/64  Peer
//	     default routes ──────────────────────►◄─────────────── default routes
//
// A test listens, dials, runs functions and starts programs inside either of
// them, as any user:
//
//	lab := netlab.New(t)
//	l := lab.Peer.Listen(t, "tcp", ":80")
//	conn, err := lab.Pod.As(1000, 1000).Dial(ctx, "tcp", "10.77.0.1:80")
//
// The namespaces have no names in the file system: they are held by descriptors
// of the test process alone, and the kernel takes them, their links and their
// rules apart when the test ends, even if it is killed. To look inside while a
// test is paused, use nsenter --net= with the path that [Namespace.Path] gives.
//
// Making namespaces needs root. Without it tests are skipped; with it, a kernel
// that cannot make them is a failure, so that a skip never hides a broken
// machine.
//
// A Lab and its namespaces may be used from any goroutine.
package netlab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Addresses of the two ends.
var (
	PodIPv4  = netip.MustParseAddr("10.77.0.2")
	PodIPv6  = netip.MustParseAddr("fd77::2")
	PeerIPv4 = netip.MustParseAddr("10.77.0.1")
	PeerIPv6 = netip.MustParseAddr("fd77::1")
)

// A Lab is a pair of joined namespaces.
type Lab struct {
	// Pod is where the redirection rules go.
	Pod *Namespace
	// Peer is the rest of the world as the pod sees it.
	Peer *Namespace
}

// New makes a lab that lives until the test ends.
func New(t testing.TB) *Lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("netlab: making network namespaces needs root")
	}
	lab := &Lab{
		Pod:  newNamespace(t, "pod", PodIPv4, PodIPv6),
		Peer: newNamespace(t, "peer", PeerIPv4, PeerIPv6),
	}
	if err := lab.join(); err != nil {
		t.Fatalf("netlab: %v", err)
	}
	return lab
}

// join lays the cable and gives both ends addresses and default routes.
func (l *Lab) join() error {
	pod, err := netlink.NewHandleAt(netns.NsHandle(l.Pod.fd), unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink in the pod's namespace: %w", err)
	}
	defer pod.Close()
	peer, err := netlink.NewHandleAt(netns.NsHandle(l.Peer.fd), unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink in the peer's namespace: %w", err)
	}
	defer peer.Close()

	veth := netlink.NewVeth(netlink.NewLinkAttrs())
	veth.Name = "eth0"
	veth.PeerName = "eth0"
	veth.PeerNamespace = netlink.NsFd(l.Peer.fd)
	if err := pod.LinkAdd(veth); err != nil {
		return fmt.Errorf("create a veth pair: %w", err)
	}
	// Both ends must be up before routes through them can be added.
	for _, h := range []*netlink.Handle{pod, peer} {
		for _, name := range []string{"lo", "eth0"} {
			link, err := h.LinkByName(name)
			if err != nil {
				return fmt.Errorf("find link %s: %w", name, err)
			}
			if err := h.LinkSetUp(link); err != nil {
				return fmt.Errorf("set link %s up: %w", name, err)
			}
		}
	}
	ends := []struct {
		h            *netlink.Handle
		own, gateway [2]netip.Addr
	}{
		{pod, [2]netip.Addr{PodIPv4, PodIPv6}, [2]netip.Addr{PeerIPv4, PeerIPv6}},
		{peer, [2]netip.Addr{PeerIPv4, PeerIPv6}, [2]netip.Addr{PodIPv4, PodIPv6}},
	}
	for _, end := range ends {
		for i, bits := range []int{24, 64} {
			if err := addAddr(end.h, "eth0", netip.PrefixFrom(end.own[i], bits)); err != nil {
				return err
			}
		}
		for _, gateway := range end.gateway {
			if err := end.h.RouteAdd(&netlink.Route{Gw: gateway.AsSlice()}); err != nil {
				return fmt.Errorf("add default route via %s: %w", gateway, err)
			}
		}
	}
	return nil
}

func addAddr(h *netlink.Handle, link string, p netip.Prefix) error {
	l, err := h.LinkByName(link)
	if err != nil {
		return fmt.Errorf("find link %s: %w", link, err)
	}
	addr := &netlink.Addr{
		IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())},
	}
	if p.Addr().Is6() {
		// Without this the address could not be used for about a second,
		// while the kernel asks the link whether somebody else has it.
		addr.Flags = unix.IFA_F_NODAD
	}
	if err := h.AddrAdd(l, addr); err != nil {
		return fmt.Errorf("add address %s to %s: %w", p, link, err)
	}
	return nil
}

// A Namespace is one network namespace.
type Namespace struct {
	// Name says which one it is, in error messages.
	Name string
	// IPv4 and IPv6 are the addresses of its eth0.
	IPv4, IPv6 netip.Addr

	fd int
}

func newNamespace(t testing.TB, name string, v4, v6 netip.Addr) *Namespace {
	t.Helper()
	n := &Namespace{Name: name, IPv4: v4, IPv6: v6, fd: -1}
	err := onOwnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open the namespace: %w", err)
		}
		n.fd = fd
		return nil
	})
	if err != nil {
		t.Fatalf("netlab: make network namespace %s: %v", name, err)
	}
	t.Cleanup(func() { unix.Close(n.fd) })
	return n
}

// onOwnThread runs fn on a thread that is thrown away afterwards, so that
// nothing fn changes about its thread can reach other goroutines.
func onOwnThread(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		// Never unlocked: the runtime ends a thread whose goroutine returns
		// while locked to it.
		runtime.LockOSThread()
		returned := false
		defer func() {
			if !returned {
				done <- errors.New("netlab: the function ended its goroutine (t.Fatal is not allowed inside a namespace)")
			}
		}()
		err := fn()
		returned = true
		done <- err
	}()
	return <-done
}

// Path is a path of the namespace, valid while the test runs, as programs such
// as nsenter and flags such as --netns take it.
func (n *Namespace) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.fd) }

// AddAddr gives the namespace one more address on link ("lo", "eth0").
func (n *Namespace) AddAddr(t testing.TB, link string, p netip.Prefix) {
	t.Helper()
	h, err := netlink.NewHandleAt(netns.NsHandle(n.fd), unix.NETLINK_ROUTE)
	if err == nil {
		defer h.Close()
		err = addAddr(h, link, p)
	}
	if err != nil {
		t.Fatalf("netlab: %s: %v", n.Name, err)
	}
}

// Root is the namespace as user and group 0.
func (n *Namespace) Root() User { return User{ns: n} }

// As is the namespace as the given user and group. Sockets that it opens belong
// to them, which is what owner rules of the firewall look at.
func (n *Namespace) As(uid, gid int) User { return User{ns: n, uid: uid, gid: gid} }

// Do runs fn inside the namespace as root. See [User.Do].
func (n *Namespace) Do(fn func() error) error { return n.Root().Do(fn) }

// Listen is [User.Listen] as root.
func (n *Namespace) Listen(t testing.TB, network, address string) net.Listener {
	t.Helper()
	return n.Root().Listen(t, network, address)
}

// A User acts inside a namespace under a user and group id.
type User struct {
	ns       *Namespace
	uid, gid int
}

// Do runs fn on a thread of its own that is inside the namespace and has the
// user's ids. What fn opens stays there when fn is done; goroutines that fn
// starts, however, run outside. fn must not call t.Fatal and its like.
func (u User) Do(fn func() error) error {
	return onOwnThread(func() error {
		if err := unix.Setns(u.ns.fd, unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("netlab: enter namespace %s: %w", u.ns.Name, err)
		}
		if err := u.become(); err != nil {
			return err
		}
		return fn()
	})
}

// become gives the ids to the calling thread alone; the functions of package
// syscall would give them to all threads of the process.
func (u User) become() error {
	if u.gid != 0 {
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, uintptr(u.gid), uintptr(u.gid), uintptr(u.gid)); errno != 0 {
			return fmt.Errorf("netlab: become group %d: %w", u.gid, errno)
		}
	}
	if u.uid != 0 {
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(u.uid), uintptr(u.uid), uintptr(u.uid)); errno != 0 {
			return fmt.Errorf("netlab: become user %d: %w", u.uid, errno)
		}
	}
	return nil
}

// ListenContext opens a listener inside the namespace, to be closed by the
// caller. Its signature is that of a listen function, so that it can be given to
// servers and proxies.
func (u User) ListenContext(ctx context.Context, network, address string) (net.Listener, error) {
	var l net.Listener
	err := u.Do(func() (err error) {
		l, err = (&net.ListenConfig{}).Listen(ctx, network, address)
		return err
	})
	return l, err
}

// Listen opens a listener inside the namespace and closes it when the test
// ends.
func (u User) Listen(t testing.TB, network, address string) net.Listener {
	t.Helper()
	l, err := u.ListenContext(context.Background(), network, address)
	if err != nil {
		t.Fatalf("netlab: listen on %s in %s: %v", address, u.ns.Name, err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// ListenPacket is Listen for datagrams.
func (u User) ListenPacket(t testing.TB, network, address string) net.PacketConn {
	t.Helper()
	var c net.PacketConn
	err := u.Do(func() (err error) {
		c, err = (&net.ListenConfig{}).ListenPacket(context.Background(), network, address)
		return err
	})
	if err != nil {
		t.Fatalf("netlab: listen on %s in %s: %v", address, u.ns.Name, err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// Dial connects from inside the namespace. The address must be a literal IP
// address and port, since name resolution would happen outside. Its signature
// is that of a dial function, so that it can be given to clients and proxies.
func (u User) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return u.DialFrom(ctx, network, netip.Addr{}, address)
}

// DialFrom is Dial from a given local address; the zero address lets the kernel
// choose.
func (u User) DialFrom(ctx context.Context, network string, local netip.Addr, address string) (net.Conn, error) {
	if _, err := netip.ParseAddrPort(address); err != nil {
		return nil, fmt.Errorf("netlab: dial: %w", err)
	}
	var d net.Dialer
	if local.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(local, 0))
	}
	var c net.Conn
	err := u.Do(func() (err error) {
		c, err = d.DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// Start starts a program inside the namespace. The program is killed when the
// test process dies; waiting for it is up to the caller, by the returned
// function, which may be called once.
func (u User) Start(cmd *exec.Cmd) (wait func() error, err error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	if u.uid != 0 || u.gid != 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(u.uid), Gid: uint32(u.gid)}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	started := make(chan error, 1)
	ended := make(chan error, 1)
	go func() {
		// The kernel sends the death signal when the thread dies that started
		// the program, so the thread is kept until the program has ended.
		tried := false
		err := (User{ns: u.ns}).Do(func() error {
			tried = true
			err := cmd.Start()
			started <- err
			if err != nil {
				return err
			}
			return cmd.Wait()
		})
		if !tried {
			started <- err
		}
		ended <- err
	}()
	if err := <-started; err != nil {
		<-ended
		return nil, err
	}
	return func() error { return <-ended }, nil
}

// Run starts a program inside the namespace and waits for it.
func (u User) Run(cmd *exec.Cmd) error {
	wait, err := u.Start(cmd)
	if err != nil {
		return err
	}
	return wait()
}
