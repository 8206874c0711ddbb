// Package capture takes the packets of a network namespace from the kernel.
//
//	s, err := capture.Open("", 65536) // all interfaces
//	defer s.Close()
//	for { f, err := s.Next(ctx, deadline); ... }
//
// A [Source] belongs to the network namespace of the thread that opened it, and works from any; Next and Lost are called by
// one goroutine at a time. Opening needs the capability NET_RAW, which container runtimes give to root unless told otherwise.
package capture

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/linkerd-go/linkerd-go/debug/filter"
)

// FileCapability is the extended attribute security.capability of the program's file: NET_RAW (bit 13) permitted, so that it
// can capture in pods whose user is not root. It is not marked effective, which would keep the program from starting at all
// where a pod drops the capability; the layout is the kernel's struct vfs_cap_data, revision 2.
const FileCapability = "\x00\x00\x00\x02" + "\x00\x20\x00\x00\x00\x00\x00\x00" + "\x00\x00\x00\x00\x00\x00\x00\x00"

// ErrNotAllowed means that the process has no capability NET_RAW.
var ErrNotAllowed = errors.New("capturing needs the capability NET_RAW, which this container does not have")

// A Frame is one packet without its link header. It is valid until the next one is taken.
type Frame struct {
	Time      time.Time
	Link      string // the interface's name, or its number if it is gone
	LinkIndex int
	Direction filter.Direction
	EtherType uint16
	Data      []byte
	Wire      int // bytes that were on the wire
	// Hardware, Kind, AddrLen and Addr are the kernel's struct sockaddr_ll.
	Hardware      uint16
	Kind, AddrLen uint8
	Addr          [8]byte
}

// A Source is an open capture.
type Source struct {
	file  *os.File
	conn  syscall.RawConn
	links map[int]string
	frame Frame
	buf   []byte
	oob   []byte
}

// Open begins to capture on an interface, or on all if link is empty, with at most snap bytes of each packet. It is called on
// a thread of the network namespace in question.
func Open(link string, snap int) (*Source, error) {
	// Capabilities are a thread's: nobody else must run on this one while it has one more.
	runtime.LockOSThread()
	restore := raise()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	restore()
	runtime.UnlockOSThread()
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return nil, ErrNotAllowed
	}
	if err != nil {
		return nil, fmt.Errorf("open a packet socket: %w", err)
	}
	if err := prepare(fd, link); err != nil {
		unix.Close(fd)
		return nil, err
	}
	s := &Source{
		file: os.NewFile(uintptr(fd), "packet socket"), links: map[int]string{},
		buf: make([]byte, snap), oob: make([]byte, unix.CmsgSpace(16)),
	}
	if s.conn, err = s.file.SyscallConn(); err != nil {
		s.file.Close()
		return nil, fmt.Errorf("use the packet socket: %w", err)
	}
	return s, nil
}

// raise makes the capability effective if the thread may do that, and returns what takes it back.
func raise() (restore func()) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	const bit = 1 << unix.CAP_NET_RAW
	if unix.Capget(&header, &data[0]) != nil || data[0].Permitted&bit == 0 || data[0].Effective&bit != 0 {
		return func() {}
	}
	data[0].Effective |= bit
	if unix.Capset(&header, &data[0]) != nil {
		return func() {}
	}
	return func() {
		data[0].Effective &^= bit
		_ = unix.Capset(&header, &data[0])
	}
}

func prepare(fd int, link string) error {
	index := 0
	if link != "" {
		request, err := unix.NewIfreq(link)
		if err == nil {
			err = unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, request)
		}
		if err != nil {
			return fmt.Errorf("find interface %q: %w", link, err)
		}
		index = int(request.Uint32())
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
		return fmt.Errorf("ask for time stamps: %w", err)
	}
	// As much as may be had; what does not fit is told as lost.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 8<<20)
	// Only now do packets come, so none is of another interface.
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: swap(unix.ETH_P_ALL), Ifindex: index}); err != nil {
		return fmt.Errorf("bind the packet socket: %w", err)
	}
	return nil
}

