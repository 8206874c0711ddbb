package load

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// BulkOptions say what bytes to move: one connection for each element of
// Sending sends or, if false, receives, as fast as it can.
type BulkOptions struct {
	Addr           netip.AddrPort
	Sending        []bool
	Warm, Duration time.Duration
	Mark           func() `json:"-"`
}

// Directions of a bulk connection, the first byte that its client sends.
const (
	Upload   = 'U'
	Download = 'D'
)

// BulkResult is what was moved.
type BulkResult struct {
	Bytes   uint64
	Seconds float64
}

// Bulk moves bytes. Nothing is copied to or from this process: what is sent
// comes from a file in memory, what is received is discarded by the kernel. So
// the machine's time is left to what is measured.
func Bulk(o BulkOptions) (BulkResult, error) {
	var moved atomic.Uint64
	errs := make(chan error, len(o.Sending))
	var stop atomic.Bool
	fds := make([]int, 0, len(o.Sending))
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	for _, sending := range o.Sending {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return BulkResult{}, err
		}
		fds = append(fds, fd)
		if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: o.Addr.Addr().As4(), Port: int(o.Addr.Port())}); err != nil {
			return BulkResult{}, fmt.Errorf("connect to %s: %w", o.Addr, err)
		}
		first, move := byte(Download), Discard
		if sending {
			first, move = Upload, Send
		}
		if _, err := unix.Write(fd, []byte{first}); err != nil {
			return BulkResult{}, err
		}
		go func() {
			err := move(fd, &moved)
			if stop.Load() {
				err = nil
			}
			errs <- err
		}()
	}
	time.Sleep(o.Warm)
	mark := func() {
		if o.Mark != nil {
			o.Mark()
		}
	}
	mark()
	start, before := time.Now(), moved.Load()
	var failed error
	select {
	case failed = <-errs:
		if failed == nil {
			failed = errors.New("a connection ended")
		}
		errs <- nil
	case <-time.After(o.Duration):
	}
	res := BulkResult{Bytes: moved.Load() - before, Seconds: time.Since(start).Seconds()}
	mark()
	stop.Store(true)
	for _, fd := range fds {
		// The threads are blocked on it; this wakes them.
		_ = unix.Shutdown(fd, unix.SHUT_RDWR)
	}
	for range o.Sending {
		<-errs
	}
	return res, failed
}

// Send sends zeros until the connection ends, which is an error.
func Send(fd int, moved *atomic.Uint64) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const size = 1 << 20
	file, err := unix.MemfdCreate("bulk", unix.MFD_CLOEXEC)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(file), "bulk")
	defer f.Close()
	if _, err := f.Write(make([]byte, size)); err != nil {
		return err
	}
	for {
		var at int64
		n, err := unix.Sendfile(fd, file, &at, size)
		if err != nil {
			return fmt.Errorf("sendfile: %w", err)
		}
		moved.Add(uint64(n))
	}
}

// Discard receives until the connection ends.
func Discard(fd int, moved *atomic.Uint64) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// For TCP, MSG_TRUNC means that nothing is copied; the buffer only says
	// how much.
	buf := make([]byte, 1<<20)
	for {
		n, _, err := unix.Recvfrom(fd, buf, unix.MSG_TRUNC)
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		if n == 0 {
			return nil
		}
		moved.Add(uint64(n))
	}
}
