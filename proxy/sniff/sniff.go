// Package sniff reads as much of a connection as it takes to decide what is
// spoken on it, and hands the connection on with every byte still in front
// (proxy chapter, sections 5.2 and 5.3). Package detect makes the decisions.
//
//	conn, proto, err := sniff.HTTP(conn, 10*time.Second)
//
// A function belongs to the goroutine that calls it, which owns the connection
// before, and the returned one after.
package sniff

import (
	"errors"
	"io"
	"net"
	"os"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/detect"
	"github.com/linkerd-go/linkerd-go/proxy/netx"
	"github.com/linkerd-go/linkerd-go/proxy/netx/buf"
)

// Reasons why a connection was not detected.
var (
	// ErrTLSTimeout ends the connection.
	ErrTLSTimeout = errors.New("TLS detection timed out")
	// ErrReadTimeout: the client sent nothing, or too little, in time. What
	// that means depends on what the port is for.
	ErrReadTimeout = errors.New("read timed out")
	// ErrClosed: the client closed before it sent anything.
	ErrClosed = errors.New("socket closed before protocol detection")
)

// first is how much is read at once: what an HTTP/1 server reads a head into, so
// that the buffer can change hands.
const first = 4 << 10

// peeked is how much is looked at without reading it; most ClientHellos fit.
const peeked = 512

// limit sets, and with zero lifts, the deadline for reading.
func limit(c net.Conn, d time.Duration) error {
	if d <= 0 {
		return c.SetReadDeadline(time.Time{})
	}
	return c.SetReadDeadline(time.Now().Add(d))
}

// timedOut tells deadlines from other errors.
func timedOut(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// TLS decides whether the client begins with a TLS ClientHello, and which
// server it names. No decision within the timeout is ErrTLSTimeout. A client
// that closes early does not speak TLS.
func TLS(c net.Conn, timeout time.Duration) (net.Conn, detect.Hello, string, error) {
	if err := limit(c, timeout); err != nil {
		return c, detect.NotTLS, "", err
	}
	out, hello, sni, err := clientHello(c)
	if timedOut(err) {
		err = ErrTLSTimeout
	}
	// If this fails the connection is gone, which whoever reads next finds.
	_ = limit(c, 0)
	return out, hello, sni, err
}

func clientHello(c net.Conn) (net.Conn, detect.Hello, string, error) {
	// Looking without reading costs no buffer, and leaves a socket that the
	// kernel can splice.
	var look [peeked]byte
	n, err := netx.Peek(c, look[:])
	switch {
	case err == nil:
		if h, sni := detect.ClientHello(look[:n]); h != detect.More {
			return c, h, sni, nil
		}
	case errors.Is(err, io.EOF):
		return c, detect.NotTLS, "", nil
	case !errors.Is(err, netx.ErrPeek):
		return c, detect.NotTLS, "", err
	}
	b := buf.Get(detect.MaxHello)
	w := 0
	for {
		n, err := c.Read(b.B[w:detect.MaxHello])
		w += n
		h, sni := detect.ClientHello(b.B[:w])
		switch {
		case h != detect.More:
			return netx.WithBuffer(c, b, 0, w), h, sni, nil
		case w == detect.MaxHello, errors.Is(err, io.EOF):
			return netx.WithBuffer(c, b, 0, w), detect.NotTLS, "", nil
		case err != nil:
			b.Free()
			return c, detect.NotTLS, "", err
		}
	}
}

// HTTP decides which HTTP version the client speaks, if any. If nothing
// decisive arrives within the timeout the error is ErrReadTimeout and the
// connection, with whatever did arrive in front, stays usable. Fewer than 14
// bytes are waited upon only if they begin a request of a well-known method, so
// that clients of other protocols are not held up.
func HTTP(c net.Conn, timeout time.Duration) (net.Conn, detect.Protocol, error) {
	if err := limit(c, timeout); err != nil {
		return c, detect.NotHTTP, err
	}
	out, p, err := request(c)
	_ = limit(c, 0)
	return out, p, err
}

func request(c net.Conn) (net.Conn, detect.Protocol, error) {
	b, w, err := netx.ReadLazy(c, first)
	for {
		switch {
		case w == 0 && errors.Is(err, io.EOF):
			b.Free()
			return c, detect.NotHTTP, ErrClosed
		case w == 0 && timedOut(err):
			b.Free()
			return c, detect.Undecided, ErrReadTimeout
		case w == 0 && err != nil:
			b.Free()
			return c, detect.NotHTTP, err
		}
		p := detect.HTTP(b.B[:w])
		switch {
		case p != detect.Undecided:
			return netx.WithBuffer(c, b, 0, w), p, nil
		case timedOut(err):
			return netx.WithBuffer(c, b, 0, w), detect.Undecided, ErrReadTimeout
		case err != nil:
			// A few bytes and then the end: whatever it is, it can be passed on.
			return netx.WithBuffer(c, b, 0, w), detect.NotHTTP, nil
		}
		var n int
		n, err = c.Read(b.B[w:])
		w += n
	}
}
