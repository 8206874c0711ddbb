//go:build race

package netx

import (
	"syscall"
	"unsafe"
)

// The race detector takes what went through a socket for ordered, if it goes
// through the standard library.

func errno(err error) syscall.Errno {
	e, _ := err.(syscall.Errno)
	return e
}

func sysRead(fd uintptr, p []byte) (int, syscall.Errno) {
	n, err := syscall.Read(int(fd), p)
	return n, errno(err)
}

func sysWrite(fd uintptr, p []byte) (int, syscall.Errno) {
	n, err := syscall.Write(int(fd), p)
	return n, errno(err)
}

func sysWritev(fd uintptr, v []syscall.Iovec) (int, syscall.Errno) {
	n, err := syscall.Write(int(fd), unsafe.Slice(v[0].Base, v[0].Len))
	if err != nil || uint64(n) < v[0].Len || len(v) == 1 {
		return n, errno(err)
	}
	m, err := syscall.Write(int(fd), unsafe.Slice(v[1].Base, v[1].Len))
	if err != nil {
		// Next time.
		return n, 0
	}
	return n + m, 0
}
