package netx

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Errno names the operating system's error in err, for example "ECONNRESET",
// or "" if there is none: the errno label of tcp_close_total (proxy chapter,
// section 23.5).
func Errno(err error) string {
	var e syscall.Errno
	if errors.As(err, &e) && e != 0 {
		return unix.ErrnoName(e)
	}
	if t, ok := err.(interface{ Timeout() bool }); ok && t.Timeout() && !errors.Is(err, os.ErrDeadlineExceeded) {
		return "ETIMEDOUT"
	}
	return ""
}

// IsReset reports whether the peer went away without a proper end: reset,
// broken pipe.
func IsReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// IsClosed reports whether err is a plain end: EOF or the connection closed by
// ourselves.
func IsClosed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe)
}
