package sniff

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/netx"
	"github.com/linkerd-go/linkerd-go/proxy/netx/buf"
)

// Speaker is who sends the first bytes on a connection.
type Speaker uint8

// The speakers. Nobody spoke in time.
const (
	Client Speaker = iota
	Server
	Nobody
)

// Patience is how long a client may be silent before the server is connected to,
// to see whether it is the one to speak. It is much longer than an honest client
// of a client-first protocol takes from connecting to its first bytes, and much
// shorter than anybody would call a delay.
const Patience = 100 * time.Millisecond

// First finds out who speaks first, so that protocols in which servers do need
// not be announced. While the client is silent for longer than Patience, dial
// connects to the server. If the server speaks, its connection is returned with
// the bytes in front; a server that stays silent is closed again. The returned
// client connection has every byte in front too.
func First(c net.Conn, timeout time.Duration, dial func() (net.Conn, error)) (client, server net.Conn, who Speaker, err error) {
	patience := Patience
	if timeout > 0 {
		patience = min(patience, timeout)
	}
	client, err = firstBytes(c, patience)
	if !timedOut(err) || timeout > 0 && timeout <= patience {
		who, err = spoken(err)
		return client, nil, who, err
	}
	server, derr := dial()
	if derr != nil {
		// Whoever is not there does not speak first; the client's bytes will
		// tell what to do about it.
		client, err = firstBytes(client, timeout-patience)
		who, err = spoken(err)
		return client, nil, who, err
	}
	return both(client, server, timeout-patience)
}

// spoken says who spoke after a wait for the client alone.
func spoken(err error) (Speaker, error) {
	switch {
	case err == nil:
		return Client, nil
	case timedOut(err):
		return Nobody, nil
	case errors.Is(err, io.EOF):
		return Client, nil
	}
	return Client, err
}

// both waits for the first bytes of either side.
func both(c, s net.Conn, timeout time.Duration) (client, server net.Conn, who Speaker, err error) {
	// The deadline comes before the goroutine that may cut it short.
	if err := limit(c, timeout); err != nil {
		s.Close()
		return c, nil, Client, err
	}
	var heard struct {
		b *buf.Buffer
		n int
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		heard.b, heard.n, _ = netx.ReadLazy(s, first)
		if heard.n > 0 {
			// The client is not waited for any longer.
			_ = c.SetReadDeadline(past)
		}
	})
	client, err = await(c)
	_ = s.SetReadDeadline(past)
	reading.Wait()
	_ = c.SetReadDeadline(time.Time{})
	if heard.n > 0 {
		// Also if the client has spoken meanwhile: a server of a client-first
		// protocol would not have.
		_ = s.SetReadDeadline(time.Time{})
		return client, netx.WithBuffer(s, heard.b, 0, heard.n), Server, nil
	}
	heard.b.Free()
	s.Close()
	who, err = spoken(err)
	return client, nil, who, err
}

// past is a deadline that ends what waits.
var past = time.Unix(1, 0)

// firstBytes waits for the client's first bytes.
func firstBytes(c net.Conn, timeout time.Duration) (net.Conn, error) {
	if err := limit(c, timeout); err != nil {
		return c, err
	}
	out, err := await(c)
	_ = limit(c, 0)
	return out, err
}

// await waits until something can be read, and reads it only if it must.
func await(c net.Conn) (net.Conn, error) {
	var look [1]byte
	_, err := netx.Peek(c, look[:])
	if !errors.Is(err, netx.ErrPeek) {
		return c, err
	}
	b, n, err := netx.ReadLazy(c, first)
	if n == 0 {
		b.Free()
		return c, err
	}
	return netx.WithBuffer(c, b, 0, n), nil
}
