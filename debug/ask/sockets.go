package ask

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// states of TCP by the kernel's numbers (include/net/tcp_states.h), in the words of RFC 9293.
var states = [...]string{1: "ESTABLISHED", "SYN-SENT", "SYN-RECEIVED", "FIN-WAIT-1", "FIN-WAIT-2", "TIME-WAIT", "CLOSED", "CLOSE-WAIT", "LAST-ACK", "LISTEN", "CLOSING", "SYN-RECEIVED"}

// proxyUID is who runs the proxy (control-plane chapter, value proxy.uid).
const proxyUID = 2102

// A socket is a line of the list.
type socket struct {
	protocol, state string
	local, remote   netip.AddrPort
	receive, send   uint32 // bytes that wait
	uid, inode      uint32
}

// Sockets lists the sockets of the pod from the kernel's tables.
func Sockets(_ context.Context, args []string, stdout, stderr io.Writer) int {
	f := newFlags("sockets", "", "List the TCP and UDP sockets of the pod: bytes that wait to be read and sent, both ends, user, and process where it can be seen.")
	listening := f.BoolP("listening", "l", false, "Only those that listen")
	if code, done := f.read(args, 0, 0, stdout, stderr); done {
		return code
	}
	list, err := sockets()
	if err != nil {
		return f.fail(stderr, 1, err)
	}
	if *listening {
		list = slices.DeleteFunc(list, func(s socket) bool { return s.state != "LISTEN" })
	}
	if err := printSockets(stdout, list, processes("/proc")); err != nil {
		return f.fail(stderr, 1, err)
	}
	return 0
}

func sockets() ([]socket, error) {
	var list []socket
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		tcp, err := netlink.SocketDiagTCP(family)
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) { // the list changed while it was read
			return nil, fmt.Errorf("ask the kernel for TCP sockets: %w", err)
		}
		udp, err := netlink.SocketDiagUDP(family)
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return nil, fmt.Errorf("ask the kernel for UDP sockets: %w", err)
		}
		for protocol, found := range map[string][]*netlink.Socket{"tcp": tcp, "udp": udp} {
			for _, s := range found {
				list = append(list, socket{
					protocol: protocol, state: state(protocol, s.State),
					local:   endpoint(s.ID.Source, s.ID.SourcePort),
					remote:  endpoint(s.ID.Destination, s.ID.DestinationPort),
					receive: s.RQueue, send: s.WQueue, uid: s.UID, inode: s.INode,
				})
			}
		}
	}
	slices.SortFunc(list, func(a, b socket) int {
		return cmp.Or(cmp.Compare(a.protocol, b.protocol), cmp.Compare(b.state, a.state), cmp.Compare(a.local.Port(), b.local.Port()),
			a.local.Compare(b.local), a.remote.Compare(b.remote))
	})
	return list, nil
}

func state(protocol string, n uint8) string {
	if protocol == "udp" {
		if n == 1 {
			return "CONNECTED"
		}
		return "OPEN"
	}
	if int(n) < len(states) && states[n] != "" {
		return states[n]
	}
	return fmt.Sprint(n)
}

func endpoint(ip []byte, port uint16) netip.AddrPort {
	a, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(a.Unmap(), port)
}

func printSockets(stdout io.Writer, list []socket, owners map[uint32]string) error {
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PROTOCOL\tSTATE\tRECV\tSEND\tLOCAL\tREMOTE\tUSER\tPROCESS")
	for _, s := range list {
		remote, user, process := s.remote.String(), fmt.Sprint(s.uid), cmp.Or(owners[s.inode], "-")
		if s.remote.Port() == 0 {
			remote = "-"
		}
		if s.uid == proxyUID {
			user += " (proxy)"
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\t%s\t%s\t%s\n", s.protocol, s.state, s.receive, s.send, s.local, remote, user, process)
	}
	return w.Flush()
}

// processes are the names and numbers of those that hold a socket, by its inode: of this container, or of the pod if its
// containers share their processes (shareProcessNamespace).
func processes(proc string) map[uint32]string {
	found := map[uint32]string{}
	descriptors, _ := filepath.Glob(filepath.Join(proc, "[0-9]*", "fd", "*")) // fails for a wrong pattern alone
	for _, path := range descriptors {
		to, err := os.Readlink(path)
		var inode uint32
		if err != nil {
			continue // closed by now, or of somebody else
		}
		if _, err := fmt.Sscanf(to, "socket:[%d]", &inode); err != nil {
			continue
		}
		dir := filepath.Dir(filepath.Dir(path))
		name, _ := os.ReadFile(filepath.Join(dir, "comm"))
		found[inode] = strings.TrimSpace(string(name)) + "/" + filepath.Base(dir)
	}
	return found
}
