package netx

import (
	"encoding/binary"
	"net"

	"golang.org/x/sys/unix"
)

// SocketMemory is how many bytes the kernel holds for a connection: data that
// was received and not read, written and not acknowledged, and what it has
// reserved for more. It is 0 for connections whose socket cannot be found.
func SocketMemory(c net.Conn) int64 {
	s := socketBelow(c)
	if s == nil {
		return 0
	}
	held := int64(0)
	err := control(s, func(fd uintptr) {
		// SO_MEMINFO gives an array of 32-bit numbers, the first eight of
		// which are the size of this structure: a typed getsockopt that
		// needs no unsafe code.
		m, err := unix.GetsockoptIPv6MTUInfo(int(fd), unix.SOL_SOCKET, unix.SO_MEMINFO)
		if err != nil {
			return
		}
		var b [32]byte
		binary.NativeEndian.PutUint16(b[0:], m.Addr.Family)
		binary.NativeEndian.PutUint16(b[2:], m.Addr.Port)
		copy(b[8:], m.Addr.Addr[:])
		binary.NativeEndian.PutUint32(b[28:], m.Mtu)
		for _, i := range []int{skReceived, skReserved, skQueued, skBacklog} {
			held += int64(binary.NativeEndian.Uint32(b[4*i:]))
		}
	})
	if err != nil {
		return 0
	}
	return held
}

// Places in the array that SO_MEMINFO gives (linux/sock_diag.h).
const (
	skReceived = 0 // SK_MEMINFO_RMEM_ALLOC
	skReserved = 4 // SK_MEMINFO_FWD_ALLOC
	skQueued   = 5 // SK_MEMINFO_WMEM_QUEUED
	skBacklog  = 7 // SK_MEMINFO_BACKLOG
)

// Abort closes a connection so that the kernel drops what waits in its socket:
// the peer sees a reset. It may be called while others use the connection.
func Abort(c net.Conn) {
	if s := socketBelow(c); s != nil {
		// If it fails the data goes when the peer takes it.
		_ = s.SetLinger(0)
	}
	_ = c.Close()
}