// swap is a number of 16 bits in network order.
func swap(n uint16) uint16 {
	return binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, n))
}

// Next returns the next packet. It fails with os.ErrDeadlineExceeded at the deadline, which is never if zero, and with the
// context's error when that ends.
func (s *Source) Next(ctx context.Context, deadline time.Time) (*Frame, error) {
	if err := s.file.SetReadDeadline(deadline); err != nil {
		return nil, fmt.Errorf("set a deadline: %w", err)
	}
	// After the deadline was set, so that the end of the context cannot be undone by it.
	stop := context.AfterFunc(ctx, func() { _ = s.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		var n, oobn int
		var from unix.Sockaddr
		var failed error
		err := s.conn.Read(func(fd uintptr) bool {
			n, oobn, _, from, failed = unix.Recvmsg(int(fd), s.buf, s.oob, unix.MSG_TRUNC)
			return failed != unix.EAGAIN && failed != unix.EINTR
		})
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		if errors.Is(failed, unix.ENETDOWN) {
			continue // an interface went down; the others go on
		}
		if failed != nil {
			return nil, fmt.Errorf("read packets: %w", failed)
		}
		if link, ok := from.(*unix.SockaddrLinklayer); ok && s.read(link, n, s.oob[:oobn]) {
			return &s.frame, nil
		}
	}
}

// read fills the frame, and says whether it is one to show.
func (s *Source) read(from *unix.SockaddrLinklayer, n int, oob []byte) bool {
	loopback := from.Hatype == unix.ARPHRD_LOOPBACK
	if loopback && from.Pkttype == unix.PACKET_OUTGOING {
		return false // it comes a second time, as one that arrives
	}
	s.frame = Frame{
		Time: stamp(oob), Link: s.name(from.Ifindex), LinkIndex: from.Ifindex, Direction: filter.In,
		EtherType: swap(from.Protocol), Data: s.buf[:min(n, len(s.buf))], Wire: n,
		Hardware: from.Hatype, Kind: from.Pkttype, AddrLen: from.Halen, Addr: from.Addr,
	}
	switch {
	case loopback:
		s.frame.Direction = filter.Local
	case from.Pkttype == unix.PACKET_OUTGOING:
		s.frame.Direction = filter.Out
	}
	return true
}

// stamp is the kernel's time of a packet, or now.
func stamp(oob []byte) time.Time {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err == nil {
		for _, m := range messages {
			if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SO_TIMESTAMPNS && len(m.Data) >= 16 {
				return time.Unix(int64(binary.NativeEndian.Uint64(m.Data)), int64(binary.NativeEndian.Uint64(m.Data[8:])))
			}
		}
	}
	return time.Now()
}

// name asks the socket and not the caller's thread, which may be in another namespace.
func (s *Source) name(index int) string {
	if name, ok := s.links[index]; ok {
		return name
	}
	name := fmt.Sprint(index)
	if request, err := unix.NewIfreq(""); err == nil {
		request.SetUint32(uint32(index))
		_ = s.conn.Control(func(fd uintptr) {
			if unix.IoctlIfreq(int(fd), unix.SIOCGIFNAME, request) == nil {
				name = request.Name()
			}
		})
	}
	s.links[index] = name
	return name
}

// Lost returns how many packets the kernel dropped since it was last asked, because they were not read quickly enough.
func (s *Source) Lost() (int, error) {
	var lost int
	var failed error
	err := s.conn.Control(func(fd uintptr) {
		var stats *unix.TpacketStats
		if stats, failed = unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS); failed == nil {
			lost = int(stats.Drops)
		}
	})
	if err = errors.Join(err, failed); err != nil {
		return 0, fmt.Errorf("ask for the number of lost packets: %w", err)
	}
	return lost, nil
}

// Close ends the capture.
func (s *Source) Close() error { return s.file.Close() }
